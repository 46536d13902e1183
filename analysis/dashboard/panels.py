"""The two panels of one or several runs: accuracy against log train and log test compute, for a chosen setting.

The chosen way of answering (budget, samples, estimator) is what the left panel follows through training; the
chosen checkpoint is what the right panel spends test compute on. Rings mark the one choice in the other panel.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from analysis.curve_plot import bands
from analysis.dashboard.accuracy_axis import Accuracy, accuracy
from analysis.dashboard.fitted import AXES, Choice, Curve, Fitted, fitted
from analysis.drawing import THEMES, Chart, Theme, log_axis, notice, powers, styled, zero_label
from analysis.grouping import arm_names

__all__ = ["Choice", "Fitted", "chart", "fitted", "words"]

WIDTH, HEIGHT = 468, 340
GAP = 0.4
"""Decades left of the first point at which the state before RL stands."""
LEAST = 0.5
"""Decades that an axis shows, at least."""
MOST_BANDS = 3
"""Fits of a panel with bands; of more only the medians are drawn."""
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
Runs = list[tuple[Fitted, str, tuple[Curve, ...]]]
"""Runs with what they are coloured by, and their curves of one panel."""


def chart(found: Sequence[Fitted], choice: Choice, theme: str = "light") -> Chart:
    """Both panels, on one accuracy axis; 1180 pixels wide. theme: a name of `analysis.drawing.THEMES`."""
    look = THEMES[theme]
    drawn = [run for run in found if len(run.train.points) or any(len(curve.points) for curve in run.test)]
    if not drawn:
        return notice(f"No complete evaluation of {choice.words}.", look)
    curves = [curve for run in drawn for curve in (run.train, *run.test)]
    level = accuracy(_levels(curves), choice.logit, HEIGHT)
    labels = _labels(drawn, choice)
    colours = dict(zip(dict.fromkeys(labels), itertools.cycle(look.colours), strict=False))
    both = [_panel(side, drawn, labels, colours, level, choice, look) for side in ("train", "test")]
    return styled(alt.hconcat(*both, spacing=34).resolve_scale(shape="independent"), look)


def _levels(curves: Sequence[Curve]) -> list[float]:
    """All accuracies that must be in sight."""
    shown = [(c.points, ("lo95", "hi95")) for c in curves] + [(c.band, ("lo90", "hi90")) for c in curves]
    return [float(v) for table, names in shown if table is not None for name in names for v in table[name]]


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
    tops = [float(c.band["x"][-1]) for _, _, curves in runs for c in curves if c.band is not None]
    first, last = (min(places), max([*places, *tops, min(places) + LEAST])) if places else (0.0, 1.0)
    zero = any(curve.points["x"].null_count() for _, _, curves in runs for curve in curves)
    low, high = first - (GAP + 0.15 if zero else 0.08), last + 0.05
    x = log_axis(title, low, high, first if places else math.inf)
    layers: list[Any] = []
    for _, label, curves in runs:
        for curve in curves:
            if curve.band is not None:
                end = float(curve.points["x"].max())  # type: ignore[arg-type]
                drawn = bands(level.place(curve.band), end, x, level.axis, colours[label])
                layers += drawn if _has_bands(runs) else drawn[2:]
    layers += _marks(runs, x, first - GAP, level, colours, look)
    layers += _limits(runs, level, colours)
    layers += powers(x, first, high, HEIGHT) if places else []
    layers += zero_label(x, first - GAP, HEIGHT) if zero else []
    return alt.layer(*layers, width=WIDTH, height=HEIGHT, title=_title(side, runs, choice))


def _has_bands(runs: Runs) -> bool:
    return sum(curve.band is not None for _, _, curves in runs for curve in curves) <= MOST_BANDS


def _marks(runs: Runs, x: alt.X, zero: float, level: Accuracy, colours: dict[str, str], look: Theme) -> list[Any]:
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
    symbols = alt.Legend(symbolFillColor=look.ink, symbolStrokeColor=look.ink)
    shape = alt.Shape("way:N", title=None, sort=ways, legend=symbols if len(ways) > 1 else None,
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


def _limits(runs: Runs, level: Accuracy, colours: dict[str, str]) -> list[Any]:
    """Identified asymptotes with their 90% intervals, side by side at the right margin."""
    found = [(label, c.asymptote) for _, label, curves in runs for c in curves if c.asymptote is not None]
    layers = []
    for i, (label, asymptote) in enumerate(found):
        table = level.place(asymptote.with_columns(percent=pl.col("median"), lo=pl.col("lo90"), hi=pl.col("hi90")))
        tips = [alt.Tooltip("percent:Q", title="asymptote", format=".1%")]
        tips += [
            alt.Tooltip(f"{name}:Q", title=words, format=".1%")
            for name, words in (("lo", "90% from"), ("hi", "to"))
        ]
        base = alt.Chart(table).encode(x=alt.value(WIDTH + 6 + 7 * i), tooltip=tips)
        rule = base.mark_rule(strokeWidth=5, opacity=0.6, color=colours[label])
        middle = base.mark_point(shape="diamond", filled=True, size=40, opacity=1, color=colours[label])
        layers += [rule.encode(y=level.axis("lo90"), y2="hi90:Q"), middle.encode(y=level.axis("median"))]
    return layers


def _title(side: str, runs: Runs, choice: Choice) -> alt.TitleParams:
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
        words += ["bars 95%, bands 50% and 90%" if _has_bands(runs) else "bars 95%, medians of the fits"]
    lines = [line for word in words for line in textwrap.wrap(word, 76)]
    return alt.TitleParams(text=textwrap.wrap(text, 58), subtitle=lines)


def words(found: Sequence[Fitted]) -> tuple[str, ...]:
    """A line a run and curve: its verdict, and its forecast or why there is none."""
    return tuple(
        f"{run.run}, {_name(curve.way)}: {curve.verdict}; {curve.words}"
        for run in found
        for curve in (run.train, *run.test)
    )


def _name(way: str) -> str:
    return AXES[way].removesuffix(" (FLOPs)") if way in AXES else way
