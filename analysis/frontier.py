"""What the surface of accuracy says of the exchange between train and test compute.

How much test compute replaces 10× of train compute (asked by Jones 2021, arXiv 2104.03113, who found 15× for
AlphaZero on Hex), and how a total of FLOPs is best split when a number of answers is to be served from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis.arrays import INTERVAL, Floats
from analysis.surface import Points, Surface, surface

__all__ = ["Exchange", "Line", "Points", "Rate", "Surface", "best_split", "exchange_rate", "surface"]

MIN_GAIN = 0.02
"""Accuracy that each axis must add across the data (P ≥ .95) before a rate between them has a meaning."""
MAX_DECADES = 2.0
"""A rate whose 90% interval spans more is not identified."""
LINES = 5
EDGE = 200
"""Points on each side of the data's rectangle between which a line's ends are interpolated."""
GRID = 121
ZOOMS = 3
"""Times that the best split is sought again between its neighbours, each time on `GRID` points."""
SPLITS = {
    name: pl.Float64
    for name in ("total", "train", "test", "test_share", "share_lo90", "share_hi90", "accuracy", "lo90", "hi90")
} | {"at_border": pl.Boolean, "extrapolated": pl.Boolean}


@dataclass(frozen=True)
class Rate:
    """Factor of test compute that replaces 10× of train compute at equal accuracy, and its 90% interval."""

    median: float
    lo90: float
    hi90: float


@dataclass(frozen=True)
class Line:
    """A line of equal accuracy of the best surface, between its ends on the border of the data's rectangle."""

    accuracy: float
    start: tuple[float, float]
    """Train, test compute (FLOPs) where least is trained and most thought."""
    end: tuple[float, float]
    rate: float | None
    """Factor of test compute that replaces 10× of train compute over the line; None where none would do."""


@dataclass(frozen=True)
class Exchange:
    """What train compute is worth in test compute."""

    rate: Rate | None
    """None: not identified."""
    reason: str
    """Why it is not identified; empty where it is."""
    lines: tuple[Line, ...]
    """Where it is measured."""


