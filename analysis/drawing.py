"""What all charts share (Altair): colours, type, logarithmic axes, and how one is written to a file.

Colours are Okabe and Ito's, distinct for every kind of colour vision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from scaling.records import replace

BLUE, GREEN, VERMILION, GREY = "#0072B2", "#009E73", "#D55E00", "#666666"
Chart = alt.TopLevelMixin
Y = Callable[[str], alt.Y]
"""The vertical axis of a panel, for whichever field is drawn on it."""
PNG_SCALE = 2
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


def powers(x: alt.X, first: float, high: float, height: float) -> list[alt.Chart]:
    """Labels of the powers of ten below the axis, the exponent raised; where few are in range, multiples too.

    Numbers that people read as they are (1, 300, 20,000) are written so.
    """
    exponents = range(math.floor(first), math.ceil(high) + 1)
    for multiples in ((1,), (1, 3), (1, 2, 5)):
        places = [(e + math.log10(k), k, e) for e in exponents for k in multiples]
        shown = [place for place in places if first - 0.01 <= place[0] <= high + 1e-9]
        if len(shown) >= FEW_POWERS:
            break
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


def styled(chart: Any) -> Chart:
    return (
        chart.configure(font="Helvetica, Arial, sans-serif", background="white", padding=14)
        .configure_axis(labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#e6e6e6",
                        domainColor="#888888", tickColor="#888888", titlePadding=10)
        .configure_title(fontSize=15, subtitleFontSize=13, anchor="start", subtitleColor="#444444", offset=12)
        .configure_legend(labelFontSize=12, titleFontSize=12, labelLimit=320, orient="bottom",
                          titleFontWeight="normal", symbolSize=80)
        .configure_view(stroke=None)
    )  # fmt: skip


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
