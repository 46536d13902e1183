"""The experiment as one frozen value.

Every field carries its unit and meaning in the string below it; `scaling config --fields` prints them.
`load` reads a preset or a YAML file, `dump` writes one, `config_hash` is the identity of a run; what cannot work
is refused by `scaling.rules`. This module starts without JAX and NumPy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from scaling.rules import check
from scaling.structure import ConfigError, hint, merge, override, read_text, read_yaml, structure, write_yaml

PRESETS = Path(__file__).parent / "presets"
NOT_IN_HASH = ("tracking", "mesh", "schedule.resume_seconds")
"""What cannot change a result: a run may be resumed with other values of these."""


@dataclass(frozen=True)
class TaskConfig:
    name: str = "root_search"
    """The task: root_search, operator_search, recurrence or problem_file."""
    difficulty_min: int = 2
    """Least difficulty of a problem (the task says what it counts: steps, operands, horizon)."""
    difficulty_max: int = 3
    """Greatest difficulty of a problem."""
    path: str = ""
    """problem_file only: the JSONL file of problems (prompt, answer, optional solution)."""


@dataclass(frozen=True)
class ModelConfig:
    width: int = 64
    """Width of the residual stream."""
    layers: int = 3
    """Number of decoder blocks."""
    heads: int = 4
    """Query heads; `width` need not equal heads × head_size."""
    kv_heads: int = 2
    """Key-value heads (grouped-query attention); divides `heads`."""
    head_size: int = 16
    """Size of one head; even, for rotary positions."""
    ff: int = 256
    """Hidden width of the feed-forward layer."""
    feedforward: str = "relu2"
    """Feed-forward form: relu2 (two matrices) or gated (SwiGLU, three matrices)."""
    tied: bool = False
    """Share the embedding with the unembedding."""
    rope_base: float = 10000.0
    """Base of the rotary positions."""
    dtype: str = "float32"
    """Compute type, float32 or bfloat16; parameters, logits and softmax stay float32."""
    remat: bool = False
    """Recompute each block in the backward pass to save memory."""


@dataclass(frozen=True)
class StageConfig:
    """One stage of the supervised warm start."""

    demo: str = "trace"
    """Kind of demonstration, as the task names it (drill, trace, ...)."""
    steps: int = 100
    """Optimiser steps."""
    batch: int = 64
    """Demonstrations a step."""
    budget: int = 64
    """Thinking tokens at which a demonstration is cut; the answer is forced there."""
    learning_rate: float = 2e-3
    """AdamW learning rate, constant after the warm-up."""


@dataclass(frozen=True)
class WarmStartConfig:
    stages: tuple[StageConfig, ...] = ()
    """Stages in order; none starts RL from random weights."""
    warmup_steps: int = 20
    """Linear warm-up of the learning rate, steps, at the start of the first stage."""
    weight_decay: float = 0.01
    """AdamW weight decay."""


@dataclass(frozen=True)
class RLConfig:
    recipe: str = "cispo"
    """Policy-gradient recipe by name: rloo, grpo, dr_grpo, dapo or cispo."""
    flops: float = 1e12
    """RL compute, FLOPs; the phase ends at the first step that reaches it."""
    problems: int = 32
    """Problems a step."""
    samples: int = 16
    """Completions a problem (the group)."""
    chunk: int = 512
    """Completions decoded at once."""
    budgets: tuple[int, ...] = (64,)
    """Thinking budgets, tokens, one a step in turn."""
    updates: int = 1
    """Optimiser updates a batch of rollouts is split into."""
    learning_rate: float = 2e-4
    """Adam learning rate, constant after the warm-up."""
    warmup_steps: int = 8
    """Linear warm-up, optimiser updates."""
    b2: float = 0.98
    """Adam's second-moment decay, in the warm start too."""
    clip_norm: float = 1.0
    """Greatest global norm of the gradient, in the warm start too."""
    temperature: float = 1.0
    """Sampling temperature of the rollouts."""
    kl: float = 0.0
    """Weight of the k3 penalty towards the policy that RL started from."""
    step_discount: float = 1.0
    """Credit of a thinking step: reward × step_discount^(steps that followed); 1 is plain outcome reward."""
    slip_penalty: float = 0.0
    """Taken from the advantage of the first false token of each false line, where the task says which it is."""
    claim_penalty: float = 0.0
    """Taken from the reward of a wrong answer that the model stands by, its thinking having ended by itself,
    and of an answer that cannot be read."""
    shuffle_rewards: bool = False
    """Control: permute the rewards within each batch, so that they say nothing about the completions;
    the slip penalty is off."""


@dataclass(frozen=True)
class ScheduleConfig:
    points_per_decade: int = 5
    """Checkpoint thresholds at 10^(i / points_per_decade) FLOPs of RL."""
    train_points_per_decade: int = 1
    """Thresholds a decade on the axis of all train compute, warm start included."""
    first: float = 1e10
    """Least threshold on the axis of all train compute, FLOPs."""
    rl_first: float = 1e10
    """Least threshold of RL, FLOPs."""
    resume_seconds: float = 120.0
    """Seconds between rolling checkpoints that only serve to resume."""


