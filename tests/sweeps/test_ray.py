"""Ray as an engine, on a cluster of one machine; what needs no cluster is checked without it."""

import os
import signal
import subprocess
import sys

import pytest
from small_jobs import DEADLINE, gone, hints, job, said, stoppable, wait

from scaling.structure import ConfigError
from sweeps.launchers.ray import Ray, RayLauncher, script


def pid(of) -> int:
    return int(said(of)[-1].removeprefix("started "))


def parent(process: int) -> int:
    with open(f"/proc/{process}/stat") as stat:
        return int(stat.read().rpartition(") ")[2].split()[1])


def test_a_job_runs_its_command_here_as_it_is_after_the_setup(monkeypatch, tmp_path):
    words = ("it's", "$HOME", "a b", "")
    run = job(tmp_path, "a", sys.executable, "-c", "import sys; print(sys.argv[1:])", *words)
    run.log.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    lines = script(Ray(setup=("pwd",)), run)
    subprocess.run(["sh", "-c", lines], cwd="/", check=True)
    assert run.log.read_text() == f"{tmp_path}\n{list(words)}\n"


def test_without_ray_submission_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"^--launcher ray: Ray is not installed here; pip install "):
        RayLauncher().submit([job(tmp_path, "a", "true")])


@pytest.mark.ray
@pytest.mark.slow
def test_lost_crashed_cancelled_and_done_jobs_are_gone_and_go_on_when_submitted_again(ray, tmp_path, monkeypatch):
    launcher, later = RayLauncher(), RayLauncher(Ray(address=ray))
    names = ("lost", "crashed", "waits")
    runs = [stoppable(tmp_path, name, DEADLINE) for name in names]
    handles = launcher.submit(runs[:2])
    wait(lambda: all(said(run) for run in runs[:2]))
    handles += launcher.submit(runs[2:])
    assert hints(later, handles) == ["running", "running", "queued"]  # two CPUs

    lost = pid(runs[0])
    os.kill(parent(lost), signal.SIGKILL)  # Ray's worker; the run must not outlive it
    os.kill(pid(runs[1]), signal.SIGKILL)
    wait(gone(later, handles[:2]))
    wait(lambda: not os.path.exists(f"/proc/{lost}"))
    assert [len(said(run)) for run in runs[:2]] == [1, 1]

    wait(lambda: said(runs[2]) != [])
    later.cancel([handles[2], "raysubmit_1"])
    wait(gone(later, [handles[2], "raysubmit_1"]))
    assert said(runs[2])[-1] == "saved SIGTERM"

    again = [stoppable(tmp_path, name, 1) for name in names]
    handles = later.submit(again)
    wait(gone(launcher, handles))
    assert [said(run)[-1] for run in again] == ["done"] * 3
    saved, resumed = again[2].log.read_text().splitlines()
    assert saved == "from 0.00 s" and saved < resumed

    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"^--launcher ray: Failed to connect to Ray .*127.0.0.1:9"):
        launcher.submit(again)
    assert set(hints(launcher, handles)) == {"unknown"}
    launcher.cancel(handles)
