"""The files of a sweep's directory.

sweep.yaml        the file, its base spelled out
NAME/             a run's directory
configs/NAME.yaml what a run is started with
logs/NAME.log     what a run printed, all its attempts
attempts.jsonl    a row a start: run, engine, handle, time, failures before it, and how the former one ended
ended.jsonl       a row a run that the stopping rule ended: time, arm, probability, reason
lock              held by the one launcher at work
stop              there while the launcher is asked to stop
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from scaling import files, locks
from scaling.config import dump
from scaling.structure import ConfigError
from sweeps.expand import Planned
from sweeps.file import Sweep, read
from sweeps.launchers import Job

ATTEMPT_KEY = ENDED_KEY = ("run", "time")
TAIL = 4096
"""Bytes of the end of a log in which its last line is looked for."""


@dataclass(frozen=True)
class Attempt:
    """One start of a run."""

    run: str
    engine: str
    handle: str
    time: float
    """Of the start, in seconds since the epoch."""
    failures: int
    """Attempts before it that failed, since somebody last asked for a retry."""
    after: str
    """How the one before it ended; empty for the first."""


@dataclass(frozen=True)
class Ended:
    """A run that the stopping rule ended."""

    run: str
    time: float
    """Seconds since the epoch."""
    arm: str
    probability: float
    """That the arm is better than the leading one at the target."""
    reason: str
    """Empty where somebody asked for the run again."""


@dataclass(frozen=True)
class Directory:
    """A sweep's directory, its files read and written."""

    path: Path

    @property
    def file(self) -> Path:
        """The sweep's, from which the same command goes on."""
        return self.path / "sweep.yaml"

    def create(self, sweep: Sweep) -> None:
        """Make it, or take up one that is there: runs that the file no longer has are left alone."""
        for folder in (self.path, self.path / "configs", self.path / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        files.replace(self.file, sweep.text.encode())

    def sweep(self) -> Sweep:
        """Raises ConfigError where the directory is none of a sweep's."""
        if not self.file.is_file():
            raise ConfigError([f"{self.path}: not a sweep's directory (it has no sweep.yaml)"])
        return read(self.file)

    def run(self, name: str) -> Path:
        """Where a run has its directory."""
        return self.path / name

    def config_file(self, name: str) -> Path:
        """Where a run has the config that it is started with."""
        return self.path / "configs" / f"{name}.yaml"

    def log(self, name: str) -> Path:
        """Where what a run prints goes."""
        return self.path / "logs" / f"{name}.log"

    def job(self, planned: Planned) -> Job:
        """The job of a run, its config written where the command finds it."""
        file = self.config_file(planned.name)
        if not file.exists():
            files.replace(file, dump(planned.config).encode())
        words = (sys.executable, "-m", "scaling", "run", str(file), "--dir", str(self.run(planned.name)))
        return Job(planned.name, words, self.run(planned.name), self.log(planned.name))

    def last_line(self, name: str) -> str:
        """The last line that a run printed."""
        try:
            with open(self.log(name), "rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
                lines = file.read().decode(errors="replace").split("\n")
        except FileNotFoundError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    # Attempts

    @property
    def attempts_file(self) -> Path:
        """A row a start; `attempts` and `add` read and write it."""
        return self.path / "attempts.jsonl"

    def attempts(self) -> dict[str, Attempt]:
        """The last attempt of each run."""
        rows = files.read(self.attempts_file, ATTEMPT_KEY)
        return {row["run"]: Attempt(**row) for row in rows}

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Record attempts that have been made."""
        files.append(self.attempts_file, [asdict(attempt) for attempt in attempts])

    def ended(self) -> dict[str, Ended]:
        """Runs that the stopping rule ended, and that nobody asked for since."""
        rows = files.read(self.path / "ended.jsonl", ENDED_KEY)
        last = {row["run"]: Ended(**row) for row in rows}
        return {run: ended for run, ended in last.items() if ended.reason}

    def end(self, ended: Iterable[Ended]) -> None:
        """Record runs that the stopping rule ends, or (without a reason) that somebody asked for again."""
        files.append(self.path / "ended.jsonl", [asdict(one) for one in ended])

    # One launcher at a time

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other launcher starts runs here meanwhile. Raises ConfigError that names the one that does."""
        with locks.locked(self.path / "lock", "launching"):
            self.stop_file.unlink(missing_ok=True)
            yield

    @property
    def stop_file(self) -> Path:
        """There while the launcher is asked to stop."""
        return self.path / "stop"
