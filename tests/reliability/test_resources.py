"""What a machine or a task may do to a run: it ends with one line and exit code 1, nothing that was saved is lost,
and when the cause is gone the same command goes on to the end of an undisturbed run."""

import contextlib
import itertools
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scaling import evaluate, rl, room, verifying
from scaling.check import check
from scaling.checkpoints import verify
from scaling.records import Run
from scaling.tasks.root_search import RootSearch
from tests.reliability.tiny_runs import command, here, record, sample

pytestmark = pytest.mark.slow  # a whole run, and what goes on from it

GRID = 4, (0, 4)
CHUNK, FEWEST, GROUP = 8, 4, 8
"""evaluation.chunk of the bench; the samples of a problem in evaluation and in RL, which are drawn together."""


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or mount(place, "size=64m", "-t", "tmpfs", "none").returncode:
        pytest.skip("needs to mount a tmpfs, as root may")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def mount(place: Path, options: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["mount", *words, "-o", options, place], capture_output=True)


def ended(path: Path, reason: str) -> Run:
    """The run's command ends with this reason, in one line, and what was saved is sound."""
    code, _, err = here("run", path)
    lines = [line for line in err.splitlines() if reason in line]
    assert code == 1 and len(lines) == 1 and "Traceback" not in err, err
    assert err.splitlines()[-1] == lines[0] and len(lines[0]) < 500, "the reason is said last"
    run = Run(path)
    assert verify(path) == []
    return run


def goes_on(run: Run, undisturbed) -> None:
    before = set(run.manifest_names())
    code, _, err = here("run", run.path)
    assert code == 0, err
    assert before <= set(run.manifest_names())
    assert record(run) == record(undisturbed.run)
    assert check(run.path, *GRID) == []


def test_a_full_disk(undisturbed, disk):
    """Full at several places of the run: in a record, in a checkpoint, in a manifest."""
    whole = sum(file.stat().st_size for file in undisturbed.run.path.rglob("*") if file.is_file())
    for share in sample([0.15, 0.3, 0.45, 0.6, 0.75, 0.9], 2):
        path = disk / "run"
        filler = disk / "filler"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - int(share * whole) - 100_000)
        run = ended(path, "No space left on device")
        filler.unlink()
        goes_on(run, undisturbed)
        shutil.rmtree(path)


@pytest.mark.parametrize("moment", [0.3, 0.8])
def test_a_directory_that_becomes_read_only(undisturbed, disk, moment):
    path = shutil.copytree(undisturbed.moments[int(moment * len(undisturbed.moments))], disk / "run")
    mount(disk, "remount,ro")
    try:
        run = ended(path, "Read-only file system")
    finally:
        mount(disk, "remount,rw")
    goes_on(run, undisturbed)


