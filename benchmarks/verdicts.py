"""Are the verdicts right? Curves with a known truth, of forms we fit and of forms we do not.

`python -m benchmarks.verdicts [--curves N] [--json]`. The truth of a curve is D, what the next 10× of compute
adds to its accuracy; a verdict is wrong if it says saturated and D ≥ .02, or not saturated and D < .02. Counts are
binomial. A cell is a kind of truth at one number of items and of points.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from analysis import calibration
from analysis.arrays import Floats
from analysis.estimators import wilson
from analysis.forecast import forecast
from analysis.posterior import posteriors
from analysis.saturation import decide, threshold
from analysis.series import Series, from_points
from benchmarks import pin

CURVES = 20
"""In each cell."""
ITEMS = (30, 200, 2000, 8000)
POINTS = (6, 12, 24)
REPLICATES = 100
"""Of each form: enough for a probability, and many curves are to be done."""
A_CALL = 64
"""Curves that are fitted together."""
ENOUGH_ITEMS = 2000
"""From here on, with the bend in the data, the program should mostly be able to tell."""
WRONG = 0.05
"""Target: the largest share of verdicts, among those given, that may be wrong in a cell."""
CANNOT_TELL = 0.2
"""Target: the largest share without a verdict where items and bend suffice."""

Truth = Callable[[Floats], Floats]
"""Decades of compute from the first point → accuracy."""


@dataclass(frozen=True)
class Draw:
    """What the kinds of truth are drawn from: the data's decades, and where accuracy starts and ends."""

    rng: np.random.Generator
    span: float
    low: float
    high: float

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def scaled(self, share: Truth) -> Truth:
        """Accuracy from the share of the rise that is realised."""
        return lambda x: self.low + (self.high - self.low) * share(x)


def _rise(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def _normal(x: Floats) -> Floats:
    return np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])


def sigmoid(d: Draw, reached: bool) -> Truth:
    power, middle = d.between(1.0, 3.5), d.span * (d.between(0.2, 0.5) if reached else d.between(0.7, 1.2))
    if reached:
        power = max(power, 4.6 / (d.span - middle) * d.between(0.8, 1.5))
    return d.scaled(lambda x: _rise(power * (x - middle)))


def power_law(d: Draw, reached: bool) -> Truth:
    power = (d.between(2.0, 4.0) if reached else d.between(0.3, 1.0)) / d.span
    return d.scaled(lambda x: 1 - 10 ** (-power * x))


def normal(d: Draw, reached: bool) -> Truth:
    """A normal distribution function: an S with thinner tails than ours."""
    width = d.span * d.between(0.12, 0.25)
    middle = d.span * (d.between(0.25, 0.5) if reached else d.between(0.7, 1.2))
    return d.scaled(lambda x: _normal((x - middle) / width))


def gompertz(d: Draw, reached: bool) -> Truth:
    """Rises abruptly, bends slowly."""
    power = d.between(1.5, 3.0) * (1.8 if reached else 0.8)
    middle = d.span * (d.between(0.15, 0.35) if reached else d.between(0.6, 1.0))
    return d.scaled(lambda x: np.exp(-np.exp(-power * (x - middle))))


def second_rise(d: Draw, reached: bool) -> Truth:
    """A plateau, then a second rise that begins within the data."""
    first, second = d.span * d.between(0.15, 0.3), d.span * d.between(0.85, 1.05)
    power, later, share = d.between(3, 6), d.between(3, 6), d.between(0.4, 0.65)
    return d.scaled(lambda x: share * _rise(power * (x - first)) + (1 - share) * _rise(later * (x - second)))


def log_linear(d: Draw, reached: bool) -> Truth:
    slope = d.between(0.05, 0.12)
    return lambda x: np.minimum(d.low + slope * x, 0.99)


@dataclass(frozen=True)
class Kind:
    name: str
    make: Callable[[Draw, bool], Truth]
    reached: bool = False
    """Whether the bend, and most of the way to the asymptote, is in the data."""


