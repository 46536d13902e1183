"""What the two panels draw of one run, for a chosen setting: points, fits, and what is said of them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.configs import config
from analysis.curve_plot import band_table, forecast_words, verdict
from analysis.fit import CurveFit, fit_series
from analysis.load import estimates, outcomes
from analysis.ways import Way, rl_points, train_points

LONGER, MORE = "Thinking longer", "More samples"
"""What test compute is spent on: budgets at the chosen samples, samples at the chosen budget."""
AXES = {"rl_flops": "RL train compute (FLOPs)", "train_flops": "All train compute (FLOPs)"}
ESTIMATORS = {"mean": "one sample", "pass": "pass@{}", "maj": "majority of {}"}
INTERVAL = ("lo90", "median", "hi90")


@dataclass(frozen=True)
class Choice:
    """What is looked at, and how it is drawn."""

    budget: int
    """Thinking tokens."""
    samples: int
    """1 for the estimator mean."""
    estimator: str
    """mean, pass or maj."""
    logit: bool = False
    """Accuracy axes in logits, labelled in percent."""
    colour: str = "run"
    """One a run, or one an arm: runs that differ by no more than their seed."""
    axis: str = "rl_flops"
    """Of the left panel: a name of `AXES`."""
    checkpoint: str = ""
    """A run's last up to this name is looked at (its first, where all come later); empty: the last of all."""

    @property
    def fitted(self) -> tuple[int, int, str, str, str]:
        """What `fitted` depends on."""
        return self.budget, self.samples, self.estimator, self.axis, self.checkpoint

    @property
    def words(self) -> str:
        """The way of answering, as titles name it."""
        return f"budget {self.budget}, {ESTIMATORS[self.estimator].format(self.samples)}"


@dataclass(frozen=True)
class Curve:
    """Points, and what is fitted through them."""

    way: str
    """The axis of the left panel, or `LONGER` or `MORE`."""
    points: pl.DataFrame
    """By compute: x (log10, null without compute), accuracy, lo95, hi95, `chosen`, and what hovering shows."""
    band: pl.DataFrame | None
    """`curve_plot.band_table`; None where nothing was fitted."""
    asymptote: pl.DataFrame | None
    """`INTERVAL`, where it is identified."""
    verdict: str
    words: str
    """The forecast, or why there is none."""


@dataclass(frozen=True)
class Fitted:
    """All that is drawn of one run."""

    run: str
    fields: dict[str, Any]
    """Its config."""
    checkpoint: str
    """Looked at in the right panel; empty where nothing is evaluated."""
    problems: int
    train: Curve
    test: tuple[Curve, ...]


def fitted(run_dir: Path, choice: Choice) -> Fitted:
    """Read and fit, in seconds; a function of the run's files and of `choice.fitted`.

    Raises RecordError at a damaged file.
    """
    found = outcomes(run_dir)
    points = _points(run_dir, choice, found)
    names = sorted(points["checkpoint"].unique().to_list())
    upto = [name for name in names if not choice.checkpoint or name <= choice.checkpoint] or names[:1]
    checkpoint = upto[-1] if upto else ""
    mine = points.filter(estimator=choice.estimator)
    here, of_budget, of_samples = (
        pl.col("checkpoint") == checkpoint,
        pl.col("budget") == choice.budget,
        pl.col("samples") == choice.samples,
    )
    train = mine.filter(of_budget & of_samples).with_columns(chosen=here)
    ways = {choice.axis: rl_points(train) if choice.axis == "rl_flops" else train_points(train)}
    ways[LONGER] = mine.filter(here & of_samples).with_columns(chosen=of_budget).sort("test_flops")
    if choice.estimator != "mean":
        ways[MORE] = mine.filter(here & of_budget).with_columns(chosen=of_samples).sort("test_flops")
    curves = [_curve(*drawn) for drawn in zip(ways, ways.values(), _fits(ways), strict=True)]
    problems = int(points["n"][0]) if len(points) else 0
    return Fitted(run_dir.resolve().name, config(run_dir), checkpoint, problems, curves[0], tuple(curves[1:]))


def _points(run_dir: Path, choice: Choice, found: pl.DataFrame) -> pl.DataFrame:
    """Estimates with what hovering shows: right answers of all drawn, tokens a problem, the command."""
    counts = found.group_by("checkpoint", "budget").agg(
        pl.col("correct").sum(),
        pl.col("samples").sum().alias("answers"),
        (pl.col("tokens").sum() / pl.col("samples").sum()).alias("tokens"),
    )
    again = f"scaling evaluate {shlex.quote(str(run_dir))} "
    return (
        estimates(run_dir, found)
        .join(counts, on=["checkpoint", "budget"], how="left", maintain_order="left")
        .with_columns(
            tokens=pl.col("tokens") * pl.col("samples"),
            command=again + pl.col("checkpoint"),
            shown=pl.format("{} of {} answers", "correct", "answers"),
        )
    )


def _axis(way: str) -> str:
    return way if way in AXES else "test_flops"


def _fits(ways: dict[str, pl.DataFrame]) -> list[CurveFit | None]:
    drawn = [Way(way, way, _axis(way), points) for way, points in ways.items() if len(points)]
    found = dict(zip((way.key for way in drawn), fit_series([way.series() for way in drawn]), strict=True))
    return [found.get(way) for way in ways]


def _curve(way: str, points: pl.DataFrame, found: CurveFit | None) -> Curve:
    compute = pl.col(_axis(way))
    table = points.select(
        pl.when(compute > 0).then(compute.log10()).alias("x"), compute.alias("compute"),
        "accuracy", "lo95", "hi95", "chosen", "checkpoint", "step", "budget", "samples", "shown", "tokens",
        "test_flops", "command",
    )  # fmt: skip
    if found is None:
        return Curve(way, table, None, None, "no points", "this setting was not evaluated")
    answer, limit = found.answer, found.answer.asymptote
    return Curve(
        way,
        table,
        None if found.forecast is None else band_table(found.forecast),
        pl.DataFrame([{name: getattr(limit, name) for name in INTERVAL}]) if answer.identified and limit else None,
        verdict(answer),
        forecast_words(answer),
    )
