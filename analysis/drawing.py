"""What all charts share (Altair): colours, type, axes, and how one is written to a file.

Colours are Okabe and Ito's, distinct for every kind of colour vision.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import polars as pl
import vl_convert

from scaling.files import replace

BLUE, GREEN, VERMILION, GREY = "#0072B2", "#009E73", "#D55E00", "#666666"
COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, yellow left out: it cannot be read on white. More lines begin again, with another shape."""
SHAPES = ("circle", "square", "triangle-up", "diamond")


@dataclass(frozen=True)
class Theme:
    """Colours of what is not data, and of data, on one background."""

    background: str
    ink: str
    muted: str
    """Of second lines and remarks."""
    rule: str
    """Of axes."""
    grid: str
    colours: tuple[str, ...]


PAPER = Theme("white", "#000000", "#444444", "#888888", "#e6e6e6", COLOURS)
THEMES = {
    "light": Theme("transparent", "#1a1a1a", "#555555", "#888888", "#e6e6e6", COLOURS),
    "dark": Theme(
        "transparent", "#e8e8e8", "#a8a8a8", "#777777", "#333333",
        ("#56B4E9", "#E69F00", "#1DB78A", "#CC79A7", "#F0E442", "#3A8FD0", "#FFFFFF"),
    ),
}  # fmt: skip
"""On a page with a background of its own. Dark: blue and vermilion give way to their lighter neighbours."""

Chart = alt.TopLevelMixin
Y = Callable[[str], alt.Y]
"""The vertical axis of a panel, for whichever field is drawn on it."""
PNG_SCALE = 2
NOTICE_WIDTH = 520
"""Pixels, of 7 a letter."""
FEW_POWERS = 3
"""With fewer powers of ten on an axis, their doubles and fives are labelled too."""

PLAIN = 0, 5
"""Exponents of ten between which a number is written out."""


def log_axis(title: str, low: float, high: float, first: float) -> alt.X:
    """An axis of log10 values, with ticks at powers of ten and their multiples from the first point on.

    Its labels are `powers`.
    """
    exponents = range(math.floor(low), math.ceil(high) + 1)
    values = [e + math.log10(k) for e in exponents for k in range(1, 10)]
    return alt.X(
        "x:Q",
        title=title,
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(
            values=[v for v in values if first - 0.01 <= v <= high],
            labels=False,
            grid=False,
            tickSize=4,
            titlePadding=28,
        ),
    )


def places_of_ten(first: float, high: float) -> list[tuple[float, int, int]]:
    """Where an axis of log10 values is labelled, as (place, k, e) of k·10^e: powers of ten, where few are in range
    multiples too."""
    exponents = range(math.floor(first), math.ceil(high) + 1)
    shown: list[tuple[float, int, int]] = []
    for multiples in ((1,), (1, 3), (1, 2, 5)):
        places = [(e + math.log10(k), k, e) for e in exponents for k in multiples]
        shown = [place for place in places if first - 0.01 <= place[0] <= high + 1e-9]
        if len(shown) >= FEW_POWERS:
            break
    return shown


def powers(x: alt.X, first: float, high: float, height: float) -> list[alt.Chart]:
    """Labels of `places_of_ten` below the axis, the exponent raised.

    Numbers that people read as they are (1, 300, 20,000) are written so.
    """
    shown = places_of_ten(first, high)
    plain = all(PLAIN[0] <= e <= PLAIN[1] for _, _, e in shown)
    rows = [
        (at, f"{k * 10**e:,}", "") if plain else (at, "10" if k == 1 else f"{k}·10", str(e)) for at, k, e in shown
    ]
    table = pl.DataFrame(rows, {"x": pl.Float64, "text": pl.String, "exponent": pl.String}, orient="row")
    base = alt.Chart(table).encode(x=x, y=alt.value(height + 17))
    if plain:
        return [base.mark_text(fontSize=12).encode(text="text:N")]
    return [
        base.mark_text(align="right", fontSize=12, dx=3).encode(text="text:N"),
        base.mark_text(align="left", fontSize=9, dx=3.5, dy=-5).encode(text="exponent:N"),
    ]


def zero_label(x: alt.X, at: float, height: float) -> list[alt.Chart]:
    """A 0 below the axis at `at`: the state before any compute, which a logarithmic axis has no place for."""
    base = alt.Chart(pl.DataFrame({"x": [at]})).mark_text(fontSize=12)
    return [base.encode(x=x, y=alt.value(height + 17), text=alt.value("0"))]


