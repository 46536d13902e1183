"""The two panels of one or several runs: accuracy against log train and log test compute, for a chosen setting.

The chosen way of answering (budget, samples, estimator) is what the left panel follows through training; the
chosen checkpoint is what the right panel spends test compute on. Rings mark the one choice in the other panel.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl

from analysis.curve_plot import band_table, bands, forecast_words, verdict
from analysis.dashboard.accuracy_axis import Accuracy, accuracy
from analysis.drawing import THEMES, Chart, Theme, log_axis, notice, powers, styled, zero_label
from analysis.fit import CurveFit, fit_series
from analysis.grouping import arm_names
from analysis.load import Way, config, estimates, headline_budget, outcomes, rl_points, setting

WIDTH, HEIGHT = 468, 340
GAP = 0.4
"""Decades left of the first point at which the state before RL stands."""
MOST_BANDS = 3
"""Runs with bands; of more only the medians are drawn."""
LONGER, MORE = "Thinking longer", "More samples"
"""What test compute is spent on: budgets at the chosen samples, samples at the chosen budget."""
AXES = {"rl_flops": "RL train compute (FLOPs)", "train_flops": "All train compute (FLOPs)"}
ESTIMATORS = {"mean": "one sample", "pass": "pass@{}", "maj": "majority of {}"}
INTERVAL = ("lo90", "median", "hi90")


@dataclass(frozen=True)
class Choice:
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


def first_choice(run_dir: Path) -> Choice:
    """The headline setting of a run's config: the middle of the positive budgets, one sample."""
    return Choice(headline_budget([int(b) for b in setting(config(run_dir), "evaluation.budgets")]), 1, "mean")


# What is drawn -----------------------------------------------------------------------------------------------


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
    ways = {choice.axis: rl_points(train) if choice.axis == "rl_flops" else _whole(train)}
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


def _whole(points: pl.DataFrame) -> pl.DataFrame:
    return points.sort("step").unique("train_flops", keep="last").sort("train_flops")


def _axis(way: str) -> str:
    return way if way in AXES else "test_flops"


def _fits(ways: dict[str, pl.DataFrame]) -> list[CurveFit | None]:
    drawn = [Way(way, way, _axis(way), points) for way, points in ways.items() if len(points)]
    found = dict(zip((way.key for way in drawn), fit_series([way.series() for way in drawn]), strict=True))
    return [found.get(way) for way in ways]


