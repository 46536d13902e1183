"""Arms compared as a figure: points and forecasts on one axis, and below them the chance to be best (Altair)."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from analysis.alignment import Arm, common_range
from analysis.arms import Comparison
from analysis.arms_words import verdict
from analysis.curve_plot import band_table, bands
from analysis.drawing import COLOURS, SHAPES, Chart, compute_title, log_axis, metric_axis, powers, styled
from analysis.pairs import PAST

WIDTH, HEIGHT, LOWER = 620, 360, 130
"""Pixels."""
TICKS = 7


def plot_arms(found: Comparison) -> Chart:
    """Every arm in one colour: points, median, 50% and 90% bands, to 10 times the greatest compute of the data.

    The state before any compute is left out: it has no place on the axis. Below: the probability that each arm is
    best.
    """
    end = common_range(found.arms)[1]
    first = min(float(arm.series.compute[arm.series.inside][0]) for arm in found.arms)
    low, high = math.log10(first), math.log10(PAST * end)
    span = high - low
    x = log_axis(compute_title(found.arms[0].series.unit), low - 0.03 * span, high + 0.02 * span, low)
    upper = _levels(found, x, low, high, end)
    lower = _chances(found, x, low, high)
    title = alt.TitleParams(text=textwrap.wrap(verdict(found.wins, end), 72))
    return styled(alt.vconcat(upper, lower, spacing=46, title=title))


def _colour(found: Comparison) -> alt.Color:
    names = [arm.name for arm in found.arms]
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    return alt.Color("arm:N", title=None, scale=alt.Scale(domain=names, range=colours), sort=names)


def _levels(found: Comparison, x: alt.X, low: float, high: float, end: float) -> Any:
    tables = [band_table(arm.found.forecast, PAST * end / arm.series.compute[-1]) for arm in found.arms]  # type: ignore[arg-type]
    points = pl.concat([_points(arm) for arm in found.arms])
    values = np.concatenate([points["value"], *(t[name] for t in tables for name in ("lo90", "hi90"))])
    least, most = float(values.min()), float(values.max())
    metric = found.arms[0].series.metric
    y = metric_axis(metric, least, max(most, least + 1e-9), TICKS, margin=0.03 * (most - least))
    layers = []
    for i, (arm, table) in enumerate(zip(found.arms, tables, strict=True)):
        layers += bands(table, math.log10(arm.series.compute[-1]), x, y, COLOURS[i % len(COLOURS)])
    names = [arm.name for arm in found.arms]
    shape = alt.Shape("arm:N", title=None, sort=names, scale=alt.Scale(
        domain=names, range=[SHAPES[i // len(COLOURS) % len(SHAPES)] for i in range(len(names))]))  # fmt: skip
    style = "~g" if metric == "loss" else ".1%"
    tips = ["arm:N", alt.Tooltip("compute:Q", format=".3~g"), alt.Tooltip("value:Q", title=metric, format=style)]
    marks = alt.Chart(points).mark_point(filled=True, size=45, opacity=0.9)
    layers.append(marks.encode(x=x, y=y("value"), color=_colour(found), shape=shape, tooltip=tips))
    layers += powers(x, low, high, HEIGHT)
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT)


def _points(arm: Arm) -> pl.DataFrame:
    inside = arm.series.inside
    compute = arm.series.compute[inside]
    return pl.DataFrame(
        {"arm": arm.name, "x": np.log10(compute), "compute": compute, "value": arm.series.y[inside]}
    )


def _chances(found: Comparison, x: alt.X, low: float, high: float) -> Any:
    table = found.table().with_columns(x=pl.col("compute").log10()).filter(pl.col("x") <= high + 1e-9)
    y = alt.Y(
        "probability:Q", title="P(best)", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=3)
    )
    tips = ["arm:N", alt.Tooltip("compute:Q", format=".3~g"), alt.Tooltip("probability:Q", format=".2f")]
    line = alt.Chart(table).mark_line(strokeWidth=2).encode(x=x, y=y, color=_colour(found), tooltip=tips)
    return alt.layer(line, *powers(x, low, high, LOWER)).properties(width=WIDTH, height=LOWER)
