"""A sweep of real runs, as short as they can be, and what it left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scaling.records import Run
from sweeps.directory import Directory
from sweeps.expand import expand

ROOT = Path(__file__).parents[2]
SHORT = (
    "tracking.wandb=disabled",
    "warm_start.stages.0.steps=2",
    "warm_start.stages.1.steps=2",
    "rl.flops=4e7",
    "schedule.first=1e7",
    "schedule.rl_first=1e7",
    "schedule.points_per_decade=2",
    "evaluation.budgets=[0, 8]",
)
RUNS = 8
DEADLINE = 1200


def sweep(folder: Path, *options: str) -> subprocess.Popen:
    """`scaling sweep tiny`, two runs at once."""
    changes = [word for change in SHORT for word in ("--set", change)]
    with open(folder.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "scaling", "sweep", "tiny", "--dir", folder, "--jobs", "2", *options, *changes],
            cwd=folder.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def done(folder: Path, process: subprocess.Popen) -> None:
    """Wait for its end, which must be that of a sweep whose runs are all done."""
    assert process.wait(DEADLINE) == 0, folder.with_suffix(".log").read_text()


def wait(until: Callable[[], object], process: subprocess.Popen) -> None:
    """Until something is so, or the sweep is over."""
    began = time.monotonic()
    while process.poll() is None and not until():
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.05)


def lines(folder: Path) -> int:
    """Records so far, of all runs."""
    files = [*folder.glob("*/train.jsonl"), *folder.glob("*/evals/*.jsonl")]
    return sum(file.read_bytes().count(b"\n") for file in files)


def working(folder: Path) -> list[Run]:
    """Runs that a process is training or evaluating."""
    runs = [Run(path.parent) for path in sorted(folder.glob("*/status.json"))]
    stages = [(run, run.read_status() or {}) for run in runs]
    return [run for run, at in stages if at.get("state") == "running" and at["stage"] in ("train", "evaluate")]


def process_of(run: Run) -> int:
    status = run.read_status()
    assert status is not None
    return status["pid"]


def timeless(value):
    """A record without what a clock said."""
    if not isinstance(value, dict):
        return value
    return {name: timeless(item) for name, item in value.items() if name != "time" and "second" not in name}


def records(folder: Path) -> dict[str, list]:
    """run → its rows, manifests and outcomes."""
    found = {}
    for planned in expand(Directory(folder).sweep()):
        run = Run.open(folder / planned.name)
        manifests = [manifest for manifest in run.manifests() if manifest["kind"] != "resume"]
        outcomes = [row for name in run.evaluation_names() for row in run.evaluation_rows(name)]
        found[planned.name] = [timeless(row) for row in (*run.train_rows(), *manifests, *outcomes)]
    return found
