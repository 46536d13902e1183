"""One run's curves and answers: which settings are looked at, by rule, and what each curve says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis import load
from analysis.fit import Mixture, Series
from analysis.saturation import Answer, answer
from scaling.records import RecordError, Run


@dataclass(frozen=True)
class StudyCurve:
    key: str
    """rl, train, budget or votes."""
    series: Series
    answer: Answer
    mixture: Mixture | None


@dataclass(frozen=True)
class Study:
    """What a report is written from."""

    run: Run
    config: dict[str, Any]
    outcomes: pl.DataFrame
    estimates: pl.DataFrame
    headline: int
    """Thinking budget of the headline setting, tokens: the middle one of the positive budgets."""
    votes: int
    """Budget at which samples are pooled: the largest one that has the grid's largest number of samples."""
    states: tuple[str, ...]
    """Checkpoints before RL, in the middle of its logarithmic range, and last; fewer where they coincide."""
    curves: tuple[StudyCurve, ...]

    def curve(self, key: str) -> StudyCurve:
        return next(curve for curve in self.curves if curve.key == key)


def study(run_dir: str | Path, seed: int = 0) -> Study:
    """Load a run, fit its curves, answer. Raises RecordError where no evaluation is complete."""
    run = Run.open(run_dir)
    outcomes = load.outcomes(run_dir)
    if outcomes.is_empty():
        raise RecordError(f"{run.path}: no complete evaluation; `scaling evaluate` makes them")
    estimates = load.estimates(run_dir, outcomes)
    budgets = sorted(estimates["budget"].unique().to_list())
    headline, votes = headline_budget(budgets), votes_budget(estimates)
    means = estimates.filter(estimator="mean", budget=headline)
    rl, train = rl_points(means), means.sort("step").unique("train_flops", keep="last").sort("train_flops")
    last = means.sort("step")["checkpoint"][-1]
    at_last = estimates.filter(checkpoint=last)
    ways = {
        "rl": ("RL train compute", "rl_flops", rl),
        "train": ("All train compute", "train_flops", train),
        "budget": ("Test compute, thinking longer", "test_flops", at_last.filter(estimator="mean")),
        "votes": ("Test compute, majority vote", "test_flops", at_last.filter(estimator="maj", budget=votes)),
    }
    curves = []
    for key, (name, axis, points) in ways.items():
        series = series_of(points, axis)
        curves.append(StudyCurve(key, series, *answer(name, series, seed)))
    return Study(
        run=run,
        config=load.config(run_dir),
        outcomes=outcomes,
        estimates=estimates,
        headline=headline,
        votes=votes,
        states=_states(rl),
        curves=tuple(curves),
    )


def headline_budget(budgets: Sequence[int]) -> int:
    """The middle one of the positive budgets (the upper of two): chosen by rule, not by its result."""
    positive = sorted(b for b in budgets if b > 0) or sorted(budgets)
    return positive[len(positive) // 2]


def votes_budget(estimates: pl.DataFrame) -> int:
    """The largest budget that has the grid's largest number of samples: the longest curve of votes."""
    return int(estimates.filter(samples=estimates["samples"].max())["budget"].max())  # type: ignore[arg-type]


def rl_points(means: pl.DataFrame) -> pl.DataFrame:
    """The state before RL (the last without RL compute), then every checkpoint of RL, rising in compute."""
    before = means.filter(pl.col("rl_flops") == 0).sort("step").tail(1)
    during = means.filter(pl.col("rl_flops") > 0).unique("rl_flops", keep="last").sort("rl_flops")
    return pl.concat([before, during])


def series_of(points: pl.DataFrame, axis: str) -> Series:
    points = points.sort(axis)
    values = np.array(points["values"].to_list(), dtype=np.float64).reshape(len(points), -1)
    return Series(points[axis].to_numpy(), values, points["draws"].to_numpy().astype(np.float64))


def _states(rl: pl.DataFrame) -> tuple[str, ...]:
    names = rl["checkpoint"].to_list()
    during = rl.filter(pl.col("rl_flops") > 0)
    if during.is_empty():
        return tuple(names)
    logs = np.log(during["rl_flops"].to_numpy())
    middle = during["checkpoint"][int(np.argmin(np.abs(logs - (logs[0] + logs[-1]) / 2)))]
    return tuple(dict.fromkeys([names[0], middle, names[-1]]))