KINDS = (
    Kind("sigmoid, reached", sigmoid, True),
    Kind("sigmoid", sigmoid),
    Kind("power law, reached", power_law, True),
    Kind("power law", power_law),
    Kind("normal, reached", normal, True),
    Kind("normal", normal),
    Kind("Gompertz, reached", gompertz, True),
    Kind("Gompertz", gompertz),
    Kind("second rise", second_rise),
    Kind("log-linear", log_linear),
)


@dataclass(frozen=True)
class Simulated:
    kind: Kind
    items: int
    points: int
    series: Series
    gain: float
    """D: what the next 10× really adds."""

    @property
    def cell(self) -> tuple[str, int, int]:
        return self.kind.name, self.items, self.points


def simulated(kind: Kind, items: int, points: int, number: int) -> Simulated:
    """The number-th curve of a cell; a pure function of its arguments."""
    rng = np.random.default_rng([KINDS.index(kind), items, points, number])
    span, low = float(rng.uniform(1.5, 3.5)), float(rng.uniform(0.02, 0.3))
    truth = kind.make(Draw(rng, span, low, float(rng.uniform(low + 0.25, 0.97))), kind.reached)
    x = np.linspace(0, span, points)
    right = rng.binomial(items, np.clip(truth(x), 0, 1))
    now, later = truth(np.array([span, span + 1]))
    series = from_points(10 ** (10 + x), right / items, "accuracy", np.full(points, float(items)))
    return Simulated(kind, items, points, series, float(later - now))


@dataclass(frozen=True)
class Judged:
    """The program on one curve."""

    kind: str
    items: int
    points: int
    gain: float
    probability: float
    """P(D < .02)."""
    verdict: str
    wrong: bool


def judged(curves: Sequence[Simulated]) -> list[Judged]:
    """The verdict on each curve, as `analysis.fit` and `analysis.saturation` come to it."""
    found = []
    for curve, posterior in zip(curves, posteriors([c.series for c in curves], REPLICATES), strict=True):
        path = forecast(posterior, calibration.load())
        now, later = path.paths(curve.series.compute[-1] * np.array([1.0, 10.0])).T
        limit = threshold(curve.series)
        probability = float(np.mean(abs(curve.series.factor) * (now - later) < limit))
        verdict = decide(probability)
        truth = "saturated" if curve.gain < limit else "not saturated"
        wrong = verdict not in (truth, "cannot tell")
        found.append(Judged(*curve.cell, curve.gain, probability, verdict, wrong))
    return found


def run(curves: int) -> list[Judged]:
    """All cells, on all cores."""
    every = [
        simulated(kind, items, points, number)
        for points in POINTS
        for kind in KINDS
        for items in ITEMS
        for number in range(curves)
    ]
    parts = [every[at : at + A_CALL] for at in range(0, len(every), A_CALL)]
    workers = min(os.cpu_count() or 1, len(parts))
    pin()  # The workers inherit it: one thread each.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return [j for part in pool.map(judged, parts) for j in part]


# Summary ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    kind: str
    items: int
    points: int
    curves: int
    wrong: float
    """Share of all curves whose verdict is false."""
    cannot_tell: float
    """Share of all curves."""
    wrong_given: float | None
    """Share of the verdicts given that are false; None where none was."""


@dataclass(frozen=True)
class Summary:
    curves: int
    wrong: float
    """Share of all curves."""
    wrong_given: float
    """Share of the verdicts given."""
    worst: tuple[str, int, int]
    """Kind, items and points of the cell with the largest share wrong among all its curves."""
    worst_wrong: float
    worst_interval: tuple[float, float]
    """Its 95% binomial interval (Wilson)."""
    worst_given: float
    """Largest share wrong among the verdicts given, over the cells."""
    cells_above: int
    """Cells where more than `WRONG` of the verdicts given are false."""
    cells_surely_above: int
    """Of those, cells where that many would be so with a chance below 2.5% at `WRONG`."""
    cannot_tell: float
    """Share of the curves with `ENOUGH_ITEMS` and the asymptote reached."""


def cells(found: Sequence[Judged]) -> list[Cell]:
    """Cells in order of appearance by kind, items, points."""
    groups: dict[tuple[str, int, int], list[Judged]] = {}
    for j in found:
        groups.setdefault((j.kind, j.items, j.points), []).append(j)
    names = [kind.name for kind in KINDS]
    return [_cell(key, groups[key]) for key in sorted(groups, key=lambda k: (names.index(k[0]), k[1], k[2]))]


