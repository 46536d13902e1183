"""A curve as a figure: its points, what is fitted through them and forecast past them, and its verdict (Altair).

from analysis.curve_plot import plot_curve, save
save(plot_curve(fit(load("points.csv")).curves[0]), "curve.svg")
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from analysis.arrays import NAMES
from analysis.drawing import (
    BLUE,
    GREY,
    VERMILION,
    Chart,
    Y,
    compute_title,
    log_axis,
    metric_axis,
    powers,
    save,
    styled,
    zero_label,
)
from analysis.estimators import wilson
from analysis.fit import CurveFit, Fit
from analysis.forecast import Forecast
from analysis.saturation import Answer, Estimate
from analysis.words import certainty, value

__all__ = ["band_table", "bands", "forecast_words", "limit", "plot_curve", "plot_curves", "save", "verdict"]

COLUMNS = 3
MOST = 12
"""Curves of one grid."""
PAST = 10.0
"""Times the last compute up to which a forecast is drawn."""
NODES = 48
"""Computes of a band inside the data."""
STEPS_PAST = 24
START_GAP = 0.3
"""Of the log range: how far left of the first point the state before any compute stands, at most .45 decades."""
MARGIN = 0.04
"""Of the range of values, left free above and below them."""
AXIS = 50
"""Width of the vertical axis, pixels, over which a title may stand too."""
WORDS = 54
"""Height of the words beside an asymptote, pixels."""
LINE = 1.2
"""Height of a line over its font's size."""
LETTER = 0.5
"""Width of a letter over its font's size, on average; of a bold one, `BOLD`."""
BOLD = 0.53


@dataclass(frozen=True)
class Size:
    """Of one panel, pixels."""

    width: int
    height: int
    ticks: int
    title: int
    """Font size; of the subtitle, `subtitle`."""
    subtitle: int


ALONE = Size(480, 340, ticks=7, title=15, subtitle=13)
IN_GRID = Size(300, 210, ticks=6, title=13, subtitle=11)
Title = tuple[list[str], list[str]]
"""Lines of a title and of its subtitle."""


def plot_curve(found: CurveFit, *, past: float = PAST) -> Chart:
    """A curve with 95% intervals of its points, bands of 50% and 90%, and its verdict in the title.

    past: times the last compute up to which the forecast is drawn, above 1. Points that belong to an earlier
    regime are hollow and stand outside the bands; the asymptote's 90% interval stands at the right margin where
    it is identified. Accuracies and errors in percent, losses as they are. Raises ValueError for past ≤ 1.
    """
    return styled(_chart(found, past, ALONE, _title(found, ALONE)))


def plot_curves(found: Fit) -> Chart:
    """A grid of the first `MOST` curves, each on its own axes; says how many are left out."""
    titles = [_title(curve, IN_GRID) for curve in found.curves[:MOST]]
    charts = [_chart(curve, PAST, IN_GRID, title) for curve, title in zip(found.curves, titles, strict=False)]
    # Panels stand in line, and between two rows there is room for the longest title and the axis.
    upper, lower = (max((len(title[k]) for title in titles), default=0) for k in (0, 1))
    room = {"row": 85 + LINE * (IN_GRID.title * upper + IN_GRID.subtitle * lower), "column": 150}
    left = len(found.curves) - len(charts)
    grid = alt.concat(*charts, columns=COLUMNS, spacing=room, bounds="flush")
    if left:
        title = f"The first {MOST} of {len(found.curves)} curves; {left} are left out"
        grid = grid.properties(title=alt.TitleParams(text=title, fontWeight="normal", color=GREY))
    return styled(grid)


def _chart(found: CurveFit, past: float, size: Size, title: Title) -> Any:
    if not past > 1:
        raise ValueError(f"past: {past}; a forecast is drawn to more than 1 times the last compute")
    series, has_zero = found.series, not found.series.inside.all()
    inside = np.log10(series.compute[series.inside])
    first, last = (float(inside[0]), float(inside[-1])) if len(inside) else (0.0, 1.0)
    span = max(last - first, 0.5)
    gap = min(0.45, START_GAP * span)
    low = first - (1.35 * gap if has_zero else 0.05 * span)
    high = last + (0.05 * span if found.forecast is None else 1.03 * math.log10(past))
    x = log_axis(compute_title(series.unit), low, high, first)
    points = _points(found, first - gap)
    table = None if found.forecast is None else band_table(found.forecast, past)
    domain = _domain(found, points, table)
    y = metric_axis(found.series.metric, *domain, size.ticks)
    layers = bands(table, last, x, y) if table is not None else []
    layers += _marks(points, found, x, y)
    layers += limit(found.answer, y, domain, size.width, size.height)
    layers += powers(x, first, high, size.height)
    if has_zero:
        layers += zero_label(x, first - gap, size.height)
    text, subtitle = title
    shown = alt.TitleParams(
        text=text, subtitle=subtitle, frame="bounds", fontSize=size.title, subtitleFontSize=size.subtitle
    )
    return alt.layer(*layers).properties(width=size.width, height=size.height, title=shown)


