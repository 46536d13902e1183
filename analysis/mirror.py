"""The records of a run, mirrored to Weights & Biases by a process of its own, which no run waits for.

`python -m analysis.mirror RUN` sends what is new until its standard input ends, which it does when the run's
process ends, however that ends; then it sends the rest, with the report where there is one. Until then it takes a
fiftieth of the processors' time at most, so a figure may come a little later on a small machine. Modes, project,
entity, group and tags are those of W&B's environment variables.

What has been sent is read back from W&B's own logs in the run's directory. So a kill at any moment doubles no
point and, offline, loses none: what the log does not hold is sent the next time, under the same run id and with
the step that follows (wandb itself starts a resumed offline run again at step 0). Online, W&B drops a point whose
step it has already, so a kill of this process may cost points there, and doubles none. wandb's service writes the
log and may outlive this process for a moment; so both hold one lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from analysis.configs import config
from analysis.drawing import save
from analysis.load import estimates, outcomes
from analysis.progress_plot import progress
from analysis.wandb_source import inspect
from scaling.files import RecordError, Row, tail
from scaling.records import Run

PERIOD_S = 5.0
"""Between two looks at the records, at least."""
SHARE = 0.02
"""Of the time of all processors: the most that a mirror takes while its run goes on."""
LAST_S = 600
"""What a mirror has left once its run has ended; then it is ended too, whatever wandb waits for."""
GRID = ("budget", "samples", "estimator", "test_flops", "accuracy", "lo95", "hi95", "n")
CHECKPOINT, REPORT = "evaluation/checkpoint", "report/digest"
"""What a point of an evaluation, or of a report, is known by; one of training is known by its step."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""What stops a run; its mirror sees the end by itself."""


# Points ----------------------------------------------------------------------------------------------------


def train_point(row: Row) -> dict[str, Any]:
    """What W&B gets of a training row: the axes, and its metrics under the phase's name."""
    metrics = {f"{row['phase']}/{name}": value for name, value in row["metrics"].items() if value is not None}
    return {**axes(row), **metrics, f"{row['phase']}/budget": row["budget"]}


def evaluation_point(manifest: Row, points: pl.DataFrame) -> dict[str, Any]:
    """What W&B gets of an evaluation (its rows of `estimates`): the axes, and the accuracy at each budget."""
    means = points.filter(pl.col("estimator") == "mean").sort("budget")
    accuracies = zip(means["budget"], means["accuracy"], strict=True)
    scalars = {f"evaluation/accuracy_at_{budget}": accuracy for budget, accuracy in accuracies}
    return {**axes(manifest), CHECKPOINT: manifest["name"], **scalars}


def axes(row: Row) -> dict[str, float]:
    """Linear and logarithmic: W&B has no log axis. Floats, as its integers end at 64 bits."""
    found: dict[str, float] = {"step": row["step"]}
    for name in ("train_flops", "rl_flops"):
        found[name] = float(row[name])
        if row[name] > 0:
            found[f"log10_{name}"] = math.log10(row[name])
    return found


# What has been sent ----------------------------------------------------------------------------------------


@dataclass
class Sent:
    """What the logs of a run hold."""

    id: str
    points: int = 0
    """The W&B step of the next point."""
    steps: set[int] = field(default_factory=set)
    evaluations: set[str] = field(default_factory=set)
    reports: set[str] = field(default_factory=set)
    manifests: set[str] = field(default_factory=set)

    def add(self, point: Mapping[str, Any]) -> None:
        """Count a point of the log, or one that is sent now."""
        self.points = max(self.points, int(point.get("_step", self.points)) + 1)
        if CHECKPOINT in point:
            self.evaluations.add(point[CHECKPOINT])
        elif REPORT in point:
            self.reports.add(point[REPORT])
        else:
            self.steps.add(int(point["step"]))


