"""When a run reaches its thresholds of compute: steps from its costs, seconds from rates.

Rates come from a calibration on this machine (`scaling.calibrate`) or from an accelerator's data sheet: matrix
products at a share of the peak, and decoding at what is slower, that or reading the weights and the cache from
memory for each token. Communication between devices is in the share. RL is taken to be as fast, in FLOPs a
second, as with completions like demonstrations; how many FLOPs it has is given. Compilation is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaling import flops, schedule
from scaling.accelerators import Accelerator
from scaling.config import Config
from scaling.costs import Costs, like_demonstrations, rl_step_at
from scaling.tasks import make_task
from scaling.tiers import tiers

UTILISATION = 0.4
"""Share of the peak that training reaches where nothing is measured: PaLM reported .46, Llama 3 .38 to .43
(arXiv 2204.02311, 2407.21783)."""


@dataclass(frozen=True)
class Rates:
    """Seconds."""

    source: str
    warm_start: tuple[float, ...]
    """Of a step of each stage."""
    rollout: tuple[float, ...]
    """Of sampling and judging at each place in the cycle of RL's budgets."""
    update: tuple[float, ...]
    """Of learning there, from completions as long as demonstrations."""
    evaluation: float
    """Of evaluating a checkpoint."""
    checkpoint: float
    """Of saving one, and reading it for its evaluation."""


def thresholds(config: Config, warm: int) -> dict[str, list[float]]:
    """The thresholds that a run crosses, FLOPs by axis, where its warm start takes `warm` FLOPs."""
    grid = config.schedule
    return {
        "train": schedule.grid(grid.first, warm + config.rl.flops, grid.train_points_per_decade),
        "rl": schedule.grid(grid.rl_first, config.rl.flops, grid.points_per_decade),
    }


def milestones(config: Config, costs: Costs, rates: Rates | None) -> dict[str, Any]:
    """The thresholds in the order they are reached, each with the step and seconds expected there.

    `train_seconds` is training alone, `seconds` has the checkpoints and evaluations before in it, as
    `scaling run` makes them. Without rates there are no seconds.
    """
    warm = costs.warm_start
    targets = thresholds(config, warm)
    wanted = [*(("train", c, c - warm) for c in targets["train"]), *(("rl", c, c) for c in targets["rl"])]
    rows = []
    for axis, target, rl in wanted:
        step = costs.warm_step_at(target) if rl <= 0 else costs.warm_steps + rl_step_at(rl, costs.expected)
        row = {"axis": axis, "flops": target, "phase": "rl" if rl > 0 else "warm_start", "step": step}
        if rates is not None:
            row["train_seconds"] = _train_seconds(costs, rates, warm + rl if axis == "rl" else target)
        rows.append(row)
    rows.sort(key=lambda row: (row["step"], row["flops"]))
    last = costs.warm_steps + rl_step_at(config.rl.flops, costs.expected)
    saved = sorted({*(row["step"] for row in rows), costs.warm_steps, last})
    found: dict[str, Any] = {"rows": rows, "steps": last, "checkpoints": len(saved)}
    if rates is not None:
        each = rates.checkpoint + rates.evaluation
        for row in rows:
            row["seconds"] = row["train_seconds"] + each * sum(step < row["step"] for step in saved)
        training = _train_seconds(costs, rates, warm + config.rl.flops)
        found |= {"rates": rates.source, "train_seconds": training, "seconds": training + each * len(saved)}
        found |= {"evaluation_seconds_a_checkpoint": rates.evaluation}
    return found


def _train_seconds(costs: Costs, rates: Rates, compute: float) -> float:
    """Seconds of training until this many FLOPs since the first of all."""
    seconds = 0.0
    for stage, a_step in zip(costs.stages, rates.warm_start, strict=True):
        whole = sum(stage.flops)
        seconds += len(stage.flops) * a_step * min(max(compute, 0) / whole, 1.0)
        compute -= whole
    cycle = sum(sum(step.values()) for step in costs.expected)
    return seconds + max(compute, 0) / cycle * (sum(rates.rollout) + sum(rates.update))


def from_data_sheet(
    config: Config, costs: Costs, accelerator: Accelerator, mesh: Mapping[str, int], share: float
) -> Rates:
    """Rates of devices in this mesh that reach `share` of the peak in products of matrices."""
    task, devices = make_task(config.task), mesh["data"] * mesh["fsdp"] * mesh["tensor"]
    speed = devices * accelerator.flops * share
    prompt, answer, rl, evaluation = task.prompt_tokens, 1 + task.answer_tokens, config.rl, config.evaluation

    def decode(rows: int, start: int, generated: int) -> float:
        """Seconds of decoding `generated` tokens after `start` in each of `rows` rows at once."""
        read = generated * bytes_a_token(config, len(task.vocab), mesh, rows, start + generated / 2)
        work = rows * flops.decode(config.model, len(task.vocab), start, generated + 1)
        return max(read / accelerator.bandwidth, work / speed)

    def rollout(generated: int) -> float:
        rows = rl.problems * rl.samples
        chunk = min(max(rl.chunk, rl.samples), rows)
        return -(-rows // chunk) * decode(chunk, prompt, generated)

    lengths = {budget: like_demonstrations(config, task, budget) for budget in set(rl.budgets)}
    longest = {budget: max(generated for _, generated in pairs) for budget, pairs in lengths.items()}
    evaluating = 0.0
    for tier in tiers(config):
        problems = max(evaluation.chunk // tier.samples, 1)
        once = decode(problems * tier.samples, prompt, tier.budgets[-1] + answer)
        again = sum(decode(problems * tier.samples, prompt + budget, answer) for budget in tier.budgets[:-1])
        evaluating += -(-evaluation.problems // problems) * (once + again)
    return Rates(
        f"{accelerator.source}, {share:.0%} of the peak assumed in matrix products and all "
        "of the memory's bandwidth in decoding",
        tuple(sum(stage.flops) / len(stage.flops) / speed for stage in costs.stages),
        tuple(rollout(longest[budget]) for budget in rl.budgets),
        tuple((step["update"] + step["reference"]) / speed for step in costs.expected),
        evaluating,
        0.0,
    )


def bytes_a_token(config: Config, vocab: int, mesh: Mapping[str, int], rows: int, attended: float) -> float:
    """Bytes that a device reads to decode one token of each row: all weights, and its rows' keys and values."""
    model, width = config.model, {"float32": 4, "bfloat16": 2}[config.model.dtype]
    weights = flops.matmul_params(model, vocab) * width / mesh["tensor"]
    cache = 2 * model.layers * model.kv_heads * model.head_size * width * attended
    return weights + cache * rows / (mesh["data"] * mesh["fsdp"] * mesh["tensor"])
