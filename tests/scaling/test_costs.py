"""Costs before a run: what the ledger of that run says, to the FLOP, wherever lengths are known."""

from unittest import mock

import pytest
from small_runs import go, small

from scaling import config as configs
from scaling import costs, flops, train
from scaling.calibrate import rambling
from scaling.flops import RL_PHASES
from scaling.learner import initial_state
from scaling.recipes import MOST_DRAWS
from scaling.records import Run
from scaling.rl import RL_FIRST_PROBLEM
from scaling.tasks import make_task
from scaling.tiers import samples_at


def spent(rows: list) -> list[dict[str, int]]:
    """FLOPs by phase of each step."""
    before = [dict.fromkeys(flops.COMPUTE_PHASES, 0), *(row["ledger"]["flops"] for row in rows)]
    return [
        {phase: row["ledger"]["flops"][phase] - last[phase] for phase in flops.COMPUTE_PHASES}
        for last, row in zip(before, rows, strict=False)
    ]


def test_every_step_of_the_warm_start_costs_what_a_run_spends_on_it(whole):
    stages = costs.costs(small()).stages
    planned = [cost for stage in stages for cost in stage.flops]
    assert all(stage.exact for stage in stages)
    assert planned == [step["warm_start"] for step in spent(whole.train_rows())][: len(planned)]


def test_a_long_stage_is_estimated_from_steps_of_its_own(whole, monkeypatch):
    exact = costs.costs(small()).stages
    monkeypatch.setattr(costs, "COUNTED", 0)
    estimated = costs.costs(small()).stages
    assert not any(stage.exact for stage in estimated)
    for found, right in zip(estimated, exact, strict=True):
        assert len(found.flops) == len(right.flops)
        assert sum(found.flops) == pytest.approx(sum(right.flops), rel=0.01)


def test_an_rl_step_costs_exactly_what_a_run_spends_where_every_completion_uses_its_budget(tmp_path):
    config = small(
        *("warm_start.stages=[]", "rl.learning_rate=1e-30"),
        *("rl.recipe=grpo", "rl.kl=0.1", "rl.budgets=[5]", "rl.flops=6e7"),
    )
    task = make_task(config.task)

    def never_ending(experiment):
        state = initial_state(experiment)
        return state | {"params": rambling(state["params"], 0.0)}

    with mock.patch.object(train, "initial_state", never_ending):
        go(tmp_path / "run", config)
    steps = spent(Run.open(tmp_path / "run").train_rows())
    assert len(steps) > 1
    for step, found in enumerate(steps):
        first = RL_FIRST_PROBLEM + step * MOST_DRAWS * config.rl.problems
        prompts = [len(task.problem(config.seed, "train", first + i).prompt) for i in range(config.rl.problems)]
        budget = config.rl.budgets[step % len(config.rl.budgets)]
        ((_, longest),) = costs.longest(task, budget)
        planned = costs.rl_step(config, len(task.vocab), [(prompt, longest) for prompt in prompts])
        assert {phase: found[phase] for phase in RL_PHASES} == planned


def test_no_rl_step_spends_more_than_its_bound(whole):
    config, cost = small(), costs.costs(small())
    steps = spent(whole.train_rows())[cost.warm_steps :]
    assert len(steps) >= costs.rl_step_at(config.rl.flops, cost.bound) > 1
    for step, found in enumerate(steps):
        bound = cost.bound[step % len(cost.bound)]
        assert all(found[phase] <= bound[phase] for phase in RL_PHASES)


def test_what_is_expected_is_within_the_bound_and_counts_every_group_once():
    config = configs.load("demo")
    cost = costs.costs(config)
    for expected, bound in zip(cost.expected, cost.bound, strict=True):
        assert all(0 <= expected[phase] <= bound[phase] for phase in RL_PHASES)
        assert expected["rollout"] > 0 < expected["update"]
    redrawn = costs.costs(configs.load("demo", ["rl.recipe=dapo"]))
    assert redrawn.expected == cost.expected
    for bound, once in zip(redrawn.bound, cost.bound, strict=True):
        assert bound == once | {"rollout": MOST_DRAWS * once["rollout"]}


def test_the_step_of_a_threshold_is_the_one_that_reaches_it():
    stage = costs.Stage("trace", (5, 7, 5), exact=True)
    cost = costs.Costs((stage,), ({"update": 10}, {"update": 30}), ({"update": 10}, {"update": 30}))
    assert [cost.warm_step_at(c) for c in (1, 5, 6, 12, 13, 17)] == [1, 1, 2, 2, 3, 3]
    found = [costs.rl_step_at(c, cost.bound) for c in (0, 1, 10, 11, 40, 41, 50, 51, 80, 81)]
    assert found == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_an_evaluation_costs_each_problem_its_samples_and_its_shorter_answers():
    config = configs.load(
        "tiny", ["evaluation.budgets=[0, 4]", "evaluation.samples=[1, 2]", "evaluation.tokens=4"]
    )
    assert [samples_at(config, budget)[-1] for budget in (0, 4)] == [2, 1]
    task, model = make_task(config.task), config.model
    vocab, prompt, answer = len(task.vocab), task.prompt_tokens, 1 + task.answer_tokens
    prefill = flops.prefill(model, vocab, prompt)
    long, short = (flops.decode(model, vocab, prompt, budget + answer) for budget in (4, 0))
    found = costs.evaluation(config, task)
    problems = config.evaluation.problems
    assert found["alone"] == problems * (prefill + long + 2 * short)
    # Sample 1 at budget 4, cut and answered again at 0; sample 2 at budget 0, in a pass of its own.
    assert found["spent"] == problems * (prefill + long + short + prefill + short)
