"""What state a run is in, from its directory, its last attempt and its engine's hint."""

import json
import os
import subprocess
import sys
import time

import pytest

from scaling.records import Run
from scaling.status import STALE_SECONDS
from sweeps.directory import Attempt
from sweeps.state import hints, standing

NOW = time.time()


def status(path, state, stage="train", *, age=1.0, pid=None, host=None, reason=""):
    path.mkdir(exist_ok=True)
    run = Run(path)
    run.write_status(state, stage, reason)
    row = run.read_status() or {}
    row |= {"heartbeat": NOW - age, "pid": pid or os.getpid(), "host": host or row["host"]}
    run.status_file.write_text(json.dumps(row))


def attempt(age):
    return Attempt("run", "fake", "1", NOW - age, 0, "")


def gone():
    """The number of a process that was."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"state": "running"}, "running"),
        ({"state": "running", "pid": -1}, "dead"),
        ({"state": "running", "pid": -1, "host": "another"}, "running"),
        ({"state": "running", "age": STALE_SECONDS + 1, "host": "another"}, "dead"),
        ({"state": "done", "stage": "report"}, "done"),
        ({"state": "done", "stage": "train"}, "running"),
        ({"state": "done", "stage": "evaluate", "pid": -1}, "dead"),
        ({"state": "preempted"}, "preempted"),
        ({"state": "failed", "reason": "loss is nan"}, "failed"),
    ],
)
def test_a_run_is_what_its_directory_says(tmp_path, said, state):
    status(tmp_path / "run", **(said | ({"pid": gone()} if said.get("pid") == -1 else {})))
    for last in (None, attempt(age=STALE_SECONDS + 2)):
        for hint in ("queued", "running", "gone", "unknown"):
            found = standing(tmp_path / "run", NOW, last, hint)
            assert found.state == state and found.reason == said.get("reason", found.reason)


@pytest.mark.parametrize("before", [None, "preempted", "failed", "running"])
def test_a_hint_only_tells_what_waits_from_what_is_lost(tmp_path, before):
    if before:
        status(tmp_path / "run", before, age=60, pid=gone())
    said = {
        hint: standing(tmp_path / "run", NOW, attempt(age=5), hint).state for hint in ("queued", "running", "gone")
    }
    assert said == {"queued": "waiting", "running": "waiting", "gone": "dead"}


def test_a_run_without_directory_or_attempt_waits(tmp_path):
    assert standing(tmp_path / "run", NOW).state == "waiting"


def test_each_engine_is_asked_for_its_own_runs():
    class Engine:
        def __init__(self, name):
            self.name = name

        def poll(self, handles):
            return {handle: f"{self.name} {handle}" for handle in handles if handle != "lost"}

    attempts = [
        Attempt(f"r{i}", engine, handle, 0, 0, "") for i, (engine, handle) in enumerate([("a", "1"), ("b", "1")])
    ]
    attempts.append(Attempt("r2", "a", "lost", 0, 0, ""))
    assert hints(attempts, Engine) == {"r0": "a 1", "r1": "b 1", "r2": "unknown"}  # pyright: ignore
