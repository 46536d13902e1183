"""What the runs of a sweep will cost, before any is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from scaling import schedule
from scaling.config import Config, RLConfig
from scaling.costs import checkpoint_bytes, costs, evaluation
from scaling.tasks import make_task
from sweeps.expand import Planned


@dataclass(frozen=True)
class Cost:
    """FLOPs of a run by part, and bytes of its checkpoints; evaluation and disk are bounds."""

    warm_start: int
    rl: float
    evaluation: int
    disk: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))


NOTHING = Cost(0, 0, 0, 0)


def each(runs: Sequence[Planned]) -> list[Cost]:
    """The cost of each run. A warm start is counted at seed 0 for all seeds, which draw other demonstrations."""
    warm: dict[Any, int] = {}

    def cost(config: Config) -> Cost:
        task = make_task(config.task)
        key = (config.task, config.model, config.warm_start)
        if key not in warm:
            warm[key] = costs(replace(config, seed=0, rl=RLConfig())).warm_start
        grid = config.schedule
        kept = 2 + len(schedule.grid(grid.rl_first, config.rl.flops, grid.points_per_decade))
        kept += len(schedule.grid(grid.first, warm[key] + config.rl.flops, grid.train_points_per_decade))
        spent = evaluation(config, task)["spent"]
        size = checkpoint_bytes(config, len(task.vocab))
        return Cost(warm[key], config.rl.flops, kept * spent, (kept + 1) * size)

    return [cost(planned.config) for planned in runs]