def _cell(key: tuple[str, int, int], group: Sequence[Judged]) -> Cell:
    wrong, silent = sum(j.wrong for j in group), sum(j.verdict == "cannot tell" for j in group)
    given = len(group) - silent
    share = wrong / given if given else None
    return Cell(*key, len(group), wrong / len(group), silent / len(group), share)


def summary(found: Sequence[Judged]) -> Summary:
    every = cells(found)
    worst = max(every, key=lambda c: c.wrong)
    given = sum(j.verdict != "cannot tell" for j in found)
    above = [c for c in every if (c.wrong_given or 0.0) > WRONG]
    sure = [c for c in above if _chance(c) < 0.025]
    reached = {kind.name for kind in KINDS if kind.reached}
    easy = [j.verdict == "cannot tell" for j in found if j.items >= ENOUGH_ITEMS and j.kind in reached]
    return Summary(
        curves=len(found),
        wrong=float(np.mean([j.wrong for j in found])),
        wrong_given=sum(j.wrong for j in found) / max(1, given),
        worst=(worst.kind, worst.items, worst.points),
        worst_wrong=worst.wrong,
        worst_interval=wilson(worst.wrong, worst.curves),
        worst_given=max(c.wrong_given or 0.0 for c in every),
        cells_above=len(above),
        cells_surely_above=len(sure),
        cannot_tell=float(np.mean(easy)) if easy else math.nan,
    )


def _chance(cell: Cell) -> float:
    """That at least as many of the verdicts given are false, where each is so with probability `WRONG`."""
    given = round(cell.curves * (1 - cell.cannot_tell))
    least = round(cell.curves * cell.wrong)
    return sum(math.comb(given, k) * WRONG**k * (1 - WRONG) ** (given - k) for k in range(least, given + 1))


def table(every: Sequence[Cell]) -> Table:
    """A row a kind and number of items, a column a number of points."""
    found = Table(title="Share wrong / share cannot tell of all curves, in percent (wrong among verdicts given)")
    found.add_column("truth")
    found.add_column("items", justify="right")
    points = sorted({c.points for c in every})
    for count in points:
        found.add_column(f"{count} points", justify="right")
    by = {(c.kind, c.items, c.points): c for c in every}
    for kind, items in dict.fromkeys((c.kind, c.items) for c in every):
        found.add_row(kind, str(items), *(_shown(by.get((kind, items, count))) for count in points))
    return found


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    given = "–" if cell.wrong_given is None else f"{100 * cell.wrong_given:.0f}"
    return f"{100 * cell.wrong:.0f} / {100 * cell.cannot_tell:.0f} ({given})"


def sentences(s: Summary) -> str:
    kind, items, points = s.worst
    low, high = s.worst_interval
    return (
        f"{s.curves} curves; wrong {s.wrong:.1%} of all, {s.wrong_given:.1%} of the verdicts given.\n"
        f"Largest share wrong of a cell: {s.worst_wrong:.1%} ({kind}, {items} items, {points} points; 95% "
        f"interval {low:.1%} to {high:.1%}); of the verdicts given {s.worst_given:.1%}. "
        f"Above {WRONG:.0%} of those given: {s.cells_above} cells, {s.cells_surely_above} beyond chance.\n"
        f"Cannot tell where {ENOUGH_ITEMS} items and the bend are in the data: {s.cannot_tell:.1%} "
        f"(target: at most {CANNOT_TELL:.0%})."
    )


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__)
    parser.add_argument("--curves", type=int, default=CURVES, metavar="N", help=f"in each cell (default {CURVES})")
    parser.add_argument("--json", action="store_true", help="cells and summary")
    asked = parser.parse_args(args)
    found = run(asked.curves)
    every, whole = cells(found), summary(found)
    if asked.json:
        print(json.dumps({"cells": [asdict(c) for c in every], "summary": asdict(whole)}, indent=1))
    else:
        Console().print(table(every))
        print(sentences(whole))
    return 0


if __name__ == "__main__":
    sys.exit(main())
