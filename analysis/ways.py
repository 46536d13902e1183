"""The curves of one run: which of its points make one, along which axis, and as which frame they are fitted."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from analysis.configs import headline_budget
from analysis.series import Series, series_of
from analysis.table import CANONICAL


@dataclass(frozen=True)
class Way:
    """One curve of a run: which points, along which axis."""

    key: str
    """rl, train, budget or votes."""
    name: str
    axis: str
    """Column of `points` that is the compute, FLOPs."""
    points: pl.DataFrame
    """Rows of `estimates`."""

    def frame(self) -> pl.DataFrame:
        """The curve as a canonical frame (`analysis.table.CANONICAL`): a row a problem and point."""
        return (
            self.points.select(
                pl.col("run").alias("source"),
                pl.lit(self.axis).alias("group"),
                pl.lit(self.name).alias("curve"),
                pl.col("seed"),
                pl.int_ranges(pl.col("values").list.len()).alias("problem"),
                pl.col(self.axis).alias("compute"),
                pl.lit("FLOPs").alias("unit"),
                pl.lit("accuracy").alias("metric"),
                pl.col("values").alias("value"),
                pl.col("draws").cast(pl.Float64).alias("n"),
                pl.lit(None, dtype=pl.Float64).alias("successes"),
                pl.lit("fit").alias("split"),
            )
            .explode("problem", "value")
            .with_columns(pl.col("problem").cast(pl.String))
            .select(list(CANONICAL))
        )

    def series(self) -> Series:
        """The curve as it is fitted: problems' own accuracies over FLOPs."""
        (found,) = series_of(self.frame())
        return found


def ways(frame: pl.DataFrame) -> tuple[Way, ...]:
    """The four curves of a run's `estimates`: over RL, over all of training, over budgets, over votes."""
    means = headline(frame)
    last = means.sort("step")["checkpoint"][-1]
    at_last = frame.filter(checkpoint=last)
    votes = at_last.filter(estimator="maj", budget=votes_budget(frame))
    return (
        Way("rl", "RL train compute", "rl_flops", rl_points(means)),
        Way("train", "All train compute", "train_flops", train_points(means)),
        Way("budget", "Test compute, thinking longer", "test_flops", at_last.filter(estimator="mean")),
        Way("votes", "Test compute, majority vote", "test_flops", votes),
    )


def headline(estimates: pl.DataFrame) -> pl.DataFrame:
    """The mean accuracy of every checkpoint at the headline budget: rows of `estimates`."""
    return estimates.filter(estimator="mean", budget=headline_budget(estimates["budget"].unique().to_list()))


def votes_budget(estimates: pl.DataFrame) -> int:
    """The largest budget that has the grid's largest number of samples: the longest curve of votes."""
    return int(estimates.filter(samples=estimates["samples"].max())["budget"].max())  # type: ignore[arg-type]


def rl_points(means: pl.DataFrame) -> pl.DataFrame:
    """The state before RL (the last without RL compute), then every checkpoint of RL, rising in compute."""
    before = means.filter(pl.col("rl_flops") == 0).sort("step").tail(1)
    during = means.filter(pl.col("rl_flops") > 0).unique("rl_flops", keep="last").sort("rl_flops")
    return pl.concat([before, during])


def train_points(means: pl.DataFrame) -> pl.DataFrame:
    """Every checkpoint, rising in train compute; of several at one compute the last."""
    return means.sort("step").unique("train_flops", keep="last").sort("train_flops")


def run_frame(points: pl.DataFrame) -> pl.DataFrame:
    """The four curves of a run, of its `estimates`, as one canonical frame."""
    return pl.concat([way.frame() for way in ways(points)])
