"""The plan adds up, says what it was asked, and its disk is what a checkpoint takes."""

import subprocess
import sys

import pytest
from small_runs import small

from scaling import config as configs
from scaling import costs, memory, plan, timeline
from scaling.tasks import make_task

RATES = timeline.Rates("by hand", (1.0, 1.0), (1.0,), (1.0,), evaluation=2.0, checkpoint=0.5)


def test_the_plan_adds_up():
    config = configs.load("demo")
    facts = plan.plan(config)
    warm = facts["warm_start"]
    assert warm["flops"] == sum(stage["flops"] for stage in warm["stages"])
    step = 10 ** (1 / config.schedule.points_per_decade)
    assert facts["thresholds"]["rl"][-1] <= config.rl.flops < facts["thresholds"]["rl"][-1] * step
    total = warm["flops"] + config.rl.flops
    assert facts["thresholds"]["train"][-1] <= total < 10 * facts["thresholds"]["train"][-1]
    assert 0 < facts["rl"]["steps_at_least"] <= facts["rl"]["steps_expected"]
    assert facts["milestones"]["checkpoints"] <= facts["checkpoints_at_most"]


def test_each_axis_has_its_own_spacing():
    both = configs.load("demo").schedule.points_per_decade
    facts = [
        plan.plan(configs.load("demo", [f"schedule.train_points_per_decade={spacing}"]))["thresholds"]
        for spacing in (1, both)
    ]
    assert set(facts[0]["train"]) < set(facts[1]["train"]) and facts[0]["rl"] == facts[1]["rl"]
    assert set(facts[1]["rl"]) <= set(facts[1]["train"])


def test_the_grid_respects_the_cap_and_keeps_the_least_number_of_samples():
    config = configs.load("demo", ["evaluation.tokens=64", "evaluation.budgets=[0, 16, 128]"])
    grid = {cell["budget"]: cell["samples"] for cell in plan.plan(config)["evaluation"]["grid"]}
    assert grid == {0: list(config.evaluation.samples), 16: [1, 4], 128: [1]}


def test_a_checkpoint_takes_the_planned_disk_and_a_few_files(whole):
    """Arrays in orbax's data files, beside them what describes each."""
    config = small()
    planned = costs.checkpoint_bytes(config, len(make_task(config.task).vocab))
    arrays, others = {}, {}
    for manifest in whole.manifests():
        files = [file for file in (whole.checkpoints / manifest["name"]).rglob("*") if file.is_file()]
        for kept, data in ((arrays, True), (others, False)):
            found = (file.stat().st_size for file in files if (file.parent.name == "d") == data)
            kept[manifest["kind"]] = sum(found)
    assert max(arrays.values()) <= 1.1 * planned  # commits at the same moment may write small arrays twice
    assert arrays["end"] >= 0.7 * planned  # that of RL's start has moments of zeros, which compress to nothing
    assert max(others.values()) < 60_000


def test_hours_are_those_of_all_devices_and_are_paid_for_each():
    facts = plan.priced(plan.plan(small(), RATES), devices=8, price=3.0)
    assert facts["device_hours"] == pytest.approx(8 * facts["milestones"]["seconds"] / 3600)
    assert facts["usd"] == pytest.approx(3.0 * facts["device_hours"])
    assert "usd" not in plan.priced(plan.plan(small(), RATES), devices=8, price=None)


def test_a_person_can_read_it(monkeypatch):
    facts = plan.plan(configs.load("tiny"))
    text = plan.describe(facts)
    assert f"{facts['parameters']:,} parameters" in text and "budget      8 samples [1, 2, 4]" in text
    assert "disk: a checkpoint" in text and "memory" not in text and "time" not in text
    for row in facts["milestones"]["rows"]:
        assert f"{row['flops']:8.2e}" in text and f"{row['step']:,}" in text

    account = {
        "devices": 8,
        "mesh": {"data": 1, "fsdp": 8, "tensor": 1},
        **dict.fromkeys(("parameters", "gradients"), 1e9),
        "optimiser": 2e9,
        "programs": {"gradient": {"temporary": 90e9, "cache": 0}, "rollout": {"temporary": 5e9, "cache": 4e9}},
        "needed": {"gradient": 94e9, "rollout": 8e9},
        **{"most": 94e9, "limit": 80e9, "usable": 72e9, "fits": False, "advice": ["microbatch = 3 is odd"]},
        "alternatives": [
            {"set": ["model.remat=true"], "needed": {"gradient": 40e9}, "fits": True},
            {"set": ["microbatch=4"], "needed": {"gradient": 73e9}, "fits": False},
        ],
    }
    monkeypatch.setattr(memory, "account", lambda *_: account)
    text = plan.describe(plan.plan_for(small(), plan.Machine(8, "h100", 0.4, price=2.0)))
    for said in (
        "DOES NOT FIT: 94 GB of 72 GB usable in 80 GB",
        "--set model.remat=true: fits (gradient 40 GB)",
        "--set microbatch=4: is not enough (gradient 73 GB)",
        "keys and values 4 GB",
        "note: microbatch = 3 is odd",
        "40% of the peak assumed",
        "device-hours",
        "USD",
    ):
        assert said in text, said


def test_a_plan_of_costs_starts_neither_jax_nor_numpy():
    code = "import sys, scaling.cli as c; c.main(['plan', 'demo']); print({'jax', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
