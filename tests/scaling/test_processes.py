"""A process is known by its number and by when it started, on systems that say and on those that do not."""

import os
import subprocess
import sys

import pytest

from scaling import processes
from scaling.processes import started


@pytest.fixture(params=["the system says", "it does not"])
def system(request, monkeypatch, tmp_path):
    if request.param == "it does not":
        monkeypatch.setattr(processes, "PROC", tmp_path)
    return request.param


def test_who_lives_has_one_start_and_who_ended_has_none(system):
    assert started(os.getpid()) == started(os.getpid()) is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert started(child.pid) is not None
    child.communicate(b"")
    assert started(child.pid) is None


def test_processes_of_others_exist_too(system):
    assert started(1) is not None
