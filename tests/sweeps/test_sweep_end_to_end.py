"""A whole sweep of real runs, killed again and again: the same records in the end as without, none twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.check import check
from scaling.records import Run
from sweeps.directory import Directory
from sweeps.expand import expand
from sweeps.launchers.local import Local

ROOT = Path(__file__).parents[2]
SHORT = (
    *("tracking.wandb=disabled", "warm_start.stages.0.steps=2", "warm_start.stages.1.steps=2", "rl.flops=4e7"),
    *("schedule.first=1e7", "schedule.rl_first=1e7", "schedule.points_per_decade=2", "evaluation.budgets=[0, 8]"),
)
KILLS = 5
DEADLINE = 1200


def sweep(folder: Path) -> subprocess.Popen:
    words = [
        "sweep",
        "tiny",
        "--dir",
        str(folder),
        "--jobs",
        "2",
        *(w for field in SHORT for w in ("--set", field)),
    ]
    with open(folder.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "scaling", *words],
            cwd=folder.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def lines(folder: Path) -> int:
    """Records so far, of all runs."""
    files = [*folder.glob("*/train.jsonl"), *folder.glob("*/evals/*.jsonl")]
    return sum(file.read_bytes().count(b"\n") for file in files)


def timeless(value):
    """A record without what a clock said."""
    if not isinstance(value, dict):
        return value
    return {name: timeless(item) for name, item in value.items() if name != "time" and "second" not in name}


def records(folder: Path) -> dict[str, list]:
    found = {}
    for planned in expand(Directory(folder).sweep()):
        run = Run.open(folder / planned.name)
        manifests = [manifest for manifest in run.manifests() if manifest["kind"] != "resume"]
        rows = [
            *run.train_rows(),
            *manifests,
            *(r for n in run.evaluation_names() for r in run.evaluation_rows(n)),
        ]
        found[planned.name] = [timeless(row) for row in rows]
    return found


@pytest.mark.sweep
@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_ends_with_the_records_of_an_undisturbed_one(tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    with sweep(calm) as process:
        assert process.wait(DEADLINE) == 0, calm.with_suffix(".log").read_text()
    total, moments = lines(calm), random.Random()
    for kill in range(KILLS):
        with sweep(killed) as process:
            enough, began = total * (kill + moments.random()) / (KILLS + 1), time.monotonic()
            while process.poll() is None and lines(killed) < enough:
                assert time.monotonic() - began < DEADLINE
                time.sleep(0.05)
            process.kill()
        handles = [attempt.handle for attempt in Directory(killed).attempts().values()]
        alive = [handle for handle, hint in Local(1).poll(handles).items() if hint == "running"]
        for handle in alive[: moments.randint(0, len(alive))]:  # the others go on, and are adopted
            os.killpg(int(handle.partition(":")[0]), signal.SIGKILL)
    with sweep(killed) as process:
        assert process.wait(DEADLINE) == 0, killed.with_suffix(".log").read_text()
    assert records(killed) == records(calm) and len(records(calm)) == 8
    for name in records(killed):
        assert [line for line in check(killed / name) if "repeats" in line] == []
    attempts = [json.loads(line) for line in (killed / "attempts.jsonl").read_text().splitlines()]
    print(f"{len(attempts)} attempts at 8 runs")
