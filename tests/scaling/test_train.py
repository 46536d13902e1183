"""Training: one and the same however often it is interrupted, with checkpoints where the schedule wants them."""

import itertools
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from small_runs import Killed, go, manifests, names, rows, small, state

from scaling import learner, schedule
from scaling import rl as experience
from scaling.recipes import RECIPES
from scaling.records import Run
from scaling.tracking import Terminal
from scaling.train import TrainingError

WARM = sum(stage.steps for stage in small().warm_start.stages)


def test_every_row_adds_up_and_the_phases_follow_one_another(whole):
    found = whole.train_rows()
    assert [row["step"] for row in found] == list(range(1, len(found) + 1))
    assert [row["phase"] for row in found] == ["warm_start"] * WARM + ["rl"] * (len(found) - WARM)
    assert [row["phase_step"] for row in found] == [*range(1, WARM + 1), *range(1, len(found) - WARM + 1)]
    assert [row["budget"] for row in found[WARM : WARM + 4]] == [8, 5, 8, 5]
    for before, row in itertools.pairwise([{"train_flops": 0, "rl_flops": 0}, *found]):
        spent = row["ledger"]["flops"]
        assert row["train_flops"] == sum(spent.values()) > before["train_flops"]
        assert row["rl_flops"] == sum(spent[phase] for phase in ("rollout", "update", "reference"))
        assert (row["rl_flops"] > before["rl_flops"]) == (row["phase"] == "rl")
    rl = found[-1]
    assert rl["ledger"]["flops"]["update"] > 0 and rl["metrics"]["zero_variance_fraction"] < 1
    learnt = 0
    for row in found[WARM:]:
        update, measured = row["ledger"]["flops"]["update"], row["metrics"].get("mismatch")
        assert (update > learnt) == (measured is not None), "what did not happen is not measured"
        assert measured is None or measured < 1e-4
        learnt = update
    assert sum(row["metrics"]["seconds"] for row in found) == pytest.approx(sum(rl["ledger"]["seconds"].values()))
    fed = sum(row["metrics"]["tokens_per_second"] * row["metrics"]["seconds"] for row in found)
    assert fed == pytest.approx(sum(rl["ledger"]["tokens"].values()))


def test_thresholds_are_those_that_the_schedule_lays_over_the_ledger(whole):
    found, settings = whole.train_rows(), small().schedule
    for axis, spacing, first in (
        ("train", settings.train_points_per_decade, settings.first),
        ("rl", settings.points_per_decade, settings.rl_first),
    ):
        flops = {row["step"]: row[f"{axis}_flops"] for row in found}
        targets = [(m["step"], target) for m in whole.manifests() for target in m["thresholds"][axis]]
        assert [t for _, t in targets] == schedule.crossed(0, found[-1][f"{axis}_flops"], spacing, first)
        for step, target in targets:
            assert flops.get(step - 1, 0) < target <= flops[step]
    by_step = {row["step"]: row for row in found}
    for manifest in whole.manifests():
        row = by_step[manifest["step"]]
        assert all(manifest[name] == row[name] for name in ("train_flops", "rl_flops"))
        assert manifest["ledger"]["flops"] == row["ledger"]["flops"]
    several = [m for m in whole.manifests() if len(m["thresholds"]["rl"]) > 1]
    assert several[0]["step"] == WARM + 1  # the first step of RL crosses more than one


def test_the_state_before_rl_is_kept_and_the_run_ends_at_the_first_step_that_reaches_its_compute(whole):
    start = next(m for m in whole.manifests() if m["kind"] == "start")
    assert (start["step"], start["rl_flops"], start["phase"], start["phase_step"]) == (WARM, 0, "rl", 0)
    last, end = whole.train_rows()[-2:], whole.manifests()[-1]
    assert last[0]["rl_flops"] < small().rl.flops <= last[1]["rl_flops"]
    assert (end["kind"], end["step"]) == ("end", last[1]["step"])
    assert {m["kind"] for m in whole.manifests()} == {"threshold", "start", "end"}


def test_checkpoints_hold_parameters_and_an_optimiser_that_is_fresh_when_rl_begins(whole):
    hashes = [manifest["hashes"] for manifest in whole.manifests()]
    for before, after in itertools.pairwise(hashes):
        for part in ("params/", "opt_state/"):
            assert any(before[leaf] != after[leaf] for leaf in before if leaf.startswith(part))
    fresh = state(whole, small(), names(whole, ["start"])[0])["opt_state"]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(fresh))


