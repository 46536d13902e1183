"""What values of a config can work: every rule as data, all that are broken said at once.

Bounds above are far from anything sensible; they are where JAX's 32-bit sizes and floats end, or a plan would take
hours to make. This module starts without JAX and NumPy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from scaling.recipes import RECIPES
from scaling.structure import ConfigError, hint
from scaling.tasks import TASKS

if TYPE_CHECKING:
    from scaling.config import Config

FEEDFORWARDS = ("relu2", "gated")
DTYPES = ("float32", "bfloat16")
WANDB_MODES = ("offline", "online", "disabled")
LARGEST_SEED = 2**31 - 1
"""JAX seeds are 32-bit unless 64-bit types are enabled."""
LARGEST_SIZE = 10**6
"""Of anything counted: rows, widths, tokens, steps. Products of two of them still index an array."""
MOST_CPU_DEVICES = 1024
"""Of one process; JAX makes threads and memory for each."""
DENSEST = 100
"""Thresholds a decade; more than that are as many checkpoints as steps."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Of what is computed with in 32-bit floats, whose squares must be numbers too where Adam takes them."""


def check(config: Config) -> None:
    """Raise ConfigError with a line for every value of the right type that cannot work."""
    lines = [
        f"{path} = {_at(config, path)!r}: must be {right}" for path, holds, right in _rules(config) if not holds
    ]
    if lines:
        raise ConfigError(lines)


def _at(config: Config, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, tuple) else getattr(value, name)
    return value


def _rules(c: Config) -> Iterator[tuple[str, bool, str]]:
    """Every rule as (path, whether it holds, what is right)."""
    stages = [f"warm_start.stages.{i}" for i in range(len(c.warm_start.stages))]
    yield from _bounds(c, stages)
    for path, known in (
        ("task.name", TASKS),
        ("model.feedforward", FEEDFORWARDS),
        ("model.dtype", DTYPES),
        ("rl.recipe", RECIPES),
        ("tracking.wandb", WANDB_MODES),
    ):
        name = _at(c, path)
        yield path, name in known, "" if name in known else f"a known name{hint(name, known)}"

    low, high = c.task.difficulty_min, c.task.difficulty_max
    yield "task.difficulty_max", low <= high, f"at least task.difficulty_min = {low}"
    if c.task.name == "problem_file":
        yield "task.path", bool(c.task.path), "the JSONL file of problems that problem_file reads"
    else:
        yield "task.path", not c.task.path, f"empty: task {c.task.name} reads no file"
    if c.model.kv_heads >= 1:
        right = f"a divisor of model.heads = {c.model.heads}"
        yield "model.kv_heads", c.model.heads % c.model.kv_heads == 0, right
    yield "model.head_size", c.model.head_size % 2 == 0, "even, for rotary positions"
    for stage in stages:
        yield f"{stage}.demo", bool(_at(c, f"{stage}.demo")), "a kind of demonstration that the task names"

    yield "rl.samples", c.rl.samples >= 2, f"at least 2: {c.rl.recipe} compares the samples of a group"
    if c.rl.updates >= 1:
        yield "rl.updates", c.rl.problems % c.rl.updates == 0, f"a divisor of rl.problems = {c.rl.problems}"
    yield "rl.budgets", bool(c.rl.budgets) and min(c.rl.budgets) >= 0, "at least one budget, none negative"
    yield "rl.b2", 0 <= c.rl.b2 < 1, "at least 0 and below 1"
    yield "rl.step_discount", 0 < c.rl.step_discount <= 1, "above 0 and at most 1"

    yield "evaluation.budgets", _rises(c.evaluation.budgets, least=0), "rising, from 0 or more"
    yield "evaluation.samples", _rises(c.evaluation.samples, least=1), "rising, from 1 or more"

    sizes = {name: _at(c, f"mesh.{name}") for name in ("data", "fsdp", "tensor")}
    for name, size in sizes.items():
        yield f"mesh.{name}", size >= 1 or size == -1, "at least 1, or -1 for what is left"
    yield "mesh", list(sizes.values()).count(-1) <= 1, "of at most one -1"


def _bounds(c: Config, stages: Sequence[str]) -> Iterator[tuple[str, bool, str]]:
    """The rules of single numbers."""
    yield "seed", 0 <= c.seed <= LARGEST_SEED, f"from 0 to {LARGEST_SEED}"
    counts = (
        *("microbatch", "task.difficulty_min", "rl.problems", "rl.updates", "rl.chunk"),
        *(f"model.{name}" for name in ("width", "layers", "heads", "kv_heads", "head_size", "ff")),
        *("evaluation.problems", "evaluation.chunk"),
        *(f"{stage}.{name}" for stage in stages for name in ("steps", "batch")),
    )
    densities = ("schedule.points_per_decade", "schedule.train_points_per_decade")
    for path in (*counts, *densities, "evaluation.tokens", "mesh.cpu_devices"):
        yield path, _at(c, path) >= 1, "at least 1"
    from_nothing = ("warm_start.warmup_steps", "rl.warmup_steps", *(f"{stage}.budget" for stage in stages))
    weights = ("warm_start.weight_decay", "rl.kl", "rl.slip_penalty", "rl.claim_penalty")
    for path in (*from_nothing, *weights, "rl.flops"):
        yield path, _at(c, path) >= 0, "at least 0"
    factors = (
        *("model.rope_base", "rl.learning_rate", "rl.clip_norm", "rl.temperature", "evaluation.temperature"),
        *(f"{stage}.learning_rate" for stage in stages),
    )
    for path in (*factors, "schedule.first", "schedule.rl_first", "schedule.resume_seconds"):
        yield path, _at(c, path) > 0, "above 0"

    for path in (*counts, *from_nothing, "rl.samples", *(f"mesh.{name}" for name in ("data", "fsdp", "tensor"))):
        yield path, _at(c, path) <= LARGEST_SIZE, f"at most {LARGEST_SIZE}"
    for path in ("rl.budgets", "evaluation.budgets", "evaluation.samples"):
        yield path, max(_at(c, path), default=0) <= LARGEST_SIZE, f"of numbers up to {LARGEST_SIZE}"
    yield "mesh.cpu_devices", c.mesh.cpu_devices <= MOST_CPU_DEVICES, f"at most {MOST_CPU_DEVICES}"
    for path in densities:
        yield path, _at(c, path) <= DENSEST, f"at most {DENSEST}"
    for path in factors:
        yield path, _at(c, path) <= 0 or SMALLEST <= _at(c, path) <= LARGEST, f"from {SMALLEST} to {LARGEST}"
    for path in weights:
        yield path, _at(c, path) <= LARGEST, f"at most {LARGEST}"


def _rises(values: Sequence[int], least: int) -> bool:
    return bool(values) and values[0] >= least and all(a < b for a, b in itertools.pairwise(values))
