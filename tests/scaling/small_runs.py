"""Runs of seconds that several tests share, and what must be the same in two runs that did the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from scaling import config as configs
from scaling import rl
from scaling.checkpoints import restore
from scaling.config import Config
from scaling.experiment import prepare
from scaling.files import Row
from scaling.learner import abstract_state
from scaling.records import Run
from scaling.tracking import Terminal
from scaling.train import train

SMALL = (
    "tracking.wandb=disabled",
    "warm_start.stages.0.steps=3",
    "warm_start.stages.1.steps=3",
    "rl.flops=1.2e8",
    "rl.budgets=[8, 5]",
    "schedule.first=1e7",
    "schedule.rl_first=1e7",
    "schedule.train_points_per_decade=2",
)


def first_tokens(done: rl.Completions, claim_penalty: float) -> np.ndarray:
    """Rewards that differ from the first step on, where a model that knows nothing would have nothing to learn."""
    return done.tokens_BxT[:, 0] % 2.0


class Killed(Exception):
    """A process that ends without saving anything."""


def small(*overrides: str) -> Config:
    return configs.load("tiny", [*SMALL, *overrides])


def begin(path: Path, config: Config) -> Run:
    return Run.create(path, configs.dump(config), configs.config_hash(config), {"command": "scaling run"})


def go(
    path: Path,
    config: Config,
    *,
    stop_at: int | None = None,
    kill_at: int | None = None,
    on_checkpoint: Callable[[str], None] | None = None,
) -> str:
    """Train until this step of the whole run: asked to stop there, or killed."""
    run = begin(path, config)

    def stop() -> bool:
        step = (run.train_rows() or [{"step": 0}])[-1]["step"]
        if step == kill_at:
            raise Killed
        return step == stop_at

    with Terminal(path, config, quiet=True) as terminal, mock.patch.object(rl, "rewards", first_tokens):
        return train(path, config, terminal=terminal, on_checkpoint=on_checkpoint, stop=stop)


def rows(run: Run) -> list[Row]:
    """Training rows without what a clock said."""
    return [_timeless(row) for row in run.train_rows()]


def manifests(run: Run) -> list[Row]:
    """Manifests, the hash of every leaf of parameters and optimiser state in them, without clock times."""
    return [_timeless(manifest) for manifest in run.manifests()]


def _timeless(row: Row) -> Row:
    ledger = {name: value for name, value in row["ledger"].items() if name != "seconds"}
    kept = {name: value for name, value in row.items() if name != "time"} | {"ledger": ledger}
    if "metrics" in row:
        kept["metrics"] = {name: value for name, value in row["metrics"].items() if "second" not in name}
    return kept


def state(run: Run, config: Config, name: str) -> Any:
    """The state that a checkpoint holds."""
    restored = restore(run, abstract_state(prepare(config)), name, warn=print)
    assert restored is not None
    return restored[0]


def names(run: Run, kinds: Sequence[str]) -> list[str]:
    return [manifest["name"] for manifest in run.manifests() if manifest["kind"] in kinds]