def test_a_run_that_is_done_takes_no_further_step(whole, tmp_path):
    path = shutil.copytree(whole.path, tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    assert go(path, small()) == "done"
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()} == before


def assert_same(run: Run, whole: Run):
    assert rows(run) == rows(whole)
    assert manifests(run) == manifests(whole)


@pytest.mark.parametrize("step", [0, 1, WARM - 1, WARM, WARM + 1, WARM + 4])
def test_stopped_and_resumed_is_uninterrupted(whole, tmp_path, step):
    run = Run(tmp_path / "run")
    assert go(run.path, small(), stop_at=step) == "preempted"
    newest = run.manifests()[-1]
    assert newest["step"] == step
    assert newest["kind"] in ("resume", "start", "threshold")
    assert len(run.train_rows()) == step
    assert go(run.path, small()) == "done"
    assert_same(run, whole)


def test_stopped_again_and_again(whole, tmp_path):
    for step in range(0, len(whole.train_rows()), 3):
        assert go(tmp_path / "run", small(), stop_at=step) == "preempted"
    assert go(tmp_path / "run", small()) == "done"
    assert_same(Run(tmp_path / "run"), whole)


@pytest.mark.parametrize("step", [0, 3, WARM, WARM + 1, WARM + 4])
def test_killed_and_resumed_is_uninterrupted(whole, tmp_path, step):
    """What no checkpoint holds is done again: rows past it, a torn last row and half a checkpoint go."""
    run = Run(tmp_path / "run")
    with pytest.raises(Killed):
        go(run.path, small(), kill_at=step)
    assert len(run.train_rows()) == step
    run.append_train(whole.train_rows()[step : step + 2])  # never in a checkpoint
    with open(run.train_file, "ab") as file:
        file.write(b'{"step": 99, "pha')
    (run.checkpoints / f"{step + 2:08d}" / "params").mkdir(parents=True)
    assert go(run.path, small()) == "done"
    assert_same(run, whole)
    assert len(run.train_file.read_text().splitlines()) == len(whole.train_rows())


def test_a_damaged_checkpoint_is_set_aside_and_the_run_goes_on_from_an_older_one(whole, tmp_path):
    run = Run(shutil.copytree(whole.path, tmp_path / "run"))
    file = run.manifest_file(run.manifest_names()[-1])
    file.write_text(file.read_text().replace('"end"', '"threshold"'))
    assert go(run.path, small()) == "done"
    assert_same(run, whole)


def test_rolling_checkpoints_change_nothing_and_do_not_stay(whole, tmp_path):
    run, config = Run(tmp_path / "run"), small("schedule.resume_seconds=1e-9")
    seen = []
    with pytest.raises(Killed):
        go(run.path, config, kill_at=WARM + 4, on_checkpoint=seen.append)
    assert run.manifests()[-1]["step"] == WARM + 4
    assert go(run.path, config, on_checkpoint=seen.append) == "done"
    assert_same(run, whole)
    assert seen == names(whole, ["threshold", "start", "end"])  # rolling ones are none of the experiment's


@pytest.fixture(scope="module")
def with_kl(tmp_path_factory):
    path = tmp_path_factory.mktemp("kl") / "whole"
    assert go(path, small("rl.kl=0.3")) == "done"
    return Run(path)


def test_the_policy_that_rl_started_from_holds_it_back(whole, with_kl):
    ledger = with_kl.train_rows()[-1]["ledger"]
    assert 3 * ledger["flops"]["reference"] == ledger["flops"]["update"] > 0
    assert whole.train_rows()[-1]["ledger"]["flops"]["reference"] == 0
    kl = [row["metrics"]["kl"] for row in with_kl.train_rows()[WARM:] if "kl" in row["metrics"]]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[-1] > 1e-6


@pytest.mark.parametrize("step", [WARM, WARM + 3])
def test_resumed_with_a_reference_is_uninterrupted(with_kl, tmp_path, step):
    assert go(tmp_path / "run", small("rl.kl=0.3"), stop_at=step) == "preempted"
    assert go(tmp_path / "run", small("rl.kl=0.3")) == "done"
    assert_same(Run(tmp_path / "run"), with_kl)