def exchange_rate(surface: Surface) -> Exchange:
    """How many times more test compute replaces 10× of train compute, inside the data's range.

    10^(decades of test compute given up / decades of train compute gained), summed over `LINES` lines of equal
    accuracy, evenly spaced between the data's least and greatest computes, each followed from one border of the
    data's rectangle to another. So long lines count most, and no slope is taken where the surface is flat.
    """
    low, high = np.array(surface.low), np.array(surface.high)
    up, right = np.array([low[0], high[1]]), np.array([high[0], low[1]])
    steps = np.linspace(0, 1, EDGE)[:, None]
    # Accuracy rises along both ways around the rectangle, so every line crosses each of them exactly once.
    ways = [np.concatenate([low + steps * (turn - low), turn + steps[1:] * (high - turn)]) for turn in (up, right)]
    measured = [surface.best(*10**way.T)[None] for way in ways]
    levels = np.linspace(measured[0][0, 0], measured[0][0, -1], LINES + 2)[1:-1]
    starts, ends = (_crossings(a, way, levels)[0] for a, way in zip(measured, ways, strict=True))
    lines = tuple(
        Line(float(level), _flops(start), _flops(end), _factor(end - start))
        for level, start, end in zip(levels, starts, ends, strict=True)
    )
    starts, ends = (_crossings(surface.predict(*10**way.T), way, levels) for way in ways)
    moved = np.nansum(ends - starts, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.where(moved[:, 0] + moved[:, 1] == 0, np.inf, -moved[:, 1] / moved[:, 0])
        lo, median, hi = np.quantile(decades, INTERVAL, method="nearest")
        narrow = hi - lo < MAX_DECADES
    reasons = [
        f"P({name} compute adds {100 * MIN_GAIN:.0f} points across the data) is {share:.2f}, below {INTERVAL[-1]}"
        for name, share in zip(("train", "test"), _certain(surface), strict=True)
        if share < INTERVAL[-1]
    ]
    if not reasons and not narrow:
        reasons = [f"the rate's 90% interval spans more than a factor of {10**MAX_DECADES:.0f}"]
    rate = None if reasons else Rate(*(float(10**d) for d in (median, lo, hi)))
    return Exchange(rate, "; ".join(reasons), lines)


def _flops(place: Floats) -> tuple[float, float]:
    return float(10 ** place[0]), float(10 ** place[1])


def _factor(moved: Floats) -> float | None:
    """10^(decades down over decades right); None beyond what a float holds."""
    return float(10 ** (-moved[1] / moved[0])) if -moved[1] < 300 * moved[0] else None


def _crossings(accuracy: Floats, way: Floats, levels: Floats) -> Floats:
    """Where accuracies [R, E], rising along a way [E, 2], pass each level: [R, L, 2]; NaN where they do not."""
    after = (accuracy[:, None, :] < levels[:, None]).sum(-1)
    inside = (after > 0) & (after < accuracy.shape[1])
    after = np.clip(after, 1, accuracy.shape[1] - 1)
    below, above = (np.take_along_axis(accuracy, after - k, 1) for k in (1, 0))
    share = np.clip((levels - below) / np.maximum(above - below, 1e-12), 0, 1)[..., None]
    return np.where(inside[..., None], (1 - share) * way[after - 1] + share * way[after], np.nan)


def _certain(surface: Surface) -> tuple[float, float]:
    """Probability that train compute adds `MIN_GAIN` across the data, averaged over test compute; and that test
    compute does, averaged over train compute."""
    (train_low, test_low), (train_high, test_high) = surface.low, surface.high
    train, test = 10 ** np.linspace(train_low, train_high, 5), 10 ** np.linspace(test_low, test_high, 5)
    by_train = surface.predict(10**train_high, test) - surface.predict(10**train_low, test)
    by_test = surface.predict(train, 10**test_high) - surface.predict(train, 10**test_low)
    return float(np.mean(by_train.mean(1) >= MIN_GAIN)), float(np.mean(by_test.mean(1) >= MIN_GAIN))


def best_split(surface: Surface, answers: float, totals: float | Sequence[float]) -> pl.DataFrame:
    """Train compute C and test compute c an answer with C + answers·c = total, for the greatest accuracy.

    answers: how many will be served from the model; totals: FLOPs, one or several. A row a total, `SPLITS`:
    train, test (FLOPs); test_share = answers·c / total with the 90% interval of the replicates' own optima;
    accuracy there with its 90% interval; at_border: the optimum stands where the stated range ends (10× past the
    data), so the true one may lie beyond; extrapolated: outside the data's rectangle. Nulls where no split of
    a total lies in the range. Raises ValueError unless answers and totals are finite and above 0.
    """
    wanted = np.atleast_1d(np.asarray(totals, dtype=np.float64))
    if not (np.isfinite(answers) and answers > 0 and np.all(np.isfinite(wanted) & (wanted > 0))):
        raise ValueError("answers and totals must be finite and above 0")
    return pl.DataFrame([_split(surface, float(answers), float(total)) for total in wanted], schema=SPLITS)


def _split(surface: Surface, answers: float, total: float) -> dict[str, float | bool | None]:
    (least_train, least_test), (most_train, most_test) = surface.reach()
    least = max(least_test, (total - most_train) / answers)
    most = min(most_test, (total - least_train) / answers)
    if least > most:
        return dict.fromkeys(SPLITS) | {"total": total}

    def curve(low: float, high: float) -> tuple[Floats, Floats]:
        """Train and test compute of splits with a test compute from low to high, dense in both logarithms."""
        rest = np.clip([total - answers * high, total - answers * low], least_train, most_train)
        by_train = (total - np.geomspace(rest[0], rest[1], GRID)) / answers
        test = np.unique(np.clip(np.concatenate([np.geomspace(low, high, GRID), by_train]), low, high))
        return np.clip(total - answers * test, least_train, most_train), test

    train, test = curve(least, most)
    own = np.argmax(surface.predict(train, test), axis=1)
    fine = curve(float(test[max(own.min() - 1, 0)]), float(test[min(own.max() + 1, len(test) - 1)]))
    share = fine[1][np.argmax(surface.predict(*fine), axis=1)] * answers / total
    share_lo, share_hi = np.quantile(share, (INTERVAL[0], INTERVAL[-1]))
    at = int(np.argmax(surface.best(train, test)))
    at_border = at in (0, len(test) - 1)
    for _ in range(ZOOMS):
        train, test = curve(float(test[max(at - 1, 0)]), float(test[min(at + 1, len(test) - 1)]))
        at = int(np.argmax(surface.best(train, test)))
        at_border = at_border and at in (0, len(test) - 1)
    place = np.log10([train[at], test[at]])
    lo, hi = np.quantile(surface.predict(train[at], test[at])[:, 0], (INTERVAL[0], INTERVAL[-1]))
    return {
        "total": total, "train": float(train[at]), "test": float(test[at]),
        "test_share": float(test[at]) * answers / total, "share_lo90": share_lo, "share_hi90": share_hi,
        "accuracy": float(surface.best(train[at], test[at])), "lo90": lo, "hi90": hi, "at_border": at_border,
        "extrapolated": bool(np.any(place < np.array(surface.low)) or np.any(place > np.array(surface.high))),
    }  # fmt: skip
