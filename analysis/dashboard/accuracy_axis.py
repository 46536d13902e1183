"""The accuracy axis of a panel, linear or in logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from analysis.drawing import Y, round_ticks, values_axis

EDGE = 1e-3
"""In logits, accuracies nearer to 0 or 1 stand here: a logit has no place for them."""
ROUND = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Accuracies that a logit axis labels, and 1 minus them."""
APART = 22
"""Pixels between two labels, at least."""
LEVELS = ("accuracy", "median", "lo50", "hi50", "lo90", "hi90", "lo95", "hi95")
"""Columns of tables that are accuracies, and are placed on the axis."""


@dataclass(frozen=True)
class Accuracy:
    """An axis, and how tables are placed on it."""

    logit: bool
    axis: Y
    """Of a column that `place` has placed."""

    def place(self, table: pl.DataFrame) -> pl.DataFrame:
        """The table with its `LEVELS` where they stand on this axis."""
        if not self.logit:
            return table
        names = [name for name in LEVELS if name in table.columns]
        inside = pl.col(names).clip(EDGE, 1 - EDGE)
        return table.with_columns((inside / (1 - inside)).log())


def accuracy(levels: Sequence[float], logit: bool, height: int) -> Accuracy:
    """An axis around accuracies that must be in sight, over so many pixels."""
    low, high = min(levels), max(levels)
    if not logit:
        margin = 0.04 * max(high - low, 0.05)
        low, high = max(low - margin, 0.0), min(high + margin, 1.0)
        ticks, style = round_ticks(low, high, 7)
        return Accuracy(False, _axis((low, high), ticks, f"format(datum.value, '{style}')"))
    low, high = (_logit(min(max(end, EDGE), 1 - EDGE)) for end in (low, high))
    low, high = low - 0.15, high + 0.15
    ticks = []
    for place in sorted(_logit(p) for q in ROUND for p in {q, 1 - q}):
        far = not ticks or (place - ticks[-1]) * height >= APART * (high - low)
        if low <= place <= high and far:
            ticks.append(place)
    return Accuracy(True, _axis((low, high), ticks, "format(1 / (1 + exp(-datum.value)), '.1~%')"))


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _axis(domain: tuple[float, float], ticks: list[float], label: str) -> Y:
    return values_axis("Held-out accuracy", domain, ticks, labelExpr=label)
