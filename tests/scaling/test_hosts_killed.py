"""A host that is killed takes the others with it, soon and in a line; together again they come to the same end."""

import signal
import time
from pathlib import Path

import pytest
from several_hosts import DEADLINE, Place, command, ends
from small_runs import manifests, rows

from scaling.check import check
from scaling.checkpoints import verify
from scaling.records import Run

pytestmark = pytest.mark.slow
ROWS = 3
"""Of training, before the kill: in RL, with checkpoints before and after."""
ABORTED = -signal.SIGABRT
PATIENCE = DEADLINE / 2
"""Seconds in which the other host must end: JAX's heartbeats miss a silent one in 100."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("hosts"))


def together(place: Place, path: Path) -> Run:
    found = ends(place.by_flags(*command(path)))
    assert [code for code, _, _ in found] == [0, 0], found[0][2] + found[1][2]
    return Run(path)


@pytest.fixture(scope="module")
def undisturbed(place) -> Run:
    return together(place, place.folder / "undisturbed")


def evaluations(run: Run) -> dict:
    timeless = {"seconds": None, "compile_seconds": None}
    return {name: [row | timeless for row in run.evaluation_rows(name)] for name in run.evaluation_names()}


@pytest.mark.parametrize("killed", [0, 1], ids=["the first", "the other"])
def test_a_host_that_is_killed_ends_the_other_and_both_go_on_to_the_same_end(place, undisturbed, killed):
    run = Run(place.folder / f"killed-{killed}")
    processes = place.by_flags(*command(run.path))
    began = time.monotonic()
    while not (run.train_file.exists() and run.train_file.read_bytes().count(b"\n") >= ROWS):
        assert time.monotonic() - began < DEADLINE and not any(process.poll() for process in processes)
        time.sleep(0.01)
    processes[killed].kill()
    (_, err), code = processes[1 - killed].communicate(timeout=PATIENCE), processes[1 - killed].returncode
    processes[killed].communicate()
    if killed == 0:  # JAX may be there first
        assert code in (1, ABORTED) and ("another host is gone" in err or "another task died" in err), err
    else:
        assert code == 1 and err.splitlines()[-1].startswith("another host is gone (") and "Traceback" not in err
        assert (run.read_status() or {})["reason"].startswith("HostError: another host is gone (")
    assert verify(run.path) == []
    together(place, run.path)
    assert rows(run) == rows(undisturbed)
    assert manifests(run) == manifests(undisturbed), "the hash of every leaf among them"
    assert evaluations(run) == evaluations(undisturbed)
    assert check(run.path, problems=4, budgets=[4]) == []