def _title(found: CurveFit, size: Size) -> Title:
    """Lines no wider than the panel with its axis: name and verdict; the next 10× and what a point rests on."""
    text = f"{found.series.name}: {verdict(found.answer)}".replace("> ", ">\u00a0")
    room = size.width + AXIS
    words = forecast_words(found.answer)
    below = [*(words.split("; ") if size is IN_GRID else [words]), _scope(found)]
    lines = [textwrap.wrap(line, int(room / size.subtitle / LETTER)) for line in below]
    return textwrap.wrap(text, int(room / size.title / BOLD)), [part for line in lines for part in line]


def _points(found: CurveFit, zero_at: float) -> pl.DataFrame:
    """x (log10 compute; the state before any at `zero_at`), value, lo95, hi95 (null without counts), `kind`."""
    series = found.series
    cut = 0 if found.forecast is None else found.forecast.posterior.cut
    used = np.arange(len(series.compute)) >= cut
    lo, hi = np.full(len(used), np.nan), np.full(len(used), np.nan)
    if series.counted:
        ends = [wilson(float(e), float(n)) for e, n in zip(series.level, series.size, strict=True)]
        lo, hi = np.sort(series.to_y(np.array(ends).reshape(-1, 2)), axis=1).T
    with np.errstate(divide="ignore"):
        x = np.where(series.inside, np.log10(series.compute), zero_at)
    kind = np.where(used, np.where(series.inside, "used", "before"), "left out")
    table = {"x": x, "compute": series.compute, "value": series.y, "lo95": lo, "hi95": hi, "kind": kind}
    return pl.DataFrame(table).with_columns(pl.col("lo95", "hi95").fill_nan(None))


def _marks(points: pl.DataFrame, found: CurveFit, x: alt.X, y: Y) -> list[alt.Chart]:
    style = "~g" if found.series.metric == "loss" else ".1%"
    tips = [
        alt.Tooltip("compute:Q", title=found.series.unit, format=".3~g"),
        alt.Tooltip("value:Q", title=found.series.metric, format=style),
    ]
    layers = []
    if found.series.counted:
        tips += [alt.Tooltip(f"{end}:Q", title=end, format=style) for end in ("lo95", "hi95")]
        rule = alt.Chart(points).mark_rule(strokeWidth=1.4, color=BLUE, opacity=0.75)
        layers.append(rule.encode(x=x, y=y("lo95"), y2="hi95:Q"))
    size = 60 if len(points) <= 20 else 30
    looks: dict[str, dict[str, Any]] = {
        "used": {"color": BLUE},
        "left out": {"stroke": BLUE, "color": "white", "strokeWidth": 1.5},
        "before": {"color": VERMILION, "shape": "diamond", "size": 1.3 * size},
    }
    for kind, look in looks.items():
        rows = points.filter(kind=kind)
        if len(rows):
            mark = alt.Chart(rows).mark_point(**({"filled": True, "opacity": 1, "size": size} | look))
            layers.append(mark.encode(x=x, y=y("value"), tooltip=tips))
    return layers


# What is forecast ------------------------------------------------------------------------------------------


def band_table(forecast: Forecast, past: float = PAST, inside: bool = True) -> pl.DataFrame:
    """x (log10 compute) and `analysis.arrays.NAMES`, from the regime's first point (or from the last point, unless
    `inside`) to `past` times the last; exactly at the last point too."""
    series = forecast.series
    used = series.compute[max(forecast.posterior.cut, int((~series.inside).sum()))]
    first, last = math.log10(used), math.log10(series.compute[-1])
    grid = np.linspace(last, last + math.log10(past), STEPS_PAST)
    if inside:
        grid = np.concatenate([np.linspace(first, last, NODES)[:-1], grid])
    compute = np.where(grid == last, series.compute[-1], 10**grid)
    found = np.concatenate([forecast.quantiles(part) for part in np.array_split(compute, 2)], axis=1)
    return pl.DataFrame({"x": grid} | dict(zip(NAMES, found, strict=True)))


