"""Several hosts are one: what they train, save and evaluate is what one process does, and they stop together."""

import os
import pickle
import signal
import time
from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax._src.clusters import cloud_tpu_cluster
from several_hosts import DEADLINE, SMALL, Place, command, ends
from small_runs import names, rows, small, state

from scaling import hosts, stages
from scaling.check import check
from scaling.checkpoints import verify
from scaling.hosts import ALONE, Cluster
from scaling.records import Run
from scaling.structure import ConfigError


@pytest.mark.parametrize(
    ("cluster", "lines"),
    [
        (Cluster(hosts=2), ["--coordinator, --host: missing; "]),
        (Cluster("here:1", host=0), ["--hosts: missing; "]),
        (Cluster("here", 2, 0), ["--coordinator = here: must be HOST:PORT"]),
        (Cluster(":1", 2, 0), ["--coordinator = :1: must be"]),
        (Cluster("here:99999", 2, 2), ["--coordinator = here:99999: must be", "--host = 2: must be from 0 to 1"]),
        (Cluster("here:1", 0, 0), ["--hosts = 0: must be at least 1"]),
        (Cluster("here:1", 2, -1), ["--host = -1: must be from 0 to 1"]),
    ],
)
def test_flags_that_cannot_be_meant_are_a_line_each(cluster, lines):
    with pytest.raises(ConfigError) as error, hosts.joined(cluster):
        pass
    assert len(error.value.lines) == len(lines)
    assert all(line.startswith(start) for line, start in zip(error.value.lines, lines, strict=True))


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "t0", "MEGASCALE_NUM_SLICES": "1"}, False),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1", "MEGASCALE_NUM_SLICES": "1"}, True),
    ],
    ids=["plain", "batch script", "salloc", "srun", "one TPU host", "TPU pod"],
)
def test_a_launcher_of_several_processes_is_noticed_and_no_other(monkeypatch, variables, several):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TPU_", "MEGASCALE_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tpu = "TPU_WORKER_HOSTNAMES" in variables
    monkeypatch.setattr(hosts.importlib.util, "find_spec", lambda name: object() if tpu else None)
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", tpu)
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")  # asks no metadata server
    started = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **options: started.append(options))
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: None)
    with hosts.joined(ALONE):
        assert hosts.is_first() and not hosts.several()
    assert [options["cluster_detection_method"] for options in started] == [None] * several


def test_one_process_decides_alone():
    with hosts.joined(Cluster("here:1", 1, 0)):
        assert hosts.first(lambda: 3) == 3
        assert [hosts.any_host(flag) for flag in (True, False)] == [True, False]


def test_an_error_of_the_transport_says_that_a_host_is_gone_and_others_stay_as_they_are(monkeypatch):
    def caught(error: Exception) -> Exception:
        with pytest.raises(type(error)) as found, hosts.answered(), hosts.answered():
            raise error
        return found.value

    gloo = ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer\nmore")
    assert caught(gloo) is gloo, "of one process it says nothing"
    monkeypatch.setattr(hosts._here, "hosts", 2)
    assert caught(other := ValueError("another")) is other
    with pytest.raises(hosts.HostError, match=r"^another host is gone \(UNKNOWN: .*by peer\); the same command"):
        caught(gloo)


def test_a_run_that_a_host_does_not_see_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(stages, "APPEARING_SECONDS", 0.0)
    with pytest.raises(ConfigError, match="not there on every host; several hosts need one file system"):
        stages._share(Run(tmp_path))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def one(place) -> Run:
    """The run of one process with two devices."""
    (end,) = ends([place.start(2, *command(place.folder / "one"))])
    assert end[0] == 0, end[2]
    return Run(place.folder / "one")


@dataclass(frozen=True)
class Stopped:
    """A run of two hosts of which the second got SIGTERM."""

    run: Run
    ends: list[tuple[int, str, str]]
    pids: list[int]
    status: dict
    steps: list[int]
    checkpoints: list[tuple[int, str]]


