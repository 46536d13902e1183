"""FLOPs of the parts of a run before it is run, in the ledger's integers.

The warm start is a pure function of the seed, so a stage of few demonstrations is counted, step by step, and a
longer one estimated from some of its steps. How long completions will be is not known. A step of RL is bounded
by completions that use their whole budget, and expected to cost what it costs where completions are as long as
the demonstrations that the model was last taught by, cut at the budget. This module starts without JAX and NumPy.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil

from scaling import flops
from scaling.config import Config, StageConfig
from scaling.recipes import RECIPES
from scaling.tasks import (
    Problem,
    Task,
    demonstrations,
    make_demonstration,
    make_problem,
    make_task,
    warm_start_problems,
)
from scaling.tiers import samples_at, tiers

COUNTED = 4096
"""Demonstrations up to which a stage is counted and not estimated; half a second."""
SAMPLED = 256
"""Demonstrations, and completions, whose lengths stand for all others."""


@dataclass(frozen=True)
class Stage:
    """A stage of the warm start."""

    demo: str
    flops: tuple[int, ...]
    """Of each step."""
    exact: bool


@dataclass(frozen=True)
class Costs:
    stages: tuple[Stage, ...]
    bound: tuple[dict[str, int], ...]
    """FLOPs by phase of an RL step at each place in the cycle of budgets, every completion using its budget."""
    expected: tuple[dict[str, int], ...]
    """The same with completions as long as demonstrations."""

    @property
    def warm_start(self) -> int:
        return sum(sum(stage.flops) for stage in self.stages)

    @property
    def warm_steps(self) -> int:
        return sum(len(stage.flops) for stage in self.stages)

    def warm_step_at(self, compute: float) -> int:
        """The step of the warm start, from 1, that reaches this many FLOPs since the first of all."""
        reached = list(accumulate(cost for stage in self.stages for cost in stage.flops))
        return bisect_left(reached, compute) + 1


def rl_step_at(compute: float, cycle: Sequence[dict[str, int]]) -> int:
    """The step of RL, from 1, that reaches this many FLOPs since RL's first, with steps of these FLOPs in turn; 0
    for none."""
    reached = list(accumulate(sum(step.values()) for step in cycle))
    whole = max(ceil(compute / reached[-1]) - 1, 0)
    left = compute - whole * reached[-1]
    return whole * len(cycle) + bisect_left(reached, left) + 1 if left > 0 else 0


def costs(config: Config) -> Costs:
    """What the training steps of a config cost. Raises ConfigError for what its task refuses."""
    task = make_task(config.task)
    vocab, budgets = len(task.vocab), config.rl.budgets
    bound = {b: rl_step(config, vocab, longest(task, b)) for b in set(budgets)}
    expected = {b: rl_step(config, vocab, like_demonstrations(config, task, b), draws=1) for b in set(budgets)}
    return Costs(
        tuple(_stage(config, task, i) for i in range(len(config.warm_start.stages))),
        tuple(bound[b] for b in budgets),
        tuple(expected[b] for b in budgets),
    )


def _stage(config: Config, task: Task, place: int) -> Stage:
    stage = config.warm_start.stages[place]
    before = sum(earlier.steps for earlier in config.warm_start.stages[:place])
    exact = stage.steps * stage.batch <= COUNTED
    counted = stage.steps if exact else min(stage.steps, max(SAMPLED // stage.batch, 1))
    steps = [before + i * stage.steps // counted for i in range(counted)]
    found = [warm_step(config, task, stage, step) for step in steps]
    return Stage(stage.demo, tuple(found) if exact else (sum(found) // counted,) * stage.steps, exact)


def warm_step(config: Config, task: Task, stage: StageConfig, step: int) -> int:
    """FLOPs of step `step` (from 0) of the warm start, which belongs to this stage."""
    problems = warm_start_problems(config, task, stage, step)
    demos = demonstrations(task, problems, stage, f"{config.seed}/{step}")
    return sum(
        flops.train_sequence(config.model, len(task.vocab), len(problem.prompt) + len(demo.tokens) - 1)
        for problem, demo in zip(problems, demos, strict=True)
    )


Lengths = Sequence[tuple[int, int]]
"""Tokens of a prompt and of a completion, a pair a problem."""


def longest(task: Task, budget: int) -> Lengths:
    """The longest prompt, and a completion of its whole budget, the answer mark and the longest answer."""
    return [(task.prompt_tokens, budget + 1 + task.answer_tokens)]


def like_demonstrations(config: Config, task: Task, budget: int) -> Lengths:
    """Lengths of demonstrations of the last stage, cut at the budget; of whole budgets where there is none."""
    found = [(len(problem.prompt), len(tokens)) for problem, tokens in last_taught(config, task, budget)]
    return found or longest(task, budget)


def last_taught(config: Config, task: Task, budget: int) -> list[tuple[Problem, tuple[int, ...]]]:
    """Problems, and demonstrations of the last stage of the warm start cut at the budget; none without one."""
    if not config.warm_start.stages:
        return []
    demo = config.warm_start.stages[-1].demo
    problems = [make_problem(task, config.seed, "train", index) for index in range(SAMPLED)]
    return [
        (problem, make_demonstration(task, problem, demo, budget, random.Random(index)).tokens)
        for index, problem in enumerate(problems)
    ]


def rl_step(config: Config, vocab: int, completions: Lengths, draws: int | None = None) -> dict[str, int]:
    """FLOPs by phase of an RL step whose problems and completions are like these.

    Exact where these are the step's own problems and all completions of one are equally long. Problems are drawn
    `draws` times, or as often as the recipe may at most, and every group is learned from.
    """
    model, samples, rollout, fed = config.model, config.rl.samples, 0, 0
    for prompt, generated in completions:
        rollout += flops.prefill(model, vocab, prompt) + samples * flops.decode(model, vocab, prompt, generated)
        fed += samples * flops.sequence(model, vocab, 0, prompt + generated - 1)
    rollout *= RECIPES[config.rl.recipe].draws if draws is None else draws
    phases = {"rollout": rollout, "update": 3 * fed, "reference": fed if config.rl.kl else 0}
    return {phase: config.rl.problems * cost // len(completions) for phase, cost in phases.items()}


def evaluation(config: Config, task: Task) -> dict[str, int]:
    """FLOPs of evaluating one checkpoint where every completion uses its whole budget.

    `alone`: each setting sampled on its own, the axis of test compute. `spent`: as it is done, each problem
    sampled once at the largest budget that a sample serves and answered again at the smaller ones.
    """
    model, vocab, prompt, problems = config.model, len(task.vocab), task.prompt_tokens, config.evaluation.problems
    answer, prefill = 1 + task.answer_tokens, flops.prefill(config.model, vocab, prompt)
    budgets = config.evaluation.budgets
    decode = {b: flops.decode(model, vocab, prompt, b + answer) for b in budgets}
    again = {b: flops.sequence(model, vocab, prompt + b, prompt + b + answer - 1) for b in budgets}
    alone = prefill + sum(samples_at(config, b)[-1] * decode[b] for b in budgets)
    spent = 0
    for tier in tiers(config):
        *shorter, largest = tier.budgets
        spent += prefill + tier.samples * (decode[largest] + sum(again[b] for b in shorter))
    return {"alone": problems * alone, "spent": problems * spent}


def checkpoint_bytes(config: Config, vocab: int) -> int:
    """Bytes of one checkpoint: parameters and two moments of each, float32, before orbax compresses them."""
    return 3 * 4 * flops.total_params(config.model, vocab)
