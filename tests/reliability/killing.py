"""Real processes of the command line, and the ways to end them."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scaling.records import Run
from tests.reliability.tiny_runs import command, python

ROOT = Path(__file__).parents[2]
DEADLINE = 900
"""Seconds after which a process is taken to hang."""


@contextlib.contextmanager
def started(words: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """`scaling` with these words, its output added to a log; not left behind."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        process = subprocess.Popen(
            python("-m", "scaling", *words), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def progress(run: Run) -> int:
    """Rows that were written."""
    files = [run.train_file, *run.evals.glob("*.jsonl")]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def wait(enough: Callable[[], bool], process: subprocess.Popen) -> None:
    """Until then, or until the process ends."""
    began = time.monotonic()
    while process.poll() is None and not enough():
        assert time.monotonic() - began < DEADLINE, "the process hangs"
        time.sleep(0.01)


def kill(process: subprocess.Popen) -> int:
    process.send_signal(signal.SIGKILL)
    return process.wait()


def terminate(process: subprocess.Popen) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(DEADLINE)


def interrupt_twice(process: subprocess.Popen) -> int:
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    return process.wait(DEADLINE)


CODES = {kill: {-9}, terminate: {75, -15}, interrupt_twice: {75, -2}}
"""Way to end a process → exit codes that it may have: one that still starts has no ear for signals yet and dies of
them, and one that ends by itself has 0."""


def finished(path: Path, *overrides: str) -> Run:
    """The run in a directory, taken to its end in one process."""
    log = path.parent / "log"
    with started(command("run", path, *overrides), log) as process:
        assert process.wait(DEADLINE) == 0, log.read_text()[-2000:]
    return Run(path)


def disturbed(path: Path, ends: list, total: int, moments: random.Random, *overrides: str) -> list[int]:
    """Start the run and end it, once for each of `ends`, over its `total` rows; the rows that stood then."""
    run, stood = Run(path), []
    for i, end in enumerate(ends):
        with started(command("run", path, *overrides), path.parent / "log") as process:
            target = total * (i + moments.random()) / (len(ends) + 1)
            wait(lambda target=target: progress(run) >= target, process)
            time.sleep(moments.random() * 0.3)
            assert end(process) in CODES[end] | {0}, (path.parent / "log").read_text()[-2000:]
        stood.append(progress(run))
    return stood
