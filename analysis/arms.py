"""Arms compared: where each ends, how much compute one needs for what another reaches, and which wins where.

    from analysis.arms import compare
    compare(["sweeps/width"], by=["model.width"]).pairs

Every arm is fitted and forecast as any curve is (`analysis.fit`). Paths of two arms are then taken side by side:
those of the same replicate have drawn the same problems, which all arms answered, so what problems have in common
drops out of a difference; all else (form, prior, seeds, scatter, what no form explains) is drawn apart.

ScaleRL (arXiv 2510.13786) compares recipes by the asymptote A of a sigmoid and by its exponent B and middle C_mid,
the latter as efficiency. Here the asymptote is that of all forms, and the efficiency is the ratio of the computes
at which two arms reach a common value, which needs no form: nine tenths of the way from where the better one
starts to where the worse one is at the greatest compute that both have been run to.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.curves import Floats
from analysis.fit import CurveFit, fit_series
from analysis.grouping import arms
from analysis.posterior import REPLICATES
from analysis.saturation import CERTAINTY, INTERVAL, Estimate
from analysis.series import Series, series_of
from analysis.table import TableError

PAST = 10.0
"""Times the greatest compute of the data up to which arms are compared."""
A_DECADE = 4
"""Computes a decade at which the chance to be best is stated."""
FINE = 20
"""Computes a decade at which crossings are sought."""
SHARE_OF_GAIN = 0.9
"""Two arms are to reach this share of the way from the better fitted value at the least compute of both to the
worse one at the greatest compute of both: on a plateau, the compute that reaches a value would be chance."""
REACH = 4.0
"""Decades past the data within which a common value may be reached; further it is "beyond"."""
DEFINITION = (
    f"An arm is ahead, or best, if it is so on at least {CERTAINTY} of the paths; otherwise: cannot tell. Paths "
    "of arms are taken side by side, with the same problems redrawn in all. Efficiency: the compute of the second "
    f"arm over that of the first to reach a common value, {SHARE_OF_GAIN} of the way from the better one's at the "
    "least compute that both have to the worse one's at the greatest; above 1 the first needs less. Two arms "
    "cross if their order at the first compute compared is not their order at the last, which is "
    f"{PAST:.0f} times the greatest compute of the data."
)


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
        return self.found.series

    def levels(self, compute: Floats) -> Floats:
        """[D, X] at compute [X], of what falls as the arm gets better: 1 − accuracy, error or loss."""
        assert self.found.forecast is not None
        return abs(self.series.factor) * self.found.forecast.paths(compute)[self.order]

    def limits(self) -> Floats:
        """[D] of the same, as compute grows without bound."""
        assert self.found.forecast is not None
        return abs(self.series.factor) * self.found.forecast.limits()[self.order]


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
    """The value that both are to reach."""
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


@dataclass(frozen=True)
class Win:
    """Which arm is best at one compute."""

    compute: float
    extrapolated: bool
    """Whether an arm has no data there."""
    probability: dict[str, float]
    best: str
    """The name of an arm, or "cannot tell"."""


@dataclass(frozen=True)
class Comparison:
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    """Every two arms, in their order."""
    wins: tuple[Win, ...]
    """By rising compute, from the least that all arms have to 10 times the greatest that any has."""
    notes: tuple[str, ...]

    def table(self) -> pl.DataFrame:
        """A row a compute and arm: compute, arm, probability."""
        rows = [(w.compute, name, p) for w in self.wins for name, p in w.probability.items()]
        return pl.DataFrame(
            rows, {"compute": pl.Float64, "arm": pl.String, "probability": pl.Float64}, orient="row"
        )

    def as_dict(self) -> dict[str, Any]:
        """Pairs, wins and notes as plain data."""
        return {
            "pairs": [asdict(pair) for pair in self.pairs],
            "wins": [asdict(win) for win in self.wins],
            "notes": list(self.notes),
        }


def compare(
    paths: str | Path | Sequence[str | Path],
    by: str | Sequence[str],
    x: str | None = None,
    y: str | None = None,
    at: Sequence[float] = (),
) -> Comparison:
    """Group runs by fields of their configs (tables: rows by columns), and compare the groups.

    paths, by, x, y: as in `analysis.grouping.arms`; of runs, the curve over RL compute. at: more computes at which
    the chance to be best is stated. Raises TableError for what cannot be compared.
    """
    listed = [paths] if isinstance(paths, str | Path) else paths
    frame, notes = arms(listed, [by] if isinstance(by, str) else by, x, y)
    return compare_series(series_of(frame), at=at, notes=notes)


def compare_series(
    series: Sequence[Series],
    replicates: int = REPLICATES,
    seed: int = 0,
    at: Sequence[float] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare curves, each with a name of its own. What is said does not depend on their order.

    Raises TableError where fewer than two have points enough to be fitted.
    """
    fitted = [aligned(s, replicates, seed) for s in sorted(series, key=_natural)]
    known = tuple(arm for arm in fitted if arm.found.forecast is not None)
    said = [f"{arm.name}: left out, {arm.found.answer.reason}" for arm in fitted if arm.found.forecast is None]
    if len(known) < 2:
        raise TableError([*said, f"{len(known)} arms can be fitted; two are needed"])
    return Comparison(known, pairs(known), wins(known, at), (*notes, *said))


