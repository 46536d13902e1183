"""Runs that are killed at random: `python -m tests.reliability.soak MINUTES [FOLDER] [--set A.B=C …]`.

One undisturbed run is made first. Then, until the minutes are over, the same run is started anew and ended again
and again after a random time, by kill -9, SIGTERM or Ctrl-C twice, until it is done; it must then be sound and
equal to the undisturbed one. Exit code 1 at the first that is not.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from scaling.check import check, counts
from scaling.checkpoints import verify
from scaling.config import load
from scaling.records import Run
from tests.reliability.killing import CODES, DEADLINE, finished, progress, started
from tests.reliability.tiny_runs import SEED, SETTINGS, command, record, verdict

LONGER = ("rl.flops=1e9", "warm_start.stages.0.steps=20", "schedule.resume_seconds=5")
"""Than the other runs of the bench: a minute or two of work."""
WORK_SECONDS = 10.0
"""Longest work of a process, from its first new row to its end."""


def disturbed_until_done(path: Path, moments: random.Random, *overrides: str) -> Counter[str]:
    """End the run again and again, after up to `WORK_SECONDS` each time; how often in which way."""
    ends: Counter[str] = Counter()
    log = path.parent / "log"
    while True:
        before = progress(Run(path))
        with started(command("run", path, *overrides), log) as process:
            began = time.monotonic()
            while process.poll() is None and progress(Run(path)) == before:
                assert time.monotonic() - began < DEADLINE, "the process hangs"
                time.sleep(0.05)
            at_work = time.monotonic() + moments.random() * WORK_SECONDS
            while process.poll() is None and time.monotonic() < at_work:
                time.sleep(0.05)
            if process.poll() is not None:
                assert process.returncode == 0, log.read_text()[-2000:]
                return ends
            end = moments.choice(list(CODES))
            assert end(process) in CODES[end] | {0}, log.read_text()[-2000:]
            ends[end.__name__] += 1


def soak(minutes: float, folder: Path, *overrides: str) -> int:
    """Exit code; what is found is printed as it is."""
    moments, deadline = random.Random(SEED), time.monotonic() + 60 * minutes
    overrides = (*LONGER, *overrides)
    calm = finished(folder / "calm" / "run", *overrides)
    grid = load("tiny", [*SETTINGS, *overrides]).evaluation
    print(f"undisturbed: {counts(calm.path)}", flush=True)
    total: Counter[str] = Counter()
    runs = 0
    while runs == 0 or time.monotonic() < deadline:
        path = folder / f"{runs}" / "run"
        ends = disturbed_until_done(path, moments, *overrides)
        run = Run(path)
        wrong = [*check(path, grid.problems, grid.budgets), *verify(path)]
        if record(run) != record(calm) or verdict(run) != verdict(calm):
            wrong.append(f"{path}: differs from {calm.path}")
        runs, total = runs + 1, total + ends
        print(f"run {runs}: {dict(ends)}; {'; '.join(wrong) or 'sound and the same'}", flush=True)
        if wrong:
            return 1
        shutil.rmtree(path.parent)
    print(f"{runs} runs ended {total.total()} times ({dict(total)}): all sound, all the same", flush=True)
    return 0


if __name__ == "__main__":
    minutes, *words = sys.argv[1:]
    place = [words.pop(0)] if words and not words[0].startswith("--") else []
    settings = [word for word in words if word != "--set"]
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(soak(float(minutes), Path(*place) if place else Path(temporary), *settings))
