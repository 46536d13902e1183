"""Two arms: whose asymptote is better, how much less compute one needs, and where they cross.

ScaleRL (arXiv 2510.13786) compares recipes by the asymptote A of a sigmoid and by its exponent B and middle C_mid,
the latter as efficiency. Here the asymptote is that of all forms, and the efficiency is the ratio of the computes
at which two arms reach a common value, which needs no form: nine tenths of the way from where the better one
starts to where the worse one is at the greatest compute that both have been run to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analysis.alignment import Arm, chance_ahead, common_range, log_grid
from analysis.arrays import Floats
from analysis.saturation import Estimate, certain

PAST = 10.0
"""Times the greatest compute of the data up to which arms are compared."""
FINE = 20
"""Computes a decade at which crossings are sought."""
SHARE_OF_GAIN = 0.9
"""Two arms are to reach this share of the way from the better value of a path at the least compute of both to the
worse one at the greatest compute of both: on a plateau, the compute that reaches a value would be chance."""
REACH = 4.0
"""Decades past the data within which a common value may be reached; further it is "beyond"."""


@dataclass(frozen=True)
class Pair:
    """Two arms; differences are positive where the first is better, in the metric's own units."""

    first: str
    second: str
    asymptote: Estimate
    """Difference of the asymptotes."""
    asymptote_probability: float
    """That the first one's is better."""
    asymptote_verdict: str
    """The name of the better arm, or "cannot tell"."""
    common: float
    """The value that both are to reach, the median over the paths."""
    efficiency: Estimate
    """Compute of the second over that of the first to reach it."""
    efficiency_probability: float
    """That the first needs less."""
    efficiency_verdict: str
    start_probability: float
    """That the first is ahead at the least compute compared."""
    end_probability: float
    crossing_probability: float
    crossing: Estimate | None
    """Compute at which they cross, on the paths where they do; None where less than half do."""
    crossing_verdict: str
    """crosses, does not cross, or cannot tell."""


def pairs(found: Sequence[Arm]) -> tuple[Pair, ...]:
    """Every two arms."""
    low, high = common_range(found)
    grid = log_grid(low, high * 10**REACH, FINE)
    levels = {arm.name: arm.levels(grid) for arm in found}
    compared = grid <= PAST * high * (1 + 1e-9)
    return tuple(_pair(a, b, grid, compared, levels[a.name], levels[b.name]) for a, b in combinations(found, 2))


def _pair(a: Arm, b: Arm, grid: Floats, compared: np.ndarray, levels_a: Floats, levels_b: Floats) -> Pair:
    asymptote = b.limits() - a.limits()
    goal = _common(a, b)
    middle = float(np.median(goal))
    ratio = _ratio(_reached(grid, levels_a, goal), _reached(grid, levels_b, goal))
    lead = (levels_b - levels_a)[:, compared]
    start, end = lead[:, 0], lead[:, -1]
    crosses = start * end < 0
    # The last compute at which the order was not yet the last one's.
    last = compared.sum() - 1 - np.argmax((lead * end[:, None] <= 0)[:, ::-1], 1)
    where = grid[np.minimum(last + 1, compared.sum() - 1)]
    share = float(crosses.mean())
    better, cheaper = chance_ahead(asymptote), chance_ahead(np.nan_to_num(ratio, nan=1.0, posinf=math.inf) - 1)
    return Pair(
        first=a.name,
        second=b.name,
        asymptote=Estimate.of(asymptote),
        asymptote_probability=better,
        asymptote_verdict=certain(better, a.name, b.name),
        common=1 - middle if a.series.metric == "accuracy" else middle,
        efficiency=_bounded(ratio),
        efficiency_probability=cheaper,
        efficiency_verdict=certain(cheaper, a.name, b.name),
        start_probability=chance_ahead(start),
        end_probability=chance_ahead(end),
        crossing_probability=share,
        crossing=Estimate.of(where[crosses]) if share >= 0.5 else None,
        crossing_verdict=certain(share, "crosses", "does not cross"),
    )  # fmt: skip


def _common(a: Arm, b: Arm) -> Floats:
    """[D] what both arms are to reach on each path (see `SHARE_OF_GAIN`): with harder problems drawn, less."""
    low, _ = common_range((a, b))
    high = min(float(arm.series.compute[-1]) for arm in (a, b))
    start, end = np.stack([arm.levels(np.array([low, high])) for arm in (a, b)]).T.swapaxes(1, 2)
    worse = end.max(0)
    return worse + (1 - SHARE_OF_GAIN) * np.maximum(start.min(0) - worse, 0.0)


def _reached(grid: Floats, levels: Floats, goal: Floats) -> Floats:
    """[D] least compute of the grid at which a path is at the goal or better; inf where it never is."""
    there = levels <= goal[:, None]
    return np.where(there.any(1), grid[np.argmax(there, 1)], math.inf)


def _ratio(first: Floats, second: Floats) -> Floats:
    """[D] second over first; NaN where neither reaches the goal."""
    with np.errstate(invalid="ignore"):
        return second / first


def _bounded(ratio: Floats) -> Estimate:
    """An estimate in which a path without a ratio could have any."""
    lo, hi = (Estimate.of(np.nan_to_num(ratio, nan=any_, posinf=math.inf)) for any_ in (0.0, math.inf))
    return Estimate(lo.median if lo.median == hi.median else None, lo.lo90, hi.hi90)
