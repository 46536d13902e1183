"""Forecasts of several arms side by side, so that their differences have the spread that they should.

Every arm is fitted and forecast as any curve is (`analysis.fit`). Paths of the same replicate have drawn the same
problems, which all arms answered, so that what problems have in common drops out of a difference; all else (form,
prior, seeds, scatter, what no form explains) is drawn apart.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Floats
from analysis.fit import CurveFit, fit_series
from analysis.posterior import REPLICATES
from analysis.series import Series


@dataclass(frozen=True)
class Arm:
    """One arm's paths, in line with those of the others."""

    name: str
    runs: int
    found: CurveFit
    order: np.ndarray
    """[D] which path of the forecast stands at each place: places of all arms have the same replicate."""

    @property
    def series(self) -> Series:
        """What was fitted."""
        return self.found.series

    def levels(self, compute: Floats) -> Floats:
        """[D, X] at compute [X], of what falls as the arm gets better: 1 − accuracy, error or loss."""
        assert self.found.forecast is not None
        return abs(self.series.factor) * self.found.forecast.paths(compute)[self.order]

    def limits(self) -> Floats:
        """[D] of the same, as compute grows without bound."""
        assert self.found.forecast is not None
        return abs(self.series.factor) * self.found.forecast.limits()[self.order]


def aligned(series: Series, replicates: int = REPLICATES, seed: int = 0) -> Arm:
    """An arm, fitted. Its random numbers follow from its name, but for the redrawn problems, which all share."""
    own = zlib.crc32(f"{seed}/{series.name}".encode())
    (found,) = fit_series([series], replicates, own)
    runs = 1 if series.seed is None else len(np.unique(series.seed))
    if found.forecast is None:
        return Arm(series.name, runs, found, np.zeros(0, dtype=int))
    replicate = found.forecast.picks[:, 1]
    shuffled = np.random.default_rng(own).permutation(len(replicate))
    return Arm(series.name, runs, found, shuffled[np.argsort(replicate[shuffled], kind="stable")])


def common_range(found: Sequence[Arm]) -> tuple[float, float]:
    """The least compute that all arms have, and the greatest that any has."""
    inside = [arm.series.compute[arm.series.inside] for arm in found]
    return max(float(c[0]) for c in inside), max(float(c[-1]) for c in inside)


def chance_ahead(lead: Floats) -> float:
    """Share of the paths on which the lead is positive; a tie counts by half."""
    return float(np.mean(lead > 0) + np.mean(lead == 0) / 2)


def best(levels: Floats) -> Floats:
    """[A, X] share of the paths on which each arm is best, of levels [A, D, X]; ties are split evenly."""
    first = levels == levels.min(0)
    return (first / first.sum(0)).mean(1)


def log_grid(low: float, high: float, a_decade: int) -> Floats:
    """Computes at equal steps of their logarithm, both ends among them."""
    steps = max(1, math.ceil(a_decade * math.log10(high / low) - 1e-9))
    return low * (high / low) ** (np.arange(steps + 1) / steps)
