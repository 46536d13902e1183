"""One run's curves and answers: which settings are looked at, by rule, and what each curve says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis import load
from analysis.configs import config, headline_budget
from analysis.fit import CurveFit, fit_series
from analysis.ways import votes_budget, ways
from scaling.files import RecordError
from scaling.records import Run


@dataclass(frozen=True)
class StudyCurve(CurveFit):
    """A curve of a run, fitted, with what it is over."""

    key: str
    """rl, train, budget or votes."""


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
    left_out: tuple[str, ...]
    """A line for each evaluation that is incomplete or damaged."""
    seed: int
    """Of the fits."""

    def curve(self, key: str) -> StudyCurve:
        """That over RL, train, budget or votes."""
        return next(curve for curve in self.curves if curve.key == key)


def study(run_dir: str | Path, seed: int = 0) -> Study:
    """Load a run, fit its curves, answer. Raises RecordError where no evaluation is complete and sound."""
    run = Run.open(run_dir)
    found = load.evaluations(run_dir)
    if found.outcomes.is_empty():
        lines = (f"{run.path}: no complete evaluation; `scaling evaluate` makes them", *found.damaged)
        raise RecordError("\n".join(lines))
    estimates = load.estimates(run_dir, found.outcomes)
    drawn = ways(estimates)
    fitted = fit_series([way.series() for way in drawn], seed=seed)
    return Study(
        run=run,
        config=config(run_dir),
        outcomes=found.outcomes,
        estimates=estimates,
        headline=headline_budget(estimates["budget"].unique().to_list()),
        votes=votes_budget(estimates),
        states=_states(drawn[0].points),
        curves=tuple(
            StudyCurve(one.series, one.forecast, one.answer, way.key)
            for way, one in zip(drawn, fitted, strict=True)
        ),
        left_out=(*(f"incomplete: {line}" for line in found.incomplete), *found.damaged),
        seed=seed,
    )


def _states(rl: pl.DataFrame) -> tuple[str, ...]:
    names = rl["checkpoint"].to_list()
    during = rl.filter(pl.col("rl_flops") > 0)
    if during.is_empty():
        return tuple(names)
    logs = np.log(during["rl_flops"].to_numpy())
    middle = during["checkpoint"][int(np.argmin(np.abs(logs - (logs[0] + logs[-1]) / 2)))]
    return tuple(dict.fromkeys([names[0], middle, names[-1]]))
