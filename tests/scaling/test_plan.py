import random

import pytest

from scaling import config as configs
from scaling import flops, plan
from scaling.tasks import make_task


def test_the_plan_adds_up():
    config = configs.load("demo")
    facts = plan.plan(config)
    warm = facts["warm_start"]
    assert warm["flops"] == sum(stage["flops"] for stage in warm["stages"])
    step = 10 ** (1 / config.schedule.points_per_decade)
    assert facts["thresholds"]["rl"][-1] <= config.rl.flops < facts["thresholds"]["rl"][-1] * step
    total = warm["flops"] + config.rl.flops
    assert facts["thresholds"]["train"][-1] <= total < 10 * facts["thresholds"]["train"][-1]


def test_each_axis_has_its_own_spacing():
    both = configs.load("demo").schedule.points_per_decade
    facts = [
        plan.plan(configs.load("demo", [f"schedule.train_points_per_decade={spacing}"]))["thresholds"]
        for spacing in (1, both)
    ]
    assert set(facts[0]["train"]) < set(facts[1]["train"]) and facts[0]["rl"] == facts[1]["rl"]
    assert set(facts[1]["rl"]) <= set(facts[1]["train"])


def test_a_stage_costs_what_its_demonstrations_cost():
    config = configs.load("tiny")
    task, stage = make_task(config.task), config.warm_start.stages[1]
    costs = []
    for index in range(10_000, 10_256):  # other problems than the plan sampled
        problem = task.problem(config.seed, "train", index)
        tokens = task.demonstrate(problem, stage.demo, stage.budget, random.Random(index)).tokens
        costs.append(flops.train_sequence(config.model, len(task.vocab), len(problem.prompt) + len(tokens) - 1))
    exact = stage.steps * stage.batch * sum(costs) / len(costs)
    assert plan.stage_flops(config, task, stage) == pytest.approx(exact, rel=0.1)


def test_a_step_is_the_cost_of_its_rollouts_and_updates():
    config = configs.load("tiny")
    task = make_task(config.task)
    vocab, prompt = len(task.vocab), task.prompt_tokens
    generated = 8 + 1 + task.answer_tokens
    group = flops.prefill(config.model, vocab, prompt)
    group += config.rl.samples * flops.decode(config.model, vocab, prompt, generated)
    group += config.rl.samples * 3 * flops.sequence(config.model, vocab, 0, prompt + generated - 1)
    assert plan.step_flops(config, task, 8) == config.rl.problems * group
    with_kl = plan.step_flops(configs.load("tiny", ["rl.kl=0.1"]), task, 8)
    reference = config.rl.samples * flops.sequence(config.model, vocab, 0, prompt + generated - 1)
    assert with_kl == config.rl.problems * (group + reference)


def test_the_grid_respects_the_cap_and_keeps_the_least_number_of_samples():
    config = configs.load("demo", ["evaluation.tokens=64", "evaluation.budgets=[0, 16, 128]"])
    grid = {cell["budget"]: cell["samples"] for cell in plan.plan(config)["evaluation"]["grid"]}
    assert grid == {0: list(config.evaluation.samples), 16: [1, 4], 128: [1]}


def test_a_person_can_read_it():
    facts = plan.plan(configs.load("tiny"))
    text = plan.describe(facts)
    assert f"{facts['parameters']:,} parameters" in text and "budget      8 samples [1, 2, 4]" in text
