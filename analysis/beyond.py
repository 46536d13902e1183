"""What a run says beyond its four curves: train against test compute, and more samples than were drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from analysis.arrays import Floats
from analysis.coverage import coverage
from analysis.fit import FitError
from analysis.frontier import Exchange, exchange_rate
from analysis.load import vote_table
from analysis.study import Study
from analysis.surface import FORMS, Points, Surface, surface
from analysis.voting import votes

TIMES = (1, 4, 64)
"""Times the samples drawn at which pass@k and maj@k are stated."""
FEWEST_SAMPLES, FEWEST_PROBLEMS = 4, 20
"""Less says next to nothing of more samples."""


@dataclass(frozen=True)
class TrainTest:
    """Accuracy of one sample over train compute × thinking budget, from the state before RL on."""

    points: Points
    surface: Surface
    exchange: Exchange

    def as_dict(self) -> dict[str, Any]:
        """train_test of `analysis.facts`."""
        rate = self.exchange.rate
        return {
            "points": len(self.points.train),
            "rate": None if rate is None else asdict(rate),
            "reason": self.exchange.reason,
            "misfit": self.surface.misfit,
            "weights": {form.name: w for form, w in zip(FORMS, self.surface.weights, strict=True)},
            "converged": all(self.surface.converged),
        }


@dataclass(frozen=True)
class MoreSamples:
    """pass@k and maj@k of these problems for k at and beyond the samples drawn. Arrays are quantiles [..., 5]
    (`analysis.arrays.QUANTILES`)."""

    budget: int
    drawn: int
    """Samples of every problem, the least."""
    problems: int
    ks: tuple[int, ...]
    passed: Floats
    """[K, 5]"""
    voted: Floats
    passed_limit: Floats
    """[5] as k grows without bound."""
    voted_limit: Floats

    def as_dict(self) -> dict[str, Any]:
        """more_samples of `analysis.facts`."""
        named = {"pass": (self.passed, self.passed_limit), "maj": (self.voted, self.voted_limit)}
        return {"budget": self.budget, "drawn": self.drawn, "problems": self.problems} | {
            name: {
                "at": {str(k): _estimate(row) for k, row in zip(self.ks, rows, strict=True)},
                "limit": _estimate(limit),
            }
            for name, (rows, limit) in named.items()
        }


def _estimate(row: Floats) -> dict[str, float]:
    return {"median": float(row[2]), "lo90": float(row[0]), "hi90": float(row[-1])}


def train_test(estimates: pl.DataFrame) -> TrainTest | str:
    """The fitted surface of a run's RL checkpoints, of its `estimates`; or why there is none.

    The train axis is all of training: the state before RL has no RL compute, and a logarithm no place for it.
    """
    try:
        points = Points.from_estimates(estimates.filter(estimator="mean", phase="rl"))
        fitted = surface(points)
    except FitError as error:
        return f"No surface of train × test compute was fitted: {error}."
    return TrainTest(points, fitted, exchange_rate(fitted))


def more_samples(study: Study) -> MoreSamples | str:
    """Coverage and voting of the last checkpoint at the votes budget; or why there is none."""
    cell = study.outcomes.filter(pl.col("checkpoint") == study.states[-1], pl.col("budget") == study.votes)
    drawn, problems = int(cell["samples"].min()), len(cell)  # type: ignore[arg-type]
    if drawn < FEWEST_SAMPLES or problems < FEWEST_PROBLEMS:
        return (
            f"Nothing is said of more samples than were drawn: {drawn} of {problems} problems are too few "
            f"({FEWEST_SAMPLES} samples of {FEWEST_PROBLEMS} problems are the least)."
        )
    ks = tuple(times * drawn for times in TIMES)
    covered = coverage(cell["samples"].to_numpy(), cell["correct"].to_numpy())
    vote = votes(*vote_table(cell))
    return MoreSamples(
        budget=study.votes,
        drawn=drawn,
        problems=problems,
        ks=ks,
        passed=covered.predict(ks),
        voted=vote.predict(ks),
        passed_limit=covered.limit,
        voted_limit=vote.limit,
    )
