"""Jobs as processes of this machine."""

import os
import signal
import sys
import time

import pytest

from scaling.structure import ConfigError
from sweeps.launchers import Job
from sweeps.launchers.local import Local, cores

DEADLINE = 60


def job(tmp_path, name, code):
    return Job(name, (sys.executable, "-c", code), tmp_path / name, tmp_path / f"{name}.log")


def until(hint, engine, handle):
    began = time.monotonic()
    while engine.poll([handle])[handle] != hint:
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.02)


def test_a_job_runs_in_a_session_of_its_own_and_what_it_prints_is_appended(tmp_path):
    engine = Local(1)
    for _ in range(2):
        (handle,) = engine.submit([job(tmp_path, "a", "import os; print(os.getsid(0) == os.getpid())")])
        until("gone", engine, handle)
    assert (tmp_path / "a.log").read_text() == "True\nTrue\n"


def test_jobs_share_the_cores_out(tmp_path):
    engine, code = Local(2), "import os, time; print(os.environ['OMP_NUM_THREADS'], flush=True); time.sleep(60)"
    handles = engine.submit([job(tmp_path, name, code) for name in "ab"])
    used = [os.sched_getaffinity(int(handle.split(":")[0])) for handle in handles]
    share = max(len(cores()) // 2, 1)
    assert [len(mine) for mine in used] == [share, share]
    assert len(cores()) < 2 or not used[0] & used[1]
    engine.cancel(handles)
    for handle in handles:
        until("gone", engine, handle)


def test_another_launcher_knows_a_job_by_its_handle_and_can_cancel_it(tmp_path):
    ends = "signal.signal(signal.SIGTERM, lambda *_: exit(75))"
    code = f"import signal, time; {ends}; print(1, flush=True); time.sleep(60)"
    first, second = Local(1), Local(1)
    (handle,) = first.submit([job(tmp_path, "a", code)])
    while not (tmp_path / "a.log").read_text():
        time.sleep(0.02)
    assert second.poll([handle]) == {handle: "running"}
    second.cancel([handle])
    until("gone", second, handle)
    assert first.poll([handle]) == {handle: "gone"}


def test_a_number_that_is_used_again_is_not_taken_for_the_job():
    engine = Local(1)
    handle = f"{os.getpid()}:12"
    assert engine.poll([handle, "nonsense", ""]) == dict.fromkeys([handle, "nonsense", ""], "gone")
    engine.cancel([handle, "nonsense"])


def test_a_job_that_does_not_stop_is_killed_after_its_grace(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.launchers.local.GRACE_SECONDS", 0.0)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    engine = Local(1)
    (handle,) = engine.submit([job(tmp_path, "a", code)])
    while not (tmp_path / "a.log").read_text():
        time.sleep(0.02)
    child = engine._children[handle]
    engine.cancel([handle])
    until("gone", engine, handle)
    assert child.returncode == -signal.SIGKILL


def test_a_command_that_cannot_be_started_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no/such: cannot be started"):
        Local(1).submit([Job("a", ("no/such",), tmp_path, tmp_path / "a.log")])