def sent(folder: Path) -> Sent:
    """What the logs in a `wandb` folder hold; without any, of a new run: the one that an agent names, or our own.

    Raises TableError at a log that cannot be read.
    """
    logs = sorted(folder.glob("*run-*/run-*.wandb"))
    named = logs[-1].stem.removeprefix("run-") if logs else os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
    found = Sent(named)
    for log in logs:
        for record in inspect(log)[0]:
            if record.get("type") == "history":
                found.add(record["history"]["item"])
            elif record.get("type") == "artifact" and record["artifact"].get("type") == "checkpoint":
                found.manifests |= set(record["artifact"].get("aliases", ()))
    return found


# The mirror ------------------------------------------------------------------------------------------------


class Mirror:
    """Sends what the records of one run have and W&B does not; wandb starts with the first thing to send."""

    def __init__(self, run: Run):
        self._run, self._config = run, config(run.path)
        self._folder = run.path / "wandb"
        self._sent = sent(self._folder)
        self._offset, self._inode = 0, 0
        self._wandb: Any = None
        self._estimates: dict[str, pl.DataFrame] = {}

    def sync(self) -> bool:
        """Send the training rows and manifests that are new and one finished evaluation; whether there was one."""
        for row in self._new_rows():
            if row["step"] not in self._sent.steps:
                self._log(train_point(row))
        evaluated = self._run.evaluation_names()
        for name in self._run.manifest_names():
            if name in self._sent.manifests and name in self._sent.evaluations:
                continue
            manifest = self._manifest(name)
            if manifest is None or manifest["kind"] == "resume":
                continue
            if name not in self._sent.manifests:
                self._artifact("checkpoint", [self._run.manifest_file(name)], _told(manifest), name)
                self._sent.manifests.add(name)
            if name not in self._sent.evaluations and name in evaluated and self._complete(name):
                self._evaluation(manifest)
                return True
        return False

    def report(self) -> None:
        """Send the report, where there is one that is new: its page and answer as artifact, its figures too."""
        page, answer = self._run.path / "report.html", self._run.path / "answer.json"
        if not (page.is_file() and answer.is_file() and self._run.manifest_names()):
            return
        digest = hashlib.blake2b(page.read_bytes(), digest_size=8).hexdigest()
        if digest in self._sent.reports:
            return
        figures = sorted(self._run.path.glob("*.png"))
        last = self._run.read_manifest(self._run.manifest_names()[-1])
        self._artifact("report", [page, answer, *figures], axes(last))
        images = {f"report/{file.stem}": self._image(file) for file in figures}
        verdict = json.loads(answer.read_bytes())["verdict"]
        self._log({**axes(last), REPORT: digest, "report/verdict": verdict, **images})

    def finish(self) -> None:
        """End the W&B run of this process."""
        if self._wandb is not None:
            self._wandb.finish()

    def _new_rows(self) -> list[Row]:
        """Rows since the last look; a file that was cut on resume is another one, and is read again."""
        if not self._run.train_file.exists():
            return []
        inode = self._run.train_file.stat().st_ino
        rows, self._offset = tail(self._run.train_file, self._offset if inode == self._inode else 0)
        self._inode = inode
        return rows

    def _manifest(self, name: str) -> Row | None:
        """None where it has gone since it was listed, as rolling checkpoints do."""
        try:
            return self._run.read_manifest(name)
        except RecordError:
            if self._run.manifest_file(name).exists():
                raise
            return None

    def _complete(self, name: str) -> bool:
        grid = self._config["evaluation"]
        return not self._run.evaluation_missing(name, grid["problems"], grid["budgets"])

    def _evaluation(self, manifest: Row) -> None:
        """The scalars, the whole grid as a table, and the two panels up to here."""
        import wandb

        known = self._sent.evaluations | {manifest["name"]}
        for name in self._run.manifest_names():
            if name in known and name not in self._estimates:
                self._estimates[name] = estimates(self._run.path, outcomes(self._run.path, [name]))
        here = self._estimates[manifest["name"]]
        table = wandb.Table(columns=list(GRID), data=[list(row) for row in here.select(GRID).rows()])
        until = pl.concat(list(self._estimates.values())).filter(pl.col("step") <= manifest["step"])
        drawn = save(progress(until), self._folder / "panels.png")
        media = {"evaluation/grid": table, "evaluation/panels": self._image(drawn)}
        self._log({**evaluation_point(manifest, here), **media})

    def _log(self, point: dict[str, Any]) -> None:
        self._started().log(point, step=self._sent.points, commit=True)
        self._sent.add(point)

    def _artifact(self, kind: str, files: Iterable[Path], metadata: dict[str, Any], *aliases: str) -> None:
        import wandb

        artifact = wandb.Artifact(f"{kind}-{self._sent.id}", kind, metadata=metadata)
        for file in files:
            artifact.add_file(str(file))
        self._started().log_artifact(artifact, aliases=["latest", *aliases])

    def _image(self, file: Path) -> Any:
        import wandb

        return wandb.Image(str(file))

    def _started(self) -> Any:
        if self._wandb is None:
            self._wandb = self._start()
        return self._wandb

    def _start(self) -> Any:
        import wandb

        task, recipe = self._config["task"]["name"], self._config["rl"]["recipe"]
        run = wandb.init(
            id=self._sent.id,
            name=self._run.path.name,
            tags=None if os.environ.get("WANDB_TAGS") else [task, recipe],
            dir=self._run.path,
            resume="allow",
            config=self._config,
            settings=wandb.Settings(
                reinit="create_new",
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                disable_job_creation=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        for axis in ("step", "train_flops", "rl_flops", "log10_train_flops", "log10_rl_flops"):
            run.define_metric(axis, hidden=True)
        for metrics, axis in (("warm_start", "train"), ("rl", "rl"), ("evaluation", "train"), ("report", "train")):
            run.define_metric(f"{metrics}/*", step_metric=f"log10_{axis}_flops")
        return run


def _told(manifest: Row) -> dict[str, Any]:
    return {**axes(manifest), **{name: manifest[name] for name in ("phase", "kind", "thresholds")}}


# The process -----------------------------------------------------------------------------------------------


def main(run_dir: str) -> None:
    """Mirror a run until standard input ends; where it has to give up, that is one line on standard output."""
    os.nice(19)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    ended = _ended(os.dup(sys.stdin.fileno()))
    run = Run(Path(run_dir).resolve())
    try:
        _claim(run.path / "wandb")
        mirror, began, through = None, time.monotonic(), False
        while not through:
            last = ended.wait(rest(time.process_time(), time.monotonic() - began))
            if mirror is None and run.config_file.is_file():
                mirror = Mirror(run)
            more = mirror is not None and mirror.sync()
            through = last and not more
        if mirror is not None:
            mirror.report()
            mirror.finish()
    except Exception as error:
        signal.alarm(LAST_S)
        reason = str(error).partition("\n")[0]
        print(f"W&B mirror off from here on ({type(error).__name__}: {reason}); the records go on", flush=True)


def rest(worked: float, passed: float) -> float:
    """Seconds to the next look, after so many seconds of a processor in so many of the clock."""
    return max(PERIOD_S, worked / (SHARE * (os.cpu_count() or 1)) - passed)


def _ended(pipe: int) -> threading.Event:
    """Set when the pipe's other end is closed; from then on the kernel counts the seconds that are left."""
    ended = threading.Event()

    def watch() -> None:
        while os.read(pipe, 1):
            pass
        signal.alarm(LAST_S)
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    return ended


def _claim(folder: Path) -> None:
    """Wait until no other mirror of the run is left, nor its wandb service; be the one from here on.

    The lock becomes standard input, which wandb's service inherits. A file system without locks is let be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_DATA_DIR", str(folder))
    with open(folder / "mirror.lock", "a") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        os.dup2(file.fileno(), sys.stdin.fileno())


if __name__ == "__main__":
    main(sys.argv[1])