def compute_title(unit: str) -> str:
    """Of an axis of compute in anybody's unit; "compute" where none is known."""
    return "Compute" if unit == "compute" else f"Compute ({unit.replace('_', ' ')})"


def round_ticks(low: float, high: float, most: int) -> tuple[list[float], str]:
    """Round numbers from low to high that cut it into no more than `most` parts, and the d3 format that writes all
    of them in percent."""
    step = round_step(high - low, most)
    places = np.arange(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1) * step
    return places.tolist(), f".{max(0, -2 - math.floor(math.log10(step) + 1e-9))}%"


def round_step(span: float, parts: int) -> float:
    """The least of 1, 2, 5 times a power of ten that cuts a range into no more than so many parts."""
    power = 10 ** math.floor(math.log10(span / parts))
    return next(k * power for k in (1, 2, 5, 10) if k * power * parts >= span * (1 - 1e-9))


def values_axis(title: str, domain: tuple[float, float], places: Sequence[float], **style: Any) -> Y:
    """A linear axis over exactly this domain, labelled at these places; style: more of `altair.Axis`."""

    def axis(field: str) -> alt.Y:
        return alt.Y(
            f"{field}:Q",
            title=title,
            scale=alt.Scale(domain=list(domain), nice=False, zero=False),
            axis=alt.Axis(values=list(places), **style),
        )

    return axis


def metric_axis(metric: str, low: float, high: float, ticks: int, margin: float = 0.0) -> Y:
    """A metric's values, in percent unless a loss; `margin`, in its unit, is left free at either end."""
    places, percent = round_ticks(low, high, ticks)
    style = "~g" if metric == "loss" else percent
    return values_axis(metric.capitalize(), (low - margin, high + margin), places, format=style)


def accuracy_axis(top: float, title: str | None) -> Y:
    """Accuracy from 0 to `top`, in percent."""

    def axis(field: str) -> alt.Y:
        return alt.Y(
            f"{field}:Q",
            title=title,
            scale=alt.Scale(domain=[0, top], nice=False, clamp=True),
            axis=alt.Axis(format=".0%", tickCount=6),
        )

    return axis


def accuracy_top(highest: float) -> float:
    """Where an accuracy axis ends that has this accuracy in sight: a tenth, at least .02 above it, at most 1."""
    return min(1.0, math.ceil(10 * highest + 0.2) / 10)


def styled(chart: Any, theme: Theme = PAPER) -> Chart:
    """The chart with type, colours and legends of all charts, which are of the theme where they are not data's."""
    ink = {"labelColor": theme.ink, "titleColor": theme.ink}
    return chart.configure(  # in one call: each copies the whole chart
        font="Helvetica, Arial, sans-serif",
        background=theme.background,
        padding=14,
        axis={
            "labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "titlePadding": 10,
            "gridColor": theme.grid, "domainColor": theme.rule, "tickColor": theme.rule, **ink,
        },
        title={
            "fontSize": 15, "subtitleFontSize": 13, "anchor": "start", "offset": 12, "color": theme.ink,
            "subtitleColor": theme.muted,
        },
        legend={
            "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 320,
            "symbolSize": 80, "orient": "bottom", **ink,
        },
        text={"color": theme.ink},
        view={"stroke": None},
    )  # fmt: skip


def notice(words: str, theme: Theme) -> Chart:
    """In place of a chart: why there is none."""
    text = textwrap.wrap(words, NOTICE_WIDTH // 7)
    mark = alt.Chart(pl.DataFrame({"x": [0]})).mark_text(align="left", baseline="top", fontSize=13, text=text)
    placed = mark.encode(x=alt.value(0), y=alt.value(0))
    return styled(placed.properties(width=NOTICE_WIDTH, height=18 * len(text)), theme)


def save(chart: Chart, path: str | Path) -> Path:
    """Write a chart as its file's ending says: .png, .svg, or .html that needs nothing else (about 1 MB).

    Raises ValueError for another ending. The file is whole or not there.
    """
    path, spec = Path(path), chart.to_dict()
    kind = path.suffix.lower()
    if kind == ".png":
        data = vl_convert.vegalite_to_png(spec, scale=PNG_SCALE)
    elif kind == ".svg":
        data = vl_convert.vegalite_to_svg(spec).encode()
    elif kind == ".html":
        data = vl_convert.vegalite_to_html(spec, bundle=True, renderer="svg").encode()
    else:
        raise ValueError(f"{path}: a chart is written as .png, .svg or .html")
    replace(path, data)
    return path