def test_a_reference_that_is_lost_is_said(with_kl, tmp_path):
    run = Run(shutil.copytree(with_kl.path, tmp_path / "run"))
    (start,) = names(run, ["start"])
    run.manifest_file(start).unlink()
    with pytest.raises(TrainingError, match=r"rl\.kl: the policy that RL started from is needed"):
        go(run.path, small("rl.kl=0.3"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_a_step_without_a_warm_start(recipe, tmp_path):
    config = small("warm_start.stages=[]", f"rl.recipe={recipe}", "rl.flops=1", "rl.warmup_steps=0")
    assert go(tmp_path / "run", config) == "done"
    run = Run(tmp_path / "run")
    assert [(m["step"], m["kind"], m["rl_flops"] > 0) for m in run.manifests()] == [
        (0, "start", False),
        (1, "end", True),
    ]
    before, after = (manifest["hashes"] for manifest in run.manifests())
    assert all(before[leaf] != after[leaf] for leaf in before if leaf.startswith("params/"))
    (row,) = run.train_rows()
    assert row["metrics"]["grad_norm"] > 0 and row["train_flops"] == row["rl_flops"]
    assert row["metrics"]["learning_rate"] == config.rl.learning_rate


def test_without_a_warm_start_the_reference_is_the_model_as_it_was_made(tmp_path):
    config = small("warm_start.stages=[]", "rl.kl=0.3", "rl.flops=5e7")
    run = Run(tmp_path / "whole")
    assert go(run.path, config) == "done"
    assert len(run.train_rows()) > 1 and max(row["metrics"].get("kl", 0) for row in run.train_rows()) > 0
    assert go(tmp_path / "run", config, stop_at=1) == "preempted"
    assert go(tmp_path / "run", config) == "done"
    assert_same(Run(tmp_path / "run"), run)


def test_a_batch_of_rollouts_may_be_split_into_updates(tmp_path):
    config = small("warm_start.stages=[]", "rl.recipe=rloo", "rl.updates=2", "rl.flops=5e7")
    assert go(tmp_path / "run", config) == "done"
    run = Run(tmp_path / "run")
    count = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            state(run, config, run.manifest_names()[-1])["opt_state"]
        )
        if "count" in jax.tree_util.keystr(path)
    ]
    assert [int(c) for c in count] == [2 * len(run.train_rows())]
    assert go(tmp_path / "again", config, stop_at=1) == "preempted"
    assert go(tmp_path / "again", config) == "done"
    assert_same(Run(tmp_path / "again"), run)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path):
    config = small("warm_start.stages.0.learning_rate=1e30", "warm_start.warmup_steps=0")
    with pytest.raises(TrainingError, match=r"^step 2: loss .* grad_norm nan"):
        go(tmp_path / "run", config)
    assert [row["step"] for row in Run(tmp_path / "run").train_rows()] == [1]
    assert all(manifest["step"] < 2 for manifest in Run(tmp_path / "run").manifests())


def test_a_sampler_that_is_not_the_policy_is_said_once(tmp_path, monkeypatch):
    """Log-probabilities half a nat off, as a sampler of older weights would give them."""
    honest, said = experience.sample, []

    def stale(*args, **options):
        return tuple(r._replace(logp_BxT=r.logp_BxT - 0.5 * (r.logp_BxT != 0)) for r in honest(*args, **options))

    config = small("warm_start.stages=[]")
    monkeypatch.setattr(Terminal, "message", lambda self, text: said.append(text))
    go(tmp_path / "honest", config)
    assert not any("sampler and trainer" in text for text in said)
    monkeypatch.setattr(experience, "sample", stale)
    go(tmp_path / "stale", config)
    assert sum("sampler and trainer differ by 0.5 nats a token" in text for text in said) == 1


def compilations(run: Callable[[], Any]) -> int:
    """Programs that were compiled while `run` ran."""
    found = [0]

    def listen(event: str, duration: float, **_: Any) -> None:
        found[0] += event.endswith("backend_compile_duration")

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return found[0]


@pytest.mark.slow
def test_nothing_is_compiled_twice(tmp_path, monkeypatch):
    """Budgets and lengths of several kinds: as many programs as shapes, and none at all the second time."""
    config = small("rl.budgets=[40, 8, 5]", "rl.flops=4e8")
    shapes, learnt = set(), learner.accumulate

    def recorded(*args, **options):
        shapes.add((options["recipe"], args[4].tokens_BxT.shape))
        return learnt(*args, **options)

    monkeypatch.setattr(learner, "accumulate", recorded)
    before = learnt._cache_size()
    go(tmp_path / "first", config)
    assert len(shapes) >= 3 and learnt._cache_size() - before <= len(shapes)
    assert compilations(lambda: go(tmp_path / "second", config)) == 0
