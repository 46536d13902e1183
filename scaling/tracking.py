"""What a person sees of a run while it goes: the terminal, and Weights & Biases as a mirror of the records.

Neither is a source of anything: losing them loses nothing. rich is imported when first used, and wandb never: the
mirror is a process of its own, `analysis.mirror`.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from scaling.closing import unless_lost
from scaling.config import Config, TrackingConfig
from scaling.files import Row
from scaling.quantities import duration, flops
from scaling.resolve import agent_id

LOG_SECONDS = 10.0
"""Least time between two lines of progress in a log."""
DRAW_SECONDS = 0.2
"""Least time between two drawings of the progress bar."""
WAIT_SHARE, WAIT_SECONDS = 0.02, 20.0
"""How long the end of a run may wait for its mirror: a share of the run's time, and at most so long."""


# The terminal ----------------------------------------------------------------------------------------------


def phase_flops(row: Row) -> int:
    """FLOPs on the axis of the row's phase: RL counts from its own first FLOP."""
    return row["rl_flops"] if row["phase"] == "rl" else row["train_flops"]


def describe(row: Row, total: float, threshold: float | None, accuracy: float | None, left: float | None) -> str:
    """One line on a training step, `left` being seconds of its phase; what is not known is left out."""
    done = phase_flops(row)
    of = f"{flops(done)} of {flops(total)} FLOPs ({done / total:.0%})"
    parts = [f"{row['phase'].replace('_', ' ')} {of}", f"step {row['step']}"]
    if threshold is not None:
        parts.append(f"next checkpoint at {flops(threshold)}")
    for metric in ("reward", "loss"):
        if row["metrics"].get(metric) is not None:
            parts.append(f"{metric} {row['metrics'][metric]:.3f}")
            break
    if accuracy is not None:
        parts.append(f"held-out {accuracy:.1%}")
    if left is not None:
        parts.append(f"{duration(left)} left")
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
            self._task = self._bar.add_task("", total=None, visible=False)
            with unless_lost(self._stream):
                self._bar.start()
        self.message(self._title)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with unless_lost(self._stream):
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
        with unless_lost(self._stream):
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
            with unless_lost(self._stream):
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


def check_environment(tracking: TrackingConfig) -> None:
    """Raise ConfigError where a mirror would get an id from the environment that is no plain one."""
    if _environment(tracking)["WANDB_MODE"] != "disabled":
        agent_id("WANDB_RUN_ID")


@contextlib.contextmanager
def mirrored(run_dir: Path, tracking: TrackingConfig, say: Callable[[str], None]) -> Iterator[None]:
    """With a process that mirrors the records of a run to W&B, until the end of this one at the latest.

    It reads what is written and gets a share of the processors that nobody else wants, so nothing here waits for
    it but the end, and that for no more than a fiftieth of the time before. A mirror that is not through by then
    ends by itself. WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_RUN_GROUP and WANDB_TAGS count as W&B documents
    them, and so does WANDB_RUN_ID, which an agent of a W&B sweep sets, for a new run. `say` gets the one line of a
    mirror that failed, from a thread of its own.
    """
    environment = _environment(tracking)
    process = None if environment["WANDB_MODE"] == "disabled" else _mirror(run_dir, environment, say)
    began = time.monotonic()
    try:
        yield
    finally:
        if process is not None:
            _leave(process, min(WAIT_SHARE * (time.monotonic() - began), WAIT_SECONDS), say)


def _mirror(run_dir: Path, environment: dict[str, str], say: Callable[[str], None]) -> subprocess.Popen | None:
    """Its process, which goes on until its standard input ends; None where it does not start."""
    command = [sys.executable, "-P", "-m", "analysis.mirror", str(run_dir)]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=nothing, text=True)
    except OSError as error:
        say(f"W&B mirror: does not start ({error}); the records go on")
        return None
    threading.Thread(target=_pass_on, args=(process.stdout, say), daemon=True).start()
    return process


def _leave(process: subprocess.Popen, seconds: float, say: Callable[[str], None]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        say(f"W&B mirror: goes on without the run and ends by itself (process {process.pid})")
    else:
        if code:
            say(f"W&B mirror: ended before its time (exit code {code})")


def _environment(tracking: TrackingConfig) -> dict[str, str]:
    """Of the mirror: what the environment leaves open, the config says."""
    ours = {
        "WANDB_MODE": tracking.wandb,
        "WANDB_PROJECT": tracking.project,
        "WANDB_RUN_GROUP": tracking.group,
    }
    found = dict(os.environ) | {name: os.environ.get(name) or value for name, value in ours.items()}
    if found["WANDB_MODE"] == "offline":  # then nothing leaves the machine
        found.setdefault("WANDB_ERROR_REPORTING", "false")
    here = str(Path(__file__).parent.parent)
    return found | {"PYTHONPATH": os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])}


def _pass_on(lines: TextIO, say: Callable[[str], None]) -> None:
    for line in lines:
        say(line.rstrip("\n"))
