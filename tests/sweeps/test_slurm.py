"""Slurm as an engine, on a Slurm of one node without accounting; what needs no Slurm is checked without it."""

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_jobs import DEADLINE, gone, hints, job, said, stoppable, wait

from scaling.structure import ConfigError, structure
from sweeps.launchers.slurm import Slurm, SlurmLauncher, sbatch, script

NAMES = ("a", "b", "c", "d")
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@settings(max_examples=50, deadline=None)
@given(words=st.lists(TEXT, min_size=1, max_size=4))
def test_a_task_runs_its_job_as_it_is_whatever_its_words(tmp_path_factory, words):
    folder = tmp_path_factory.mktemp("script")
    jobs = [job(folder, name, "printf", r"%s\0", name, *words) for name in NAMES[:2]]
    jobs[0].log.parent.mkdir()
    shell = ["bash", "-c", script(Slurm(), jobs)]
    subprocess.run(shell, env=os.environ | {"SLURM_ARRAY_TASK_ID": "1"}, check=True)
    assert jobs[1].log.read_bytes().decode() == "".join(f"{word}\0" for word in ("b", *words))
    assert not jobs[0].log.exists()


def test_setup_comes_before_the_command_and_into_the_log(tmp_path):
    jobs = [job(tmp_path, "a", "sh", "-c", "echo $GREETING")]
    jobs[0].log.parent.mkdir()
    lines = script(Slurm(setup=("export GREETING=hello", "echo set up")), jobs)
    subprocess.run(["bash", "-c", lines], env=os.environ | {"SLURM_ARRAY_TASK_ID": "0"}, check=True)
    assert jobs[0].log.read_text() == "set up\nhello\n"


def test_a_run_asks_for_what_is_set_and_for_nothing_else():
    plain = sbatch(Slurm(), 3)
    assert "--array=0-2" in plain and "--requeue" in plain and "--signal=B:USR2@120" in plain
    assert not [word for word in plain if word.startswith(("--partition", "--time", "--gpus", "--cpus", "--mem"))]
    section = {"time": "1:00:00", "gpus_per_node": 8, "memory": "64G", "options": ["--qos=low"], "notice": 300}
    full = sbatch(structure(section, Slurm), 3, at_once=2)
    asked = {"--array=0-2%2", "--time=1:00:00", "--gpus-per-node=8", "--mem=64G", "--qos=low"}
    assert asked | {"--signal=B:USR2@300"} <= set(full)


def test_without_slurm_submission_says_so_and_nothing_is_known_of_jobs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"^--launcher slurm: there is no sbatch here; start the sweep on"):
        SlurmLauncher().submit([job(tmp_path, "a", "true")])
    assert SlurmLauncher().poll(["1_0"]) == {"1_0": "unknown"}
    SlurmLauncher().cancel(["1_0"])


@pytest.mark.slurm
def test_no_more_than_the_cap_run_at_once_and_all_end(slurm, tmp_path):
    launcher = SlurmLauncher(at_once=2)
    jobs = [stoppable(tmp_path, name, 1) for name in NAMES]
    handles = launcher.submit(jobs)
    assert len(set(handles)) == 4
    most = 0

    def done() -> bool:
        nonlocal most
        found = hints(launcher, handles)
        most = max(most, found.count("running"))
        return set(found) == {"gone"}

    wait(done)
    assert [said(job)[-1] for job in jobs] == ["done"] * 4 and 1 <= most <= 2
    assert [job.log.read_text() for job in jobs] == ["from 0.00 s\n"] * 4


@pytest.mark.slurm
def test_a_preempted_run_saves_and_goes_on_and_a_crashed_one_is_gone_without_being_done(slurm, tmp_path):
    low, high = SlurmLauncher(), SlurmLauncher(Slurm(partition="high", options=("--exclusive",)))
    jobs = [stoppable(tmp_path, "a", 2), job(tmp_path, "b", "sh", "-c", "kill -9 $$")]
    handles = low.submit(jobs)
    wait(lambda: said(jobs[0]) != [])
    wait(lambda: low.poll(handles)[handles[1]] == "gone")
    assert said(jobs[1]) == []
    urgent = [stoppable(tmp_path, "c", 0.5)]
    high.submit(urgent)
    wait(lambda: "saved SIGTERM" in said(jobs[0]))
    wait(lambda: low.poll(handles)[handles[0]] == "queued")
    wait(gone(low, handles))
    assert said(urgent[0])[-1] == said(jobs[0])[-1] == "done"
    first, then = jobs[0].log.read_text().splitlines()
    assert first == "from 0.00 s" and first < then


@pytest.mark.slurm
def test_cancelled_runs_save_and_those_that_wait_never_start(slurm, tmp_path):
    launcher = SlurmLauncher(at_once=1)
    jobs = [stoppable(tmp_path, name, DEADLINE) for name in NAMES[:2]]
    handles = launcher.submit(jobs)
    wait(lambda: said(jobs[0]) != [])
    assert hints(launcher, handles) == ["running", "queued"]
    launcher.cancel([*handles, "999999_7"])
    wait(gone(launcher, [*handles, "999999_7"]))
    assert said(jobs[0])[-1] == "saved SIGTERM" and said(jobs[1]) == []


@pytest.mark.slurm
@pytest.mark.slow
def test_ahead_of_the_time_limit_every_process_of_a_run_is_told_to_save(slurm, tmp_path):
    runs = [stoppable(tmp_path, name, DEADLINE) for name in NAMES[:2]]
    handles = []
    for processes, run in enumerate(runs, start=1):
        asked = Slurm(time="1", notice=60, tasks_per_node=processes)  # USR2 as soon as Slurm looks
        handles += SlurmLauncher(asked).submit([run])
    wait(gone(SlurmLauncher(), handles))
    ends = [[line for line in said(run) if not line.startswith("started")] for run in runs]
    assert ends == [["saved SIGUSR2"], ["saved SIGUSR2"] * 2]


@pytest.mark.slurm
def test_only_a_run_of_several_processes_takes_itself_for_one(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")  # as in a shell under srun
    show = ("sh", "-c", "echo ${SLURM_STEP_NUM_TASKS:-alone} ${SLURM_CPUS_PER_TASK:-?}")
    alone, two = job(tmp_path, "a", *show), job(tmp_path, "b", *show)
    for asked, run in ((Slurm(), alone), (Slurm(tasks_per_node=2, cpus_per_task=2), two)):
        wait(gone(SlurmLauncher(), SlurmLauncher(asked).submit([run])))
    assert alone.log.read_text() == "alone ?\n" and two.log.read_text() == "2 2\n" * 2


@pytest.mark.slurm
def test_what_slurm_refuses_is_said_in_its_words(slurm, tmp_path):
    with pytest.raises(ConfigError, match=r"^--launcher slurm: .*invalid partition specified: nowhere"):
        SlurmLauncher(Slurm(partition="nowhere")).submit([job(tmp_path, "a", "true")])
