"""A run that is interrupted, wherever and however, ends with what an undisturbed one ends with, bit for bit."""

import random
import shutil

import pytest

from scaling.check import check
from scaling.checkpoints import verify
from scaling.records import Run
from tests.reliability.killing import disturbed, finished, interrupt_twice, kill, progress, terminate
from tests.reliability.tiny_runs import ALL, SEED, here, record, sample, verdict

pytestmark = pytest.mark.slow  # a whole run, and what goes on from it

GRID = 4, (0, 4)
MOMENTS = 12
"""States of the sample."""
ENDS = [kill, terminate, kill, interrupt_twice]
KILLS = 50


def test_the_run_of_the_bench_learns_and_is_sound(undisturbed):
    run = undisturbed.run
    rows = run.train_rows()
    assert [row["metrics"].get("grad_norm", 0) > 0 for row in rows if row["phase"] == "rl"].count(True) >= 2
    assert check(run.path, *GRID) == verify(run.path) == []
    assert {manifest["kind"] for manifest in run.manifests()} == {"threshold", "start", "end"}


def test_from_every_state_that_a_kill_can_leave_the_run_goes_on_to_the_same_end(undisturbed, tmp_path):
    """Every file operation of the run is a moment at which it may be killed, half-written rows included."""
    expected = record(undisturbed.run)
    assert len(undisturbed.moments) > 50
    for moment in sample(undisturbed.moments, MOMENTS):
        path = shutil.copytree(moment, tmp_path / moment.parent.name / "run")
        code, _, err = here("run", path)
        assert code == 0, f"{moment.parent.name}: {err}"
        assert record(Run(path)) == expected, moment.parent.name
        assert check(path, *GRID) == [], moment.parent.name
        shutil.rmtree(path.parent)


def test_processes_ended_at_random_moments_come_to_the_same_end_and_verdict(tmp_path):
    """kill -9, SIGTERM and Ctrl-C twice, on real processes, with the report at the end."""
    calm = finished(tmp_path / "calm" / "run")
    ends = [kill] * (KILLS - len(ENDS)) + ENDS if ALL else ENDS
    path = tmp_path / "disturbed" / "run"
    stood = disturbed(path, ends, progress(calm), random.Random(SEED))
    run = finished(path)
    assert record(run) == record(calm), f"RELIABILITY_SEED={SEED}, ended at rows {stood}"
    assert verdict(run) == verdict(calm), f"RELIABILITY_SEED={SEED}"
    assert check(path, *GRID) == verify(path) == []
