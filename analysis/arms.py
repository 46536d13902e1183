"""Arms compared: where each ends, how much compute one needs for what another reaches, and which wins where.

from analysis.arms import compare
compare(["sweeps/width"], by=["model.width"]).pairs
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.alignment import Arm, aligned, best, common_range
from analysis.grouping import arms
from analysis.pairs import PAST, SHARE_OF_GAIN, Pair, pairs
from analysis.posterior import REPLICATES
from analysis.saturation import CERTAINTY
from analysis.series import Series, series_of
from analysis.table import TableError

A_DECADE = 4
"""Computes a decade at which the chance to be best is stated."""
DEFINITION = (
    f"An arm is ahead, or best, if it is so on at least {CERTAINTY} of the paths; otherwise: cannot tell. Paths "
    "of arms are taken side by side, with the same problems redrawn in all. Efficiency: the compute of the second "
    f"arm over that of the first to reach a common value, {SHARE_OF_GAIN} of the way from the better one's at the "
    "least compute that both have to the worse one's at the greatest; above 1 the first needs less. Two arms "
    "cross if their order at the first compute compared is not their order at the last, which is "
    f"{PAST:.0f} times the greatest compute of the data."
)


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
    """Arms held against each other."""

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

    def differences(self) -> pl.DataFrame:
        """A row a pair, every field of `analysis.pairs.Pair`: an estimate as NAME, NAME_lo90 and NAME_hi90."""
        rows = []
        for pair in self.pairs:
            row = asdict(pair)
            for name in ("asymptote", "efficiency", "crossing"):
                ends = row.pop(name) or dict.fromkeys(("median", "lo90", "hi90"))
                row |= {name: ends["median"], f"{name}_lo90": ends["lo90"], f"{name}_hi90": ends["hi90"]}
            rows.append(row)
        return pl.DataFrame(rows, infer_schema_length=None)

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


def wins(found: Sequence[Arm], at: Sequence[float] = ()) -> tuple[Win, ...]:
    """Which arm is best, at computes spread over the common range and 10 times beyond, and at those given.

    The greatest compute of the data is one of them.
    """
    low, high = common_range(found)
    steps = math.floor(A_DECADE * math.log10(PAST * high / low) + 1e-9)
    grid = PAST * high * 10.0 ** (-np.arange(steps, -1, -1) / A_DECADE)
    grid = np.unique(np.concatenate([grid, np.asarray(at, dtype=np.float64)]))
    chances = best(np.stack([arm.levels(grid) for arm in found]))
    shortest = min(float(arm.series.compute[-1]) for arm in found)
    rows = []
    for compute, row in zip(grid, chances.T, strict=True):
        leader = found[int(row.argmax())].name if row.max() >= CERTAINTY else "cannot tell"
        probability = {arm.name: float(p) for arm, p in zip(found, row, strict=True)}
        rows.append(Win(float(compute), bool(compute > shortest * (1 + 1e-9)), probability, leader))
    return tuple(rows)