@dataclass(frozen=True)
class EvaluationConfig:
    problems: int = 512
    """Held-out problems, the same at every checkpoint."""
    budgets: tuple[int, ...] = (0, 8, 16, 32, 64, 128)
    """Thinking budgets of the grid, tokens, rising."""
    samples: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Samples of the grid (the k of pass@k and maj@k), rising."""
    tokens: int = 512
    """Most thinking tokens a problem in one setting: a cell with budget × samples above this is left out
    unless its number of samples is the least one."""
    temperature: float = 1.0
    """Sampling temperature."""
    chunk: int = 512
    """Completions decoded at once."""


@dataclass(frozen=True)
class MeshConfig:
    data: int = -1
    """Devices along the batch; -1 takes what is left."""
    fsdp: int = 1
    """Devices over which parameters and optimiser state are split."""
    tensor: int = 1
    """Devices over which heads and feed-forward are split."""
    cpu_devices: int = 1
    """Devices that JAX splits a CPU into; no effect elsewhere. One a core is faster than one with many threads."""


@dataclass(frozen=True)
class TrackingConfig:
    wandb: str = "offline"
    """Weights & Biases mirror: offline, online or disabled; WANDB_MODE overrides."""
    project: str = "scaling"
    """W&B project; WANDB_PROJECT overrides."""
    group: str = ""
    """W&B group, by default a run's sweep; WANDB_RUN_GROUP overrides."""


@dataclass(frozen=True)
class Config:
    seed: int = 0
    """Seed of everything random: problems, weights, samples."""
    microbatch: int = 32
    """Sequences a gradient is computed on at once; a batch is accumulated from these."""
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
    rl: RLConfig = field(default_factory=RLConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def load(source: str | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> Config:
    """The checked config of a preset, a YAML file or fields (None: the defaults), changed by `a.b=c` overrides.

    A file may start from a preset with `base: NAME`. Items of a list are named by position, as in
    `warm_start.stages.0.steps=5`. Raises ConfigError with every problem at once.
    """
    data = asdict(Config())
    if isinstance(source, Mapping):
        data = merge(data, _on_base(dict(source), "base"))
    elif source is not None:
        data = merge(data, _read(source))
    return _finish(data, overrides)


def parse(text: str) -> Config:
    """The checked config that YAML text holds, as `dump` wrote it. Raises ConfigError."""
    return _finish(merge(asdict(Config()), _fields(text, "config")), ())


def _finish(data: dict[str, Any], overrides: Sequence[str]) -> Config:
    data, lines = override(data, overrides)
    try:
        config = structure(data, Config)
    except ConfigError as error:
        raise ConfigError([*lines, *error.lines]) from None
    if lines:
        raise ConfigError(lines)
    check(config)
    return config


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _read(path_or_preset: str) -> dict[str, Any]:
    """The fields that a preset or file sets, those of its `base` included."""
    preset = path_or_preset in presets()
    path = PRESETS / f"{path_or_preset}.yaml" if preset else Path(path_or_preset)
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise ConfigError([f"{path}: neither a preset ({', '.join(presets())}) nor a file"]) from None
    except IsADirectoryError:
        line = f"{path}: is a directory, not a config; a run goes on with `scaling run --dir {path}`"
        raise ConfigError([line]) from None
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    data = _fields(text, str(path))
    if preset and data.get("base") == path_or_preset:
        raise ConfigError([f"{path}: base = {path_or_preset!r}: must be another preset"])
    return _on_base(data, str(path))


def _on_base(data: dict[str, Any], source: str) -> dict[str, Any]:
    base = data.pop("base", None)
    if base is None:
        return data
    if base not in presets():
        raise ConfigError([f"{source}: base = {base!r}: must be a preset{hint(base, presets())}"])
    return merge(_read(base), data)


def _fields(text: str, source: str) -> dict[str, Any]:
    try:
        data = read_yaml(text)
    except ValueError as error:
        raise ConfigError([f"{source}: {error}"]) from None
    if data is not None and not isinstance(data, dict):
        raise ConfigError([f"{source}: must hold fields (`name: value` lines), not {data!r}"])
    return data or {}


def dump(config: Config) -> str:
    """The whole config as YAML that `load` reads back equal."""
    return write_yaml(asdict(config))


def identity(config: Config) -> dict[str, Any]:
    """What makes a run this run: path → value of every field that can change a result and is not its default.

    Without the defaults, so that a field added later, whose default keeps what was, leaves old runs theirs.
    """
    return dict(_named(config, ""))


def _named(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    default = type(value)()
    for f in fields(value):
        path, part = f"{prefix}{f.name}", getattr(value, f.name)
        if isinstance(getattr(default, f.name), float):
            part = float(part)  # 1 and 1.0 are the same value
        if path in NOT_IN_HASH or part == getattr(default, f.name):
            continue
        if is_dataclass(part):
            yield from _named(part, f"{path}.")
        elif isinstance(part, tuple) and part and is_dataclass(part[0]):
            yield path, len(part)
            for i, item in enumerate(part):
                yield from _named(item, f"{path}.{i}.")
        else:
            yield path, part


def config_hash(config: Config) -> str:
    """16 hex digits of blake2b over the canonical JSON of the config's identity."""
    text = json.dumps(identity(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
