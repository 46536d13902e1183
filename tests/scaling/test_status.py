"""Where a run stands, by what it said last and by whether its process is still there."""

import os
import time

import pytest

from scaling.processes import started
from scaling.records import Run
from scaling.status import STALE_SECONDS, state, writer


@pytest.fixture
def status(tmp_path):
    """Of a run that this process is at work on."""
    run = Run(tmp_path)
    run.write_status("running", "train")
    return run.read_status()


def test_a_process_at_work_runs_until_it_is_silent_for_long(status):
    assert state(status, time.time()) == ("running", "")
    assert state(status, time.time() + 2 * STALE_SECONDS)[0] == "dead"


def test_a_number_that_is_used_again_is_not_the_process_that_had_it(status):
    assert status["start"] == started(os.getpid())
    assert state({**status, "start": "1"}, time.time()) == ("dead", f"process {os.getpid()} is gone")
    without = {name: value for name, value in status.items() if name != "start"}
    assert state(without, time.time())[0] == "running", "a status of before starts were written"


def test_the_start_of_a_process_of_another_host_says_nothing(status):
    assert state({**status, "host": "elsewhere", "start": "1"}, time.time())[0] == "running"


def test_another_process_of_this_host_writes_a_run_while_it_is_the_one_that_began(tmp_path, monkeypatch):
    run, other = Run(tmp_path), os.getppid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: other)
        run.write_status("running", "train")
    assert writer(run) == other
    monkeypatch.setattr("scaling.status.started", lambda pid: "1")
    assert writer(run) is None