@contextlib.contextmanager
def handles(more: int) -> Iterator[None]:
    """Only so many more files may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("more", sample([1, 2, 4, 8], 2))
def test_no_file_handles_left(undisturbed, tmp_path, more):
    """A checkpoint that cannot be opened for want of handles is not taken for damaged."""
    moment = undisturbed.moments[len(undisturbed.moments) // 2]
    path = shutil.copytree(moment, tmp_path / "run")
    saved = Run(path).manifest_names()
    with handles(more):
        code, _, err = here("run", path)
    assert code in (0, 1) and (code == 0 or "Too many open files" in err.splitlines()[-1]), err
    assert Run(path).manifest_names()[: len(saved)] == saved and not (path / "checkpoints" / "damaged").exists()
    goes_on(Run(path), undisturbed)


def cramped(monkeypatch, module, most: int) -> None:
    """A sampler that has memory for so many completions at once."""
    honest = module.sample

    def sampler(*args, **options):
        if options["chunk"] > most:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.")
        return honest(*args, **options)

    monkeypatch.setattr(module, "sample", sampler)
    monkeypatch.setattr(room, "_found", {})


def test_too_little_memory_to_sample_so_many_at_once(undisturbed, tmp_path, monkeypatch):
    cramped(monkeypatch, evaluate, FEWEST)
    cramped(monkeypatch, rl, GROUP)
    code, _, err = here("run", tmp_path / "run")
    assert code == 0, err
    said = [line for line in err.splitlines() if "out of memory" in line]
    assert [line.rpartition("): ")[2].split()[0] for line in said].count("evaluation.chunk") == 1
    found, wanted = record(Run(tmp_path / "run")), record(undisturbed.run)
    assert found["evaluations"] == wanted["evaluations"]
    for row, other in zip(found["train"], wanted["train"], strict=True):
        assert row.pop("metrics") == pytest.approx(other.pop("metrics"), rel=1e-4, abs=1e-6)
        assert row == other


@pytest.mark.parametrize("module", [evaluate, rl], ids=["evaluation", "rollouts"])
def test_too_little_memory_at_all(undisturbed, tmp_path, monkeypatch, module):
    with monkeypatch.context() as patch:
        cramped(patch, module, FEWEST - 1)
        run = ended(tmp_path / "run", "out of memory (RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.); ")
    goes_on(run, undisturbed)


def test_of_two_processes_the_second_refuses_and_names_the_first(undisturbed, tmp_path):
    path = shutil.copytree(undisturbed.run.path, tmp_path / "run")
    code = "import sys, pathlib, scaling.locks as r\nwith r.claimed(pathlib.Path(sys.argv[1])): print(); input()"
    words = [sys.executable, "-c", code, path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline()
        found, _, err = here("run", path)
        other.kill()
    named = f"process {other.pid} on {socket.gethostname()} is running it"
    assert found == 2 and named in err and len(err.splitlines()) == 1
    goes_on(Run(path), undisturbed)


def test_nobody_reads_what_it_prints(undisturbed, tmp_path):
    run = Run(tmp_path / "run")
    words = [sys.executable, "-m", "scaling", *command("train", run.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == 0 and (run.read_status() or {})["state"] == "done"
    goes_on(run, undisturbed)


def test_a_loss_that_is_not_finite(tmp_path):
    path = tmp_path / "run"
    code, _, err = here("run", path, "warm_start.stages.0.learning_rate=1e30", "warm_start.warmup_steps=0")
    run = Run(path)
    assert code == 1 and err.splitlines()[-1].startswith("step 2: loss ")
    assert [row["step"] for row in run.train_rows()] == [1] and verify(path) == []
    status = run.read_status() or {}
    assert status["state"] == "failed" and "step 2: loss" in status["reason"]
    with np.load(run.bad_batch_file(2)) as batch:
        assert len(batch["tokens_BxT"]) == 16 and batch["tokens_BxT"].any()


def ask(monkeypatch, method: str, call: int, answer) -> None:
    """The task does something else at the n-th call of a method."""
    calls, honest = itertools.count(1), getattr(RootSearch, method)

    def asked(self, *args):
        if next(calls) == call:
            answer()
        return honest(self, *args)

    monkeypatch.setattr(RootSearch, method, asked)


@pytest.mark.parametrize("call", sample([3, 50, 100, 150], 1))
def test_a_verifier_that_raises(undisturbed, tmp_path, monkeypatch, call):
    with monkeypatch.context() as patch:
        ask(patch, "verify", call, lambda: {}["nothing"])
        run = ended(tmp_path / "run", "task root_search: its verifier raises KeyError: 'nothing'")
    goes_on(run, undisturbed)


@pytest.mark.parametrize(
    ("method", "call"), sample([("problem", 30), ("problem", 60), ("problem", 100), ("demonstrate", 20)], 2)
)
def test_a_task_that_cannot_make_what_it_is_asked_for(undisturbed, tmp_path, monkeypatch, method, call):
    """Problems of the warm start, of evaluation and of RL, and demonstrations, which a thread makes."""
    with monkeypatch.context() as patch:
        ask(patch, method, call, lambda: {}["nothing"])
        run = ended(tmp_path / "run", "raises KeyError: 'nothing' (test_resources.py, line ")
    assert (run.read_status() or {})["reason"].startswith("TaskError: task root_search: making ")
    goes_on(run, undisturbed)


def test_a_verifier_that_hangs(undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(verifying, "PATIENCE_SECONDS", 1.0)
        ask(patch, "verify", 60, lambda: time.sleep(3600))
        run = ended(tmp_path / "run", "task root_search: its verifier takes more than 1 s over problem")
    goes_on(run, undisturbed)
