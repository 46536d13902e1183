"""Jobs of a second or two for tests of launchers, and what becomes of them."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sweeps.launchers import Hint, Job, Launcher

DEADLINE = 300
"""Seconds after which something is taken not to happen any more."""
STOPPABLE = str(Path(__file__).with_name("stoppable.py"))


def job(folder: Path, name: str, *command: str) -> Job:
    return Job(name, command, folder / name, folder / "logs" / f"{name} 1.log")


def stoppable(folder: Path, name: str, seconds: float) -> Job:
    return job(folder, name, sys.executable, STOPPABLE, str(folder / name), str(seconds))


def said(of: Job) -> list[str]:
    """What happened to it."""
    file = of.directory / "said"
    return [*file.read_text().splitlines()] if file.exists() else []


def wait(until: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.1)


def hints(launcher: Launcher, handles: Sequence[str]) -> list[Hint]:
    found = launcher.poll(handles)
    return [found[handle] for handle in handles]


def gone(launcher: Launcher, handles: Sequence[str]) -> Callable[[], bool]:
    return lambda: set(hints(launcher, handles)) == {"gone"}
