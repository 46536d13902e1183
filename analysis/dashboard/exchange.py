"""Train against test compute of one run: the map of accuracy, and what one compute is worth in the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from analysis.beyond import TrainTest, train_test
from analysis.drawing import THEMES, Chart, notice
from analysis.frontier_plot import plot_frontier
from analysis.load import estimates
from analysis.plots import heatmap


@dataclass(frozen=True)
class Traded:
    """A run's measured cells, and the surface through them."""

    estimates: pl.DataFrame
    """Of `analysis.load`; no rows where no evaluation is complete."""
    found: TrainTest | str
    """The fitted surface, or why there is none."""


def fitted(run_dir: Path) -> Traded:
    """Seconds of work, a function of the run's files alone. Raises RecordError at a damaged file."""
    points = estimates(run_dir)
    return Traded(points, "No evaluation is complete yet." if points.is_empty() else train_test(points))


def chart(traded: Traded, theme: str = "light") -> Chart:
    """The fitted surface with lines of equal accuracy; without one the measured cells; without these the reason.

    theme: a name of `analysis.drawing.THEMES`.
    """
    if isinstance(traded.found, TrainTest):
        return plot_frontier(traded.found.surface, traded.found.points, THEMES[theme])
    if traded.estimates.is_empty():
        return notice(traded.found, THEMES[theme])
    return heatmap(traded.estimates, THEMES[theme])


def words(traded: Traded) -> str:
    """Why there is no surface, where the measured cells are drawn; a fitted one's title says what it says."""
    return traded.found if isinstance(traded.found, str) and len(traded.estimates) else ""
