"""Checking names every kind of damage to a run's records, and finds nothing in a sound run."""

import json

import pytest

from scaling.check import check
from scaling.records import Run, checkpoint_name


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run", "seed: 0\n", "abc", {"time": 1.0, "command": "scaling train"})
    run.append_train([train_row(step) for step in (1, 2)])
    save(run, 2)
    run.append_evaluation("00000002", [eval_row(0, 8), eval_row(1, 8)])
    run.write_status("done", "train")
    return run


def train_row(step, flops=10):
    ledger = {"flops": {"warm_start": flops * step}, "tokens": {}, "seconds": {}}
    return {"step": step, "train_flops": flops * step, "ledger": ledger, "metrics": {"loss": 0.5}}


def eval_row(problem, budget, correct=1):
    answers = [["7", correct, True], [None, 2 - correct, False]]
    return {"problem": problem, "budget": budget, "samples": 2, "correct": correct, "answers": answers}


def manifest(step):
    return {"name": checkpoint_name(step), "step": step, "config_hash": "abc"}


def save(run, step):
    (run.checkpoints / checkpoint_name(step)).mkdir()
    run.write_manifest(manifest(step))


def test_a_sound_run_has_no_findings(run):
    assert check(run.path) == check(run.path, problems=2, budgets=[8]) == []


def tear(run):
    with open(run.train_file, "ab") as file:
        file.write(b'{"step"')


def spoil_status(run):
    run.write_status("running", "train")
    status = run.read_status()
    run.status_file.write_text(json.dumps({**status, "heartbeat": status["heartbeat"] - 3600}))


def leave_out(run):
    run.write_status("done", "report")
    run.write_manifest({**manifest(3), "kind": "end"})


DAMAGE = [
    (tear, "torn"),
    (lambda run: run.append_train([train_row(5)]), "steps 3 to 4 are missing"),
    (lambda run: run.append_train([train_row(2)]), "line 3: repeats the key (2,)"),
    (lambda run: run.append_train([train_row(0)]), "step 0 comes after step 2"),
    (lambda run: run.append_train([{**train_row(3), "train_flops": 1}]), "not the sum of its ledger"),
    (lambda run: (run.checkpoints / "00000002").rmdir(), "no directory 00000002"),
    (lambda run: run.manifest_file("00000002").write_text("{"), "not JSON"),
    (lambda run: run.write_manifest({**manifest(2), "config_hash": "xyz"}), "another config"),
    (lambda run: (run.checkpoints / "00000009").mkdir(), "has no manifest"),
    (lambda run: (run.checkpoints / "damaged" / "00000001").mkdir(parents=True), "holds 1 damaged"),
    (lambda run: run.train_file.unlink(), "ends at step 0, checkpoints at step 2"),
    (lambda run: run.append_train([{**train_row(n), "time": -n} for n in (3, 4)]), "clock goes backwards"),
    (lambda run: run.status_file.unlink(), "status.json: no such file"),
    (lambda run: run.status_file.write_text("{}"), "status.json: lacks state, stage"),
    (lambda run: run.append_evaluation("00000002", [eval_row(2, 8)]), "incomplete, 3 of 6 cells"),
    (lambda run: run.append_evaluation("00000007", [eval_row(0, 8)]), "does not exist"),
    (lambda run: run.append_evaluation("00000002", [{**eval_row(2, 8), "correct": 2}]), "do not add up"),
    (lambda run: run.write_manifest({**manifest(2), "step": 1}), "is of step 1"),
    (leave_out, "no such file, and the run is done"),
    (lambda run: run.environment_file.unlink(), "environment.json: no such file"),
    (spoil_status, "heartbeat is 3600 s old"),
]


@pytest.mark.parametrize(("damage", "finding"), DAMAGE, ids=[finding for _, finding in DAMAGE])
def test_check_names_what_is_wrong(run, damage, finding):
    damage(run)
    found = check(run.path, problems=3, budgets=[8, 16])
    assert any(finding in line for line in found), found