@pytest.fixture(scope="module")
def stopped(place, one) -> Stopped:
    run = Run(place.folder / "two")
    processes = place.by_flags(*command(run.path))
    began = time.monotonic()
    while not (run.train_file.exists() and run.train_file.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() - began < DEADLINE
        if any(process.poll() is not None for process in processes):
            break
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    found = ends(processes)
    return Stopped(
        run,
        found,
        [process.pid for process in processes],
        run.read_status() or {},
        [row["step"] for row in run.train_rows()],
        [(manifest["step"], manifest["kind"]) for manifest in run.manifests()],
    )


@pytest.fixture(scope="module")
def resumed(place, stopped) -> Run:
    """It goes on to its end, started by Slurm."""
    found = ends(place.by_slurm(*command(stopped.run.path)))
    assert [code for code, _, _ in found] == [0, 0], found[0][2] + found[1][2]
    return stopped.run


@pytest.mark.slow
def test_a_signal_to_one_host_stops_all_at_the_same_step_with_one_checkpoint(stopped, one):
    assert [code for code, _, _ in stopped.ends] == [75, 75], stopped.ends
    last = stopped.steps[-1]
    assert stopped.steps == list(range(1, last + 1)) and 2 <= last < len(one.train_rows())
    assert stopped.checkpoints[-1][0] == last
    assert sum(kind == "resume" for _, kind in stopped.checkpoints) <= 1


@pytest.mark.slow
def test_only_the_first_host_writes_and_talks(stopped):
    assert stopped.status["state"] == "preempted" and stopped.status["pid"] == stopped.pids[0]
    (_, out, _), (_, silent, signalled) = stopped.ends
    assert "preempted" in out and silent == ""
    assert [line for line in signalled.splitlines() if line] == [
        "SIGTERM: saving and stopping; press Ctrl-C again to stop at once"
    ]
    assert len(stopped.run.environment()["devices"]) == 2


@pytest.mark.slow
def test_two_hosts_that_were_stopped_and_resumed_train_what_one_process_does(resumed, one):
    found, expected = rows(resumed), rows(one)
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert row.pop("metrics") == pytest.approx(other.pop("metrics"), rel=1e-4, abs=1e-6)
        assert row == other
    assert any(row["phase"] == "rl" and row["ledger"]["flops"]["update"] for row in found)


@pytest.mark.slow
def test_one_process_restores_what_two_hosts_saved(resumed, one):
    kept = [[(m["step"], m["kind"], m["thresholds"]) for m in run.manifests()] for run in (resumed, one)]
    assert kept[0] == kept[1] and verify(resumed.path) == []
    (end,) = names(one, ["end"])
    config = small(*SMALL)
    two, alone = (jax.tree.leaves(state(run, config, end)) for run in (resumed, one))
    assert all(np.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(two, alone, strict=True))


@pytest.mark.slow
def test_two_hosts_give_the_same_answers_to_every_problem(resumed, one):
    assert resumed.evaluation_names() == one.evaluation_names() == [m["name"] for m in one.manifests()]
    for name in one.evaluation_names():
        timeless = {"seconds": None, "compile_seconds": None}
        found, expected = ([row | timeless for row in run.evaluation_rows(name)] for run in (resumed, one))
        assert found == expected
    assert check(resumed.path, problems=4, budgets=[4]) == []


@pytest.mark.slow
def test_bad_input_ends_all_hosts_and_is_said_once(place):
    (code, out, err), silent = ends(place.by_flags("-m", "scaling", "train", place.folder / "none", "nope"))
    assert (code, out) == (2, "") and err.startswith("nope: neither a preset") and len(err.splitlines()) == 1
    assert silent == (2, "", "")


ALONE_IN_TROUBLE = """
import sys
from scaling import hosts
hosts.LEAVING_SECONDS = 1
with hosts.joined(hosts.Cluster(sys.argv[3], 2, int(sys.argv[7]))):
    if hosts.is_first() == (sys.argv[1] == "first"):
        raise RuntimeError("in trouble")
    hosts.first(lambda: hosts.any_host(False))
"""


@pytest.mark.slow
@pytest.mark.parametrize("who", ["first", "other"])
def test_a_host_that_fails_alone_says_why_and_ends_the_others(place, who):
    found = ends(place.by_flags("-c", ALONE_IN_TROUBLE, who))
    assert all(code != 0 for code, _, _ in found)
    assert "RuntimeError: in trouble" in found[0 if who == "first" else 1][2]


def test_the_errors_of_a_decision_survive_the_way_to_other_hosts():
    again = pickle.loads(pickle.dumps(ConfigError(["a = 1: must be 2", "b"])))
    assert again.lines == ("a = 1: must be 2", "b")
