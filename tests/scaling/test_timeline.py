"""When thresholds are reached: the steps of a real run, and seconds that add up."""

import dataclasses

import pytest
from small_runs import small

from scaling import config as configs
from scaling import costs, flops, timeline
from scaling.accelerators import ACCELERATORS
from scaling.tasks import make_task

STAGES = (costs.Stage("drill", (10, 10, 10), exact=True), costs.Stage("trace", (20, 20), exact=True))
COSTS = costs.Costs(STAGES, ({"update": 80}, {"update": 20}), ({"update": 40}, {"update": 10}))
RATES = timeline.Rates("by hand", (1.0, 3.0), (2.0, 1.0), (5.0, 2.0), evaluation=100.0, checkpoint=7.0)
CONFIG = configs.load(
    "tiny", ["rl.flops=100", "schedule.first=10", "schedule.rl_first=10", "schedule.points_per_decade=1"]
)


def test_warm_start_thresholds_are_at_the_steps_at_which_a_run_saved_them(whole):
    config = small()
    found = timeline.milestones(config, costs.costs(config), None)["rows"]
    planned = {row["flops"]: row["step"] for row in found if row["phase"] == "warm_start"}
    saved = {
        c: m["step"] for m in whole.manifests() if m["phase"] == "warm_start" for c in m["thresholds"]["train"]
    }
    assert planned and planned == saved


def test_seconds_are_those_of_the_steps_so_far_and_of_the_evaluations_before():
    found = timeline.milestones(CONFIG, COSTS, RATES)
    rows = [(row["axis"], row["flops"], row["step"]) for row in found["rows"]]
    # The warm start has 5 steps and 70 FLOPs; a cycle of two RL steps has 50 FLOPs and takes 10 seconds.
    assert rows == [("train", 10, 1), ("rl", 10, 6), ("train", 100, 6), ("rl", 100, 9)]
    assert [row["train_seconds"] for row in found["rows"]] == pytest.approx([1, 9 + 2, 9 + 6, 9 + 20])
    # Checkpoints after steps 1, 5 (the start of RL), 6 and 9 (a threshold and the end).
    assert [row["seconds"] - row["train_seconds"] for row in found["rows"]] == pytest.approx([0, 214, 214, 321])
    assert found["checkpoints"] == 4
    assert found["seconds"] == pytest.approx(found["train_seconds"] + 4 * 107)


def test_without_rates_there_are_steps_and_no_seconds():
    found = timeline.milestones(CONFIG, COSTS, None)
    assert "seconds" not in found and all("seconds" not in row for row in found["rows"])


def sheet(config, mesh, share=0.5, **changes):
    device = dataclasses.replace(ACCELERATORS["h100"], **changes)
    return timeline.from_data_sheet(config, costs.costs(config), device, mesh, share)


def test_training_takes_its_flops_at_the_assumed_share_of_all_devices_peak():
    config, mesh = configs.load("tiny"), {"data": 2, "fsdp": 3, "tensor": 1}
    cost, rates = costs.costs(config), sheet(config, mesh, share=0.25)
    speed = 6 * 0.25 * ACCELERATORS["h100"].flops
    for stage, seconds in zip(cost.stages, rates.warm_start, strict=True):
        assert seconds * len(stage.flops) * speed == pytest.approx(sum(stage.flops))
    assert rates.update[0] * speed == pytest.approx(cost.expected[0]["update"])


def test_decoding_is_bounded_by_memory_and_by_arithmetic():
    config, mesh = configs.load("tiny"), {"data": 1, "fsdp": 1, "tensor": 1}
    task, rl, budget = make_task(config.task), config.rl, config.rl.budgets[0]
    generated = max(length for _, length in costs.like_demonstrations(config, task, budget))
    assert generated > budget
    read = timeline.bytes_a_token(
        config, len(task.vocab), mesh, rl.problems * rl.samples, task.prompt_tokens + generated / 2
    )
    slow_memory = sheet(config, mesh, bandwidth=1e6).rollout[0]
    assert slow_memory == pytest.approx(generated * read / 1e6)
    slow_cores = sheet(config, mesh, flops=1e6).rollout[0]
    work = flops.decode(config.model, len(task.vocab), task.prompt_tokens, generated + 1)
    assert slow_cores == pytest.approx(rl.problems * rl.samples * work / 0.5e6)


def test_a_token_reads_all_weights_and_its_own_cache():
    config = configs.load("tiny", ["model.dtype=bfloat16"])
    model, vocab = config.model, 50
    weights = 2 * flops.matmul_params(model, vocab)
    one, two = ({"data": n, "fsdp": 1, "tensor": 1} for n in (1, 2))
    assert timeline.bytes_a_token(config, vocab, one, 0, 9) == weights
    cache = 2 * 2 * model.layers * model.kv_heads * model.head_size * 9
    assert timeline.bytes_a_token(config, vocab, one, 6, 9) == weights + 6 * cache
    assert timeline.bytes_a_token(config, vocab, two, 6, 9) == weights + 3 * cache
