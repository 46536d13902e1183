"""What a person sees of a run while it goes: the terminal, and Weights & Biases as a mirror of the records.

Neither is a source of anything: losing them loses nothing. wandb and rich are imported when first used.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from scaling.config import Config
from scaling.records import Row, Run, replace, tail

LOG_SECONDS = 10.0
"""Least time between two lines of progress in a log."""
DRAW_SECONDS = 0.2
"""Least time between two drawings of the progress bar."""


def human_flops(flops: float) -> str:
    """FLOPs as a config writes them, to two digits: "3.2e11 FLOPs"."""
    if flops <= 0:
        return "0 FLOPs"
    mantissa, exponent = f"{flops:.1e}".split("e")
    return f"{mantissa}e{int(exponent)} FLOPs"


def human_seconds(seconds: float) -> str:
    """A duration to two units: "45 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


# The terminal ----------------------------------------------------------------------------------------------


def phase_flops(row: Row) -> int:
    """FLOPs on the axis of the row's phase: RL counts from its own first FLOP."""
    return row["rl_flops"] if row["phase"] == "rl" else row["train_flops"]


def describe(row: Row, total: float, threshold: float | None, accuracy: float | None, left: float | None) -> str:
    """One line on a training step, `left` being seconds of its phase; what is not known is left out."""
    done = phase_flops(row)
    phase, bare = row["phase"].replace("_", " "), human_flops(done).removesuffix(" FLOPs")
    parts = [f"{phase} {bare} of {human_flops(total)} ({done / total:.0%})", f"step {row['step']}"]
    if threshold is not None:
        parts.append(f"next checkpoint at {human_flops(threshold).removesuffix(' FLOPs')}")
    for metric in ("reward", "loss"):
        if row["metrics"].get(metric) is not None:
            parts.append(f"{metric} {row['metrics'][metric]:.3f}")
            break
    if accuracy is not None:
        parts.append(f"held-out {accuracy:.1%}")
    if left is not None:
        parts.append(f"{human_seconds(left)} left")
    return ", ".join(parts)


class Terminal:
    """Progress of training and evaluation: a bar on a terminal, seldom lines in a log, nothing when quiet.

    A context manager; it writes to standard error, so that a command's output stays its own.
    """

    def __init__(
        self,
        run_dir: str | Path,
        config: Config,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title = f"{run_dir}: {config.task.name}, seed {config.seed}"
        self._quiet, self._stream, self._clock = quiet, stream or sys.stderr, clock
        self._shown = -math.inf
        self._began: tuple[str, float, int] | None = None
        self._accuracy: float | None = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Terminal:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn
            from rich.table import Column

            self._bar = Progress(
                BarColumn(bar_width=16),
                TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=False)),
                expand=True,
                console=Console(file=self._stream),
                auto_refresh=False,
                redirect_stdout=sys.stdout.isatty(),  # else what goes into a file would land beside the bar
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None, visible=False)
        self.message(self._title)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def train_row(self, row: Row, *, phase_total_flops: float, next_threshold: float | None) -> None:
        """Show a training step; `phase_total_flops` and `next_threshold` are on the axis of its phase."""
        left = self._seconds_left(row, phase_total_flops)
        done = phase_flops(row)
        self._progress(
            done,
            phase_total_flops,
            lambda: describe(row, phase_total_flops, next_threshold, self._accuracy, left),
        )

    def evaluation(self, name: str, done: int, total: int, accuracy: float | None) -> None:
        """Show how far the evaluation of a checkpoint is, at its end always; accuracy is a share, 0 to 1."""
        text = f"evaluate {name}: {done} of {total}"
        if accuracy is not None:
            text += f", held-out {accuracy:.1%}"
        if done >= total:
            self._accuracy = accuracy
            self.message(text)
        else:
            self._progress(done, total, lambda: text)

    def message(self, text: str) -> None:
        """A line that is always shown, unless quiet."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def _progress(self, done: float, total: float, text: Callable[[], str]) -> None:
        now = self._clock()
        if self._quiet or now - self._shown < (LOG_SECONDS if self._bar is None else DRAW_SECONDS):
            return
        self._shown = now
        if self._bar is None:
            self.message(text())
        else:
            self._bar.update(self._task, completed=done, total=total, description=text(), visible=True)
            self._bar.refresh()

    def _seconds_left(self, row: Row, total: float) -> float | None:
        """From the mean speed since the phase's first row here, which leaves out its compilation."""
        now, done = self._clock(), phase_flops(row)
        if self._began is None or self._began[0] != row["phase"]:
            self._began = (row["phase"], now, done)
            return None
        _, since, first = self._began
        if done <= first or now <= since:
            return None
        return max(0.0, total - done) * (now - since) / (done - first)


# Weights & Biases ------------------------------------------------------------------------------------------


def train_point(row: Row) -> dict[str, float]:
    """What W&B gets of a training row: the axes, and its metrics under the phase's name."""
    metrics = {f"{row['phase']}/{name}": value for name, value in row["metrics"].items() if value is not None}
    return {**_axes(row), **metrics, f"{row['phase']}/budget": row["budget"]}