def bands(table: pl.DataFrame, last: float, x: alt.X, y: Y, colour: str = BLUE) -> list[alt.Chart]:
    """Median, 50% and 90% bands of a `band_table`; the median dashed past `last` (log10 compute)."""
    base = alt.Chart(table).encode(x=x)
    layers = [
        base.mark_area(opacity=0.13, color=colour, clip=True).encode(y=y("lo90"), y2="hi90:Q"),
        base.mark_area(opacity=0.22, color=colour, clip=True).encode(y=y("lo50"), y2="hi50:Q"),
    ]
    within, past = table.filter(pl.col("x") <= last + 1e-9), table.filter(pl.col("x") >= last - 1e-9)
    for part, dash in ((within, [1, 0]), (past, [6, 4])):
        line = alt.Chart(part).mark_line(color=colour, strokeWidth=2, strokeDash=dash, clip=True)
        layers.append(line.encode(x=x, y=y("median")))
    return layers


def limit(found: Answer, y: Y, domain: tuple[float, float], width: float, height: float) -> list[alt.Chart]:
    """The asymptote's 90% interval at the right margin, drawn only where it is identified. domain: of y."""
    estimate = _limit_estimate(found)
    if estimate is None or estimate.median is None:
        return []
    median, lo, hi = (value(found, v) for v in (estimate.median, estimate.lo90, estimate.hi90))
    row = pl.DataFrame({"median": [estimate.median], "lo90": [estimate.lo90], "hi90": [estimate.hi90]})
    base = alt.Chart(row).encode(x=alt.value(width + 9))
    place = height * (domain[1] - estimate.median) / (domain[1] - domain[0])
    words = base.mark_text(fontSize=11, color=GREY, align="left", baseline="top", dx=12, lineBreak="\n")
    return [
        base.mark_rule(strokeWidth=5, color=GREY, opacity=0.6).encode(y=y("lo90"), y2="hi90:Q"),
        base.mark_tick(thickness=3, size=14, color=GREY, orient="horizontal").encode(y=y("median")),
        words.encode(
            y=alt.value(min(max(place - WORDS / 2, 0), height - WORDS)),
            text=alt.value(f"asymptote\n{median}\n90%: {lo}\nto {hi}"),
        ),
    ]


def _limit_estimate(found: Answer) -> Estimate | None:
    return found.asymptote if found.identified else None


# Axis and words --------------------------------------------------------------------------------------------


def _domain(found: CurveFit, points: pl.DataFrame, table: pl.DataFrame | None) -> tuple[float, float]:
    """Around points, bands and an identified asymptote."""
    columns = [points[name].drop_nulls() for name in ("value", "lo95", "hi95")]
    columns += [] if table is None else [table[name] for name in ("lo90", "hi90")]
    values = [float(v) for column in columns for v in column]
    shown = _limit_estimate(found.answer)
    values += [] if shown is None else [v for v in (shown.lo90, shown.hi90) if v is not None]
    low, high = min(values), max(values)
    margin = MARGIN * max(high - low, 1e-3 * abs(high), 1e-9)
    if found.series.metric == "loss":
        return low - margin, high + margin
    return max(low - margin, 0.0), min(high + margin, 1.0)


def verdict(found: Answer) -> str:
    """The verdict with its probability, as a title has it."""
    if found.probability is None or found.verdict == "cannot tell":
        return "cannot tell"
    return f"{found.verdict} (probability {certainty(found)})"


def forecast_words(found: Answer) -> str:
    """The next 10× and the asymptote; or why there is no forecast."""
    gain = found.gain_10x
    if gain is None:
        return found.reason
    if found.metric == "accuracy":
        numbers, scale, unit = (gain.median, gain.lo90, gain.hi90), 100.0, " points"
    else:
        numbers = tuple(None if v is None else -v for v in (gain.median, gain.hi90, gain.lo90))
        scale, unit = (1.0, " of loss") if found.metric == "loss" else (100.0, " points of error")
    style = "+.2g" if found.metric == "loss" else "+.1f"
    median, lo, hi = ("beyond" if v is None else format(scale * v + 0.0, style) for v in numbers)
    text = f"next 10×: {median}{unit} (90%: {lo} to {hi})"
    return text if found.identified else f"{text}; no asymptote identified"


def _scope(found: CurveFit) -> str:
    series = found.series
    if series.values is not None:
        items = f"{series.values.shape[1]} items"
    elif found.answer.items is not None:
        items = f"points worth {found.answer.items:.0f} items"
    else:
        return "no counts known" + ("; bands 50% and 90%" if found.forecast is not None else "")
    return f"{items}; bars 95%" + (", bands 50% and 90%" if found.forecast is not None else "")