def _curve(way: str, points: pl.DataFrame, found: CurveFit | None) -> Curve:
    compute = pl.col(_axis(way))
    table = points.select(
        pl.when(compute > 0).then(compute.log10()).alias("x"), compute.alias("compute"), "accuracy", "lo95", "hi95",
        "chosen", "checkpoint", "step", "budget", "samples", "shown", "tokens", "test_flops", "command",
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


# Charts ------------------------------------------------------------------------------------------------------


def chart(found: Sequence[Fitted], choice: Choice, theme: str = "light") -> Chart:
    """Both panels, on one accuracy axis; 1180 pixels wide. theme: a name of `analysis.drawing.THEMES`."""
    look = THEMES[theme]
    drawn = [run for run in found if len(run.train.points) or any(len(curve.points) for curve in run.test)]
    if not drawn:
        return notice(f"No complete evaluation of {choice.words}.", look)
    curves = [curve for run in drawn for curve in (run.train, *run.test)]
    level = accuracy(_levels(curves), choice.logit, HEIGHT)
    labels = _labels(drawn, choice)
    colours = dict(zip(dict.fromkeys(labels), _cycle(look), strict=False))
    both = [_panel(side, drawn, labels, colours, level, choice, look) for side in ("train", "test")]
    return styled(alt.hconcat(*both, spacing=34), look)


def _levels(curves: Sequence[Curve]) -> list[float]:
    """All accuracies that must be in sight."""
    shown = [(c.points, ("lo95", "hi95")) for c in curves] + [(c.band, ("lo90", "hi90")) for c in curves]
    return [float(v) for table, names in shown if table is not None for name in names for v in table[name]]


def _cycle(look: Theme):
    while True:
        yield from look.colours


def _labels(found: Sequence[Fitted], choice: Choice) -> list[str]:
    """Of each run, what it is coloured by."""
    if choice.colour == "run":
        return [run.run for run in found]
    arms = arm_names({str(i): run.fields for i, run in enumerate(found)})
    return [arms[str(i)] for i in range(len(found))]


def _panel(
    side: str,
    found: Sequence[Fitted],
    labels: Sequence[str],
    colours: dict[str, str],
    level: Accuracy,
    choice: Choice,
    look: Theme,
) -> Any:
    title = AXES[choice.axis] if side == "train" else "Test compute (FLOPs per problem)"
    runs = [
        (run, label, (run.train,) if side == "train" else run.test)
        for run, label in zip(found, labels, strict=True)
    ]
    places = [x for _, _, curves in runs for curve in curves for x in curve.points["x"].drop_nulls()]
    if not places:
        places = [0.0, 1.0]
    tops = [x for _, _, curves in runs for c in curves if c.band is not None for x in (c.band["x"].max(),)]
    first, last = min(places), max([*places, *tops])
    zero = any(curve.points["x"].null_count() for _, _, curves in runs for curve in curves)
    low = first - (GAP + 0.15 if zero else 0.08)
    x = log_axis(title, low, last + 0.05, first)
    layers: list[Any] = []
    for run, label, curves in runs:
        for curve in curves:
            if curve.band is not None and len(curve.points):
                end = float(curve.points["x"].max())  # type: ignore[arg-type]
                drawn = bands(level.place(curve.band), end, x, level.axis, colours[label])
                layers += drawn if len(found) <= MOST_BANDS else drawn[2:]
    layers += _marks(runs, x, first - GAP, level, colours, look)
    layers += _limits(runs, level, colours)
    layers += powers(x, first, last + 0.05, HEIGHT)
    if zero:
        layers += zero_label(x, first - GAP, HEIGHT)
    return alt.layer(*layers, width=WIDTH, height=HEIGHT, title=_title(side, runs, choice))


def _marks(runs, x: alt.X, zero: float, level: Accuracy, colours: dict[str, str], look: Theme) -> list[Any]:
    """Points with their intervals; a ring around those that are chosen."""
    table = pl.concat(
        [
            curve.points.select(
                pl.all(),
                pl.lit(run.run).alias("run"),
                pl.lit(label).alias("label"),
                pl.lit(curve.way).alias("way"),
            )
            for run, label, curves in runs
            for curve in curves
        ]
    ).with_columns(pl.col("x").fill_null(zero), percent=pl.col("accuracy"), lo=pl.col("lo95"), hi=pl.col("hi95"))
    table = level.place(table)
    names, ways = list(colours), list(dict.fromkeys(table["way"]))
    legend = alt.Legend(columns=3) if len(names) > 1 else None
    colour = alt.Color("label:N", title=None, sort=names, legend=legend,
                       scale=alt.Scale(domain=names, range=list(colours.values())))  # fmt: skip
    shape = alt.Shape("way:N", title=None, sort=ways, legend=alt.Legend() if len(ways) > 1 else None,
                      scale=alt.Scale(domain=ways, range=["circle", "square"][: len(ways)]))  # fmt: skip
    base = alt.Chart(table).encode(x=x)
    rings = base.transform_filter("datum.chosen").mark_point(size=190, strokeWidth=1.6, color=look.ink)
    return [
        base.mark_rule(strokeWidth=1.4).encode(y=level.axis("lo95"), y2="hi95:Q", color=colour),
        rings.encode(y=level.axis("accuracy")),
        base.mark_point(size=52, filled=True, opacity=1).encode(
            y=level.axis("accuracy"), color=colour, shape=shape, tooltip=TOOLTIP
        ),
    ]


TOOLTIP = [
    alt.Tooltip("run:N"),
    alt.Tooltip("percent:Q", title="accuracy", format=".1%"),
    alt.Tooltip("lo:Q", title="95% from", format=".1%"),
    alt.Tooltip("hi:Q", title="to", format=".1%"),
    alt.Tooltip("shown:N", title="right"),
    alt.Tooltip("budget:Q", title="thinking budget"),
    alt.Tooltip("samples:Q"),
    alt.Tooltip("tokens:Q", title="tokens a problem", format=".1f"),
    alt.Tooltip("test_flops:Q", title="FLOPs a problem", format=".2e"),
    alt.Tooltip("compute:Q", title="FLOPs on this axis", format=".2e"),
    alt.Tooltip("step:Q"),
    alt.Tooltip("command:N", title="again"),
]


def _limits(runs, level: Accuracy, colours: dict[str, str]) -> list[Any]:
    """Identified asymptotes with their 90% intervals, side by side at the right margin."""
    found = [(label, curve) for _, label, curves in runs for curve in curves if curve.asymptote is not None]
    layers = []
    for i, (label, curve) in enumerate(found):
        table = level.place(
            curve.asymptote.with_columns(percent=pl.col("median"), lo=pl.col("lo90"), hi=pl.col("hi90"))
        )
        tips = [alt.Tooltip("percent:Q", title="asymptote", format=".1%")]
        tips += [
            alt.Tooltip(f"{name}:Q", title=words, format=".1%")
            for name, words in (("lo", "90% from"), ("hi", "to"))
        ]
        base = alt.Chart(table).encode(x=alt.value(WIDTH + 6 + 7 * i), tooltip=tips)
        layers.append(base.mark_rule(strokeWidth=5, opacity=0.6, color=colours[label]).encode(
            y=level.axis("lo90"), y2="hi90:Q"))  # fmt: skip
        layers.append(base.mark_point(shape="diamond", filled=True, size=40, opacity=1, color=colours[label]).encode(
            y=level.axis("median")))  # fmt: skip
    return layers


def _title(side: str, runs, choice: Choice) -> alt.TitleParams:
    """Of one run its verdicts and forecasts; of several how many, and what is drawn."""
    (run, _, curves), *more = runs
    scope = f"{choice.words}; {run.problems} problems; bars 95%, bands 50% and 90%"
    if side == "test":
        scope = f"checkpoint {run.checkpoint}; {scope.partition('; ')[2]}"
    if not more:
        text = "; ".join(f"{_name(curve.way)}: {curve.verdict}" for curve in curves)
        words = [*(curve.words for curve in curves), scope]
    else:
        text = f"Accuracy over {'train' if side == 'train' else 'test'} compute, {len(runs)} runs"
        words = [choice.words if side == "train" else "each at its checkpoint"]
        words += ["bars 95%, bands 50% and 90%" if len(runs) <= MOST_BANDS else "bars 95%, medians of the fits"]
    lines = [line for word in words for line in textwrap.wrap(word, 76)]
    return alt.TitleParams(text=textwrap.wrap(text, 58), subtitle=lines)


def words(found: Sequence[Fitted]) -> tuple[str, ...]:
    """A line a run and curve: its verdict, and its forecast or why there is none."""
    return tuple(
        f"{run.run}, {_name(curve.way)[0].lower()}{_name(curve.way)[1:]}: {curve.verdict}; {curve.words}"
        for run in found
        for curve in (run.train, *run.test)
    )


def _name(way: str) -> str:
    return AXES[way].removesuffix(" (FLOPs)") if way in AXES else way