def evaluation_point(manifest: Row, rows: Sequence[Row]) -> dict[str, float]:
    """What W&B gets of a finished evaluation: the axes, and the mean accuracy at each thinking budget."""
    budgets = sorted({row["budget"] for row in rows})
    accuracies = {b: [row["correct"] / row["samples"] for row in rows if row["budget"] == b] for b in budgets}
    means = {f"evaluation/accuracy_at_{b}": sum(each) / len(each) for b, each in accuracies.items()}
    return {**_axes(manifest), **means}


def _axes(row: Row) -> dict[str, float]:
    """Linear and logarithmic: W&B has no log axis. Floats, as its integers end at 64 bits."""
    axes: dict[str, float] = {"step": row["step"]}
    for name in ("train_flops", "rl_flops"):
        axes[name] = float(row[name])
        if row[name] > 0:
            axes[f"log10_{name}"] = math.log10(row[name])
    return axes


class Mirror:
    """Copies the records of a run to Weights & Biases; a failure ends the mirror in one line, never the run.

    Offline, wandb starts a resumed run again at step 0. So the run's id, the number of points sent, the last
    training step and the evaluations sent are kept in wandb.json of the run directory; the records say what
    is new. WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY and WANDB_RUN_GROUP count as W&B documents them, and so does
    WANDB_RUN_ID, which an agent of a W&B sweep sets, for a new run. One process at a time.
    """

    def __init__(
        self,
        run_dir: str | Path,
        config: Mapping[str, Any],
        warn: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ):
        self._run, self._config, self._warn = Run(Path(run_dir)), config, warn
        self._offset = 0
        self._wandb: Any = None
        if self._mode() != "disabled":
            self._guard(self._start)

    def sync(self) -> None:
        """Send the training rows and the finished evaluations that have not been sent."""
        if self._wandb is not None:
            self._guard(self._sync)

    def finish(self) -> None:
        """Send the rest and end the W&B run of this process."""
        self.sync()
        if self._wandb is not None:
            self._guard(self._wandb.finish)
            self._wandb = None

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            failed, self._wandb = self._wandb, None
            with contextlib.suppress(Exception):
                failed.finish(exit_code=1)
            reason = str(error).partition("\n")[0]
            self._warn(f"W&B mirror off from here on ({type(error).__name__}: {reason}); the records go on")

    def _mode(self) -> str:
        return os.environ.get("WANDB_MODE") or self._config["tracking"]["wandb"]

    @property
    def _file(self) -> Path:
        return self._run.path / "wandb.json"

    def _start(self) -> None:
        if self._mode() == "offline":  # then nothing leaves the machine
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        if self._file.exists():
            self._sent = json.loads(self._file.read_bytes())
        else:
            self._sent = {
                "id": os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4),
                "points": 0,
                "step": 0,
                "evaluations": [],
            }
            self._keep()
        settings = wandb.Settings(
            mode=self._mode(),  # pyright: ignore[reportArgumentType]: wandb names the known modes itself
            reinit="create_new",
            silent=True,
            console="off",
            init_timeout=30,
            login_timeout=30,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        started = wandb.init(
            id=self._sent["id"],
            name=self._run.path.resolve().name,
            project=os.environ.get("WANDB_PROJECT") or self._config["tracking"]["project"],
            group=os.environ.get("WANDB_RUN_GROUP") or self._config["tracking"].get("group") or None,
            dir=self._run.path,
            resume="allow",
            config=dict(self._config),
            settings=settings,
        )
        for axis in ("step", "train_flops", "rl_flops", "log10_train_flops", "log10_rl_flops"):
            started.define_metric(axis, hidden=True)
        for metrics, axis in (("warm_start", "train"), ("rl", "rl"), ("evaluation", "train")):
            started.define_metric(f"{metrics}/*", step_metric=f"log10_{axis}_flops")
        self._wandb = started

    def _sync(self) -> None:
        rows, self._offset = tail(self._run.train_file, self._offset)
        before = self._sent["points"]
        for row in rows:
            if row["step"] > self._sent["step"]:
                self._log(train_point(row))
                self._sent["step"] = row["step"]
        grid = self._config["evaluation"]
        manifests = set(self._run.manifest_names())
        for name in self._run.evaluation_names():
            if name in self._sent["evaluations"] or name not in manifests:
                continue
            if not self._run.evaluation_missing(name, grid["problems"], grid["budgets"]):
                self._log(evaluation_point(self._run.read_manifest(name), self._run.evaluation_rows(name)))
                self._sent["evaluations"].append(name)
        if self._sent["points"] > before:
            self._keep()

    def _log(self, point: dict[str, float]) -> None:
        self._wandb.log(point, step=self._sent["points"])
        self._sent["points"] += 1

    def _keep(self) -> None:
        replace(self._file, json.dumps(self._sent, indent=1).encode() + b"\n")
