"""A run's forecasts against its own past, a panel a forecast (Altair)."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from analysis.arrays import NAMES
from analysis.drawing import BLUE, GREY, VERMILION, Chart, log_axis, powers, styled
from analysis.run_backtest import Comparison, RunBacktest

COLUMNS = 2
WIDTH, HEIGHT = 400, 220
KINDS = {"seen": GREY, "came, inside the interval": BLUE, "came, outside of it": VERMILION}
SHAPES = ("circle", "circle", "cross")


def plot_run_backtest(found: RunBacktest) -> Chart:
    """What was seen, the forecast's median with its 50% and 90% interval at every hidden point, and what came."""
    panels = [_panel(one) for one in found.comparisons]
    return styled(alt.concat(*panels, columns=COLUMNS, spacing={"row": 40, "column": 60}))


def title(one: Comparison) -> str:
    """Which curve, and how much of it was hidden."""
    return f"{one.made.task.curve}, last {one.hidden:.2g}× hidden"


def _panel(one: Comparison) -> Any:
    task = one.made.task
    seen = task.series.inside
    compute = np.concatenate([task.series.compute[seen], task.compute])
    known, within, outside = KINDS
    kinds = [known] * int(seen.sum()) + [within if inside else outside for inside in one.inside]
    points = pl.DataFrame(
        {"x": np.log10(compute), "compute": compute, "accuracy": np.concatenate([task.series.y[seen], task.y])}
    ).with_columns(kind=pl.Series(kinds))
    made = pl.DataFrame({"x": np.log10(task.compute)} | dict(zip(NAMES, one.made.quantiles, strict=True)))
    low, high = math.log10(compute[0]), math.log10(compute[-1])
    margin = 0.05 * (high - low)
    x = log_axis("Compute (FLOPs)", low - margin, high + margin, first=low)
    ends = [float(v) for v in (*points["accuracy"], *made["lo90"], *made["hi90"])]
    axis = {
        "title": "Accuracy",
        "axis": alt.Axis(format=".0%", tickCount=5),
        "scale": alt.Scale(
            domain=[max(0.0, min(ends) - 0.02), min(1.0, max(ends) + 0.02)], nice=False, zero=False
        ),
    }
    base = alt.Chart(made).encode(x=x)
    look = {
        "color": alt.Color("kind:N", title=None, scale=alt.Scale(domain=list(KINDS), range=list(KINDS.values()))),
        "shape": alt.Shape("kind:N", title=None, scale=alt.Scale(domain=list(KINDS), range=list(SHAPES))),
    }
    tips = [alt.Tooltip("compute:Q", title="FLOPs", format=".2e"), alt.Tooltip("accuracy:Q", format=".1%")]
    layers = [
        base.mark_rule(strokeWidth=9, color=BLUE, opacity=0.2).encode(y=alt.Y("lo90:Q", **axis), y2="hi90:Q"),
        base.mark_rule(strokeWidth=9, color=BLUE, opacity=0.25).encode(y=alt.Y("lo50:Q", **axis), y2="hi50:Q"),
        base.mark_tick(thickness=2, size=13, color=BLUE, orient="horizontal").encode(y=alt.Y("median:Q", **axis)),
        alt.Chart(points).mark_point(filled=True, size=55, opacity=1)
        .encode(x=x, y=alt.Y("accuracy:Q", **axis), tooltip=tips, **look),
        *powers(x, low, high, HEIGHT),
    ]  # fmt: skip
    counted = f"{int(one.inside.sum())} of {len(one.inside)} hidden points inside their 90% interval"
    named = alt.TitleParams(text=title(one), subtitle=counted, fontSize=13, subtitleFontSize=12)
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=named)
