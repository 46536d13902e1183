"""What a config will cost and save, before anything is spent."""

from __future__ import annotations

import random
from typing import Any

from scaling import flops, schedule
from scaling.config import Config, StageConfig, samples_at
from scaling.tasks import Task, make_task

SAMPLED = 64
"""Problems, and demonstrations, whose lengths stand for all others."""


def plan(config: Config) -> dict[str, Any]:
    """Parameters, FLOPs by phase, thresholds on both axes and the test grid, as plain data.

    The warm start is estimated from a sample of demonstrations; RL steps and evaluations are bounds, taken as
    if every completion used its whole budget. Evaluation is not train compute.
    """
    task = make_task(config.task)
    vocab = len(task.vocab)
    stages = [
        {"demo": stage.demo, "steps": stage.steps, "flops": stage_flops(config, task, stage)}
        for stage in config.warm_start.stages
    ]
    warm = sum(stage["flops"] for stage in stages)
    step = sum(step_flops(config, task, budget) for budget in config.rl.budgets) / len(config.rl.budgets)
    grid = config.schedule
    thresholds = {
        "train": schedule.grid(grid.first, warm + config.rl.flops, grid.train_points_per_decade),
        "rl": schedule.grid(grid.rl_first, config.rl.flops, grid.points_per_decade),
    }
    cells = [{"budget": budget, "samples": samples_at(config, budget)} for budget in config.evaluation.budgets]
    return {
        "parameters": flops.total_params(config.model, vocab),
        "matrix_parameters": flops.matmul_params(config.model, vocab),
        "warm_start": {"flops": warm, "stages": stages},
        "rl": {"flops": config.rl.flops, "steps_at_least": -(-config.rl.flops // step)},
        "thresholds": thresholds,
        "checkpoints_at_most": len(thresholds["train"]) + len(thresholds["rl"]) + 2,
        "evaluation": {
            "problems": config.evaluation.problems,
            "grid": cells,
            "flops_a_checkpoint_at_most": evaluation_flops(config, task),
        },
    }


def stage_flops(config: Config, task: Task, stage: StageConfig) -> int:
    """Estimated FLOPs of a stage of the warm start: its examples × the mean over sampled demonstrations."""
    costs = []
    for index in range(SAMPLED):
        problem = task.problem(config.seed, "train", index)
        demonstration = task.demonstrate(problem, stage.demo, stage.budget, random.Random(index))
        fed = len(problem.prompt) + len(demonstration.tokens) - 1
        costs.append(flops.train_sequence(config.model, len(task.vocab), fed))
    return stage.steps * stage.batch * sum(costs) // SAMPLED


def step_flops(config: Config, task: Task, budget: int) -> int:
    """FLOPs of one RL step in which every completion uses its whole budget and answer."""
    model, vocab, prompt = config.model, len(task.vocab), task.prompt_tokens
    generated = _longest(task, budget)
    sequences = config.rl.problems * config.rl.samples
    rollout = config.rl.problems * flops.prefill(model, vocab, prompt)
    rollout += sequences * flops.decode(model, vocab, prompt, generated)
    fed = prompt + generated - 1
    update = sequences * flops.train_sequence(model, vocab, fed)
    reference = sequences * flops.sequence(model, vocab, 0, fed) if config.rl.kl else 0
    return rollout + update + reference


def evaluation_flops(config: Config, task: Task) -> int:
    """FLOPs of evaluating one checkpoint as if every setting of the grid were sampled on its own."""
    model, vocab, prompt = config.model, len(task.vocab), task.prompt_tokens
    decodes = sum(
        samples_at(config, budget)[-1] * flops.decode(model, vocab, prompt, _longest(task, budget))
        for budget in config.evaluation.budgets
    )
    return config.evaluation.problems * (flops.prefill(model, vocab, prompt) + decodes)


def _longest(task: Task, budget: int) -> int:
    """Most tokens of a completion: thinking, the answer mark, the answer."""
    return budget + 1 + task.answer_tokens


def describe(facts: dict[str, Any]) -> str:
    """The plan as a person reads it."""
    warm, rl, evaluation = facts["warm_start"], facts["rl"], facts["evaluation"]
    lines = [f"{facts['parameters']:,} parameters, {facts['matrix_parameters']:,} in matrix products", ""]
    lines += [f"warm start      {warm['flops']:9.2e} FLOPs (estimated)"]
    lines += [f"  {s['demo']:<12} {s['steps']:>6,} steps {s['flops']:9.2e}" for s in warm["stages"]]
    lines += [f"RL              {rl['flops']:9.2e} FLOPs, at least {rl['steps_at_least']:,.0f} steps", ""]
    lines += [f"checkpoints, at most {facts['checkpoints_at_most']}, when these FLOPs have been spent:"]
    for axis, name in (("train", "from the start"), ("rl", "from RL's start")):
        lines += [f"  {name:<16} {' '.join(f'{c:.2g}' for c in facts['thresholds'][axis]) or 'none'}"]
    cost = evaluation["flops_a_checkpoint_at_most"]
    lines += ["", f"each evaluated on {evaluation['problems']:,} problems, at most {cost:.2e} FLOPs:"]
    lines += [f"  budget {cell['budget']:>6} samples {cell['samples']}" for cell in evaluation["grid"]]
    return "\n".join(lines)