def _natural(series: Series) -> list[Any]:
    """By name, numbers by their size."""
    parts = re.split(r"(\d+)", series.name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


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


# Two arms --------------------------------------------------------------------------------------------------


def common_range(found: Sequence[Arm]) -> tuple[float, float]:
    """The least compute that all arms have, and the greatest that any has."""
    inside = [arm.series.compute[arm.series.inside] for arm in found]
    return max(float(c[0]) for c in inside), max(float(c[-1]) for c in inside)


def pairs(found: Sequence[Arm]) -> tuple[Pair, ...]:
    """Every two arms."""
    low, high = common_range(found)
    grid = _grid(low, high * 10**REACH, FINE)
    levels = {arm.name: arm.levels(grid) for arm in found}
    compared = grid <= PAST * high * (1 + 1e-9)
    return tuple(_pair(a, b, grid, compared, levels[a.name], levels[b.name]) for a, b in combinations(found, 2))


def _pair(a: Arm, b: Arm, grid: Floats, compared: np.ndarray, levels_a: Floats, levels_b: Floats) -> Pair:
    asymptote = b.limits() - a.limits()
    goal = _common(a, b)
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
        asymptote=_estimate(asymptote),
        asymptote_probability=better,
        asymptote_verdict=ahead(better, a.name, b.name),
        common=1 - goal if a.series.metric == "accuracy" else goal,
        efficiency=_bounded(ratio),
        efficiency_probability=cheaper,
        efficiency_verdict=ahead(cheaper, a.name, b.name),
        start_probability=chance_ahead(start),
        end_probability=chance_ahead(end),
        crossing_probability=share,
        crossing=_estimate(where[crosses]) if share >= 0.5 else None,
        crossing_verdict=ahead(share, "crosses", "does not cross"),
    )  # fmt: skip


def _common(a: Arm, b: Arm) -> float:
    """The level that both arms are to reach; see `SHARE_OF_GAIN`."""
    low, _ = common_range((a, b))
    high = min(float(arm.series.compute[-1]) for arm in (a, b))
    start, end = np.median([arm.levels(np.array([low, high])) for arm in (a, b)], axis=1).T
    return float(end.max() + (1 - SHARE_OF_GAIN) * max(start.min() - end.max(), 0.0))


def ahead(probability: float, first: str, second: str) -> str:
    """The first or the second, by the probability that it is the first; "cannot tell" without `CERTAINTY`."""
    if probability >= CERTAINTY:
        return first
    return second if 1 - probability >= CERTAINTY else "cannot tell"


def chance_ahead(lead: Floats) -> float:
    """Share of the paths on which the lead is positive; a tie counts by half."""
    return float(np.mean(lead > 0) + np.mean(lead == 0) / 2)


def _reached(grid: Floats, levels: Floats, goal: float) -> Floats:
    """[D] least compute of the grid at which a path is at the goal or better; inf where it never is."""
    there = levels <= goal
    return np.where(there.any(1), grid[np.argmax(there, 1)], math.inf)


def _ratio(first: Floats, second: Floats) -> Floats:
    """[D] second over first; NaN where neither reaches the goal."""
    with np.errstate(invalid="ignore"):
        return second / first


def _bounded(ratio: Floats) -> Estimate:
    """An estimate in which a path without a ratio could have any."""
    lo, hi = (_estimate(np.nan_to_num(ratio, nan=any_, posinf=math.inf)) for any_ in (0.0, math.inf))
    return Estimate(lo.median if lo.median == hi.median else None, lo.lo90, hi.hi90)


def _estimate(values: Floats) -> Estimate:
    lo, median, hi = (float(q) for q in np.quantile(values, INTERVAL, method="inverted_cdf"))
    return Estimate(*(None if math.isinf(q) else q for q in (median, lo, hi)))


# All arms --------------------------------------------------------------------------------------------------


def wins(found: Sequence[Arm], at: Sequence[float] = ()) -> tuple[Win, ...]:
    """Which arm is best, at computes spread over the common range and 10 times beyond, and at those given."""
    low, high = common_range(found)
    grid = np.unique(np.concatenate([_grid(low, PAST * high, A_DECADE), np.asarray(at, dtype=np.float64)]))
    chances = best(np.stack([arm.levels(grid) for arm in found]))
    shortest = min(float(arm.series.compute[-1]) for arm in found)
    rows = []
    for compute, row in zip(grid, chances.T, strict=True):
        leader = int(row.argmax())
        sure = row[leader] >= CERTAINTY
        probability = {arm.name: float(p) for arm, p in zip(found, row, strict=True)}
        rows.append(
            Win(
                float(compute),
                bool(compute > shortest),
                probability,
                found[leader].name if sure else "cannot tell",
            )
        )
    return tuple(rows)


def best(levels: Floats) -> Floats:
    """[A, X] share of the paths on which each arm is best, of levels [A, D, X]; ties are split evenly."""
    first = levels == levels.min(0)
    return (first / first.sum(0)).mean(1)


def _grid(low: float, high: float, a_decade: int) -> Floats:
    """Computes at equal steps of their logarithm, both ends among them."""
    steps = max(1, math.ceil(a_decade * math.log10(high / low) - 1e-9))
    return low * (high / low) ** (np.arange(steps + 1) / steps)
