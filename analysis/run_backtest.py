"""A run's forecasts against its own past: the last points of every curve are hidden, forecast, and compared.

Nothing is learned from the hidden points: the curve is made anew from what lies before them. The calibration of
widths is the one in use, which was learned from public curves and not from this run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from analysis.arrays import Floats
from analysis.backtest import Forecasts, Task, ours
from analysis.series import MIN_POINTS
from analysis.ways import Way, ways

HIDDEN = (10**0.5, 10.0)
"""The points past the last compute over these are hidden: the last half decade, and the last decade."""


@dataclass(frozen=True)
class Comparison:
    """One forecast from a curve's past, and what came."""

    made: Forecasts
    hidden: float
    """Times the last compute that was seen, at the least, up to which was forecast: one of `HIDDEN`."""

    @property
    def inside(self) -> np.ndarray:
        """[H] bool: whether what came lies in the 90% interval."""
        low, high = self.made.quantiles[[0, -1]]
        return (low <= self.made.task.y) & (self.made.task.y <= high)

    def as_dict(self) -> dict[str, Any]:
        """A forecast of backtest in `analysis.facts`."""
        task, (lo90, _, median, _, hi90) = self.made.task, self.made.quantiles
        columns = {"compute": task.compute, "median": median, "lo90": lo90, "hi90": hi90, "came": task.y}
        points = [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
        return {
            "curve": task.curve,
            "hidden_times": self.hidden,
            "seen": int(task.series.inside.sum()),
            "last_seen": float(task.series.compute[-1]),
            "hidden": len(points),
            "inside": int(self.inside.sum()),
            "mean_error": float(np.mean(np.abs(median - task.y))),
            "points": [p | {"inside": bool(i)} for p, i in zip(points, self.inside, strict=True)],
        }


@dataclass(frozen=True)
class RunBacktest:
    """What forecasts from a run's past came to."""

    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]
    """A line for every curve and range that leaves nothing to forecast from."""

    def as_dict(self) -> dict[str, Any]:
        """backtest of `analysis.facts`."""
        return {"forecasts": [one.as_dict() for one in self.comparisons], "left_out": list(self.left_out)}


def run_backtest(estimates: pl.DataFrame) -> RunBacktest:
    """Hide the last half decade and the last decade of every curve of a run's `analysis.load.estimates`."""
    tasks: list[tuple[float, Task]] = []
    left_out: list[str] = []
    for way in ways(estimates):
        for hidden in HIDDEN:
            task = _task(way, hidden)
            if isinstance(task, Task):
                tasks.append((hidden, task))
            else:
                left_out.append(task)
    made = ours([task for _, task in tasks])
    pairs = zip(tasks, made, strict=True)
    return RunBacktest(tuple(Comparison(one, hidden) for (hidden, _), one in pairs), tuple(left_out))


def _task(way: Way, hidden: float) -> Task | str:
    compute = way.points[way.axis]
    # Thresholds are fractions of a decade: a point may lie on the border but for rounding.
    past = compute <= float(compute.max() or 0.0) / hidden * (1 + 1e-9)  # type: ignore[arg-type]
    seen, after = way.points.filter(past), way.points.filter(~past).sort(way.axis)
    if way.key == "train" and after["rl_flops"].max() and not seen["rl_flops"].max():
        return (
            f"{way.name}, last {hidden:.2g}× hidden: RL is all hidden; a warm start does not tell what it brings"
        )
    usable = seen.filter(pl.col(way.axis) > 0)[way.axis].n_unique()
    if usable < MIN_POINTS:
        return f"{way.name}, last {hidden:.2g}× hidden: {usable} points are left; a fit needs {MIN_POINTS}"
    return Task(
        source="",
        group=way.axis,
        curve=way.name,
        horizon=f"{hidden:.2g}x",
        series=replace(way, points=seen).series(),
        compute=after[way.axis].to_numpy(),
        y=after["accuracy"].to_numpy(),
        n=_samples(after),
    )


def _samples(points: pl.DataFrame) -> Floats:
    """[H] samples behind each point. The same problems are answered before and after, and a path redraws them
    already: what a measurement adds is the noise of its samples."""
    return (points["n"] * points["draws"]).cast(pl.Float64).to_numpy()
