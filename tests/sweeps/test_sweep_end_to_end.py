"""A whole sweep of real runs, killed again and again: the same records in the end as without, none twice. And the
same sweep on Slurm and on Ray, which take runs away."""

import os
import random
import signal

import pytest
from real_sweeps import RUNS, done, lines, process_of, records, sweep, wait, working
from small_jobs import said, stoppable
from small_jobs import wait as wait_for

from scaling.check import check
from scaling.files import read
from sweeps.directory import ATTEMPT_KEY, Directory
from sweeps.launchers.local import Local
from sweeps.launchers.slurm import Slurm, SlurmLauncher

KILLS = 5


def attempts(folder):
    return list(read(Directory(folder).attempts_file, ATTEMPT_KEY))


def sound(folder):
    """Nothing wrong with any run, and all are there."""
    found = records(folder)
    assert len(found) == RUNS
    assert [line for name in found for line in check(folder / name)] == []
    return found


@pytest.mark.sweep
@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_ends_with_the_records_of_an_undisturbed_one(tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    with sweep(calm) as process:
        done(calm, process)
    total, moments = lines(calm), random.Random()
    for kill in range(KILLS):
        with sweep(killed) as process:
            enough = total * (kill + moments.random()) / (KILLS + 1)
            wait(lambda enough=enough: lines(killed) >= enough, process)
            process.kill()
        handles = [attempt.handle for attempt in Directory(killed).attempts().values()]
        alive = [handle for handle, hint in Local(1).poll(handles).items() if hint == "running"]
        for handle in alive[: moments.randint(0, len(alive))]:  # the others go on, and are adopted
            os.killpg(int(handle.partition(":")[0]), signal.SIGKILL)
    with sweep(killed) as process:
        done(killed, process)
    assert sound(killed) == sound(calm)


@pytest.mark.sweep
@pytest.mark.slurm
@pytest.mark.slow
def test_on_slurm_a_preempted_run_goes_on_and_a_crashed_one_is_started_again(slurm, tmp_path):
    folder = tmp_path / "slurm"
    with sweep(folder, "--launcher", "slurm") as process:
        wait(lambda: working(folder), process)
        os.kill(process_of(working(folder)[0]), signal.SIGKILL)
        wait(lambda: len(attempts(folder)) > RUNS or len(working(folder)) == 2, process)
        urgent = stoppable(tmp_path, "urgent", 0.5)
        SlurmLauncher(Slurm(partition="high", options=("--exclusive",))).submit([urgent])
        wait_for(lambda: "done" in said(urgent))
        done(folder, process)
    sound(folder)
    starts = attempts(folder)
    assert {start["engine"] for start in starts} == {"slurm"}
    assert len(starts) == RUNS + 1, "the crashed one was started again, and Slurm requeued what it preempted"
    assert next(start["after"] for start in starts if start["after"]).endswith("is gone")


@pytest.mark.sweep
@pytest.mark.ray
@pytest.mark.slow
def test_on_ray_a_run_whose_worker_is_killed_is_started_again(ray, tmp_path):
    folder = tmp_path / "ray"
    with sweep(folder, "--launcher", "ray") as process:
        wait(lambda: working(folder), process)
        run = process_of(working(folder)[0])
        with open(f"/proc/{run}/stat") as stat:
            worker = int(stat.read().rpartition(") ")[2].split()[1])
        os.kill(worker, signal.SIGKILL)
        done(folder, process)
    sound(folder)
    assert [start["after"] != "" for start in attempts(folder)].count(True) == 1
