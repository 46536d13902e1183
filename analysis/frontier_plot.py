"""The surface of accuracy as a map over train and test compute, with lines of equal accuracy (Altair)."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from analysis.drawing import PAPER, Chart, Theme, styled
from analysis.frontier import Exchange, exchange_rate
from analysis.quantities import times
from analysis.surface import REACH, Points, Surface

CELLS = 56
"""Cells of the map along each axis."""
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
MAX_LINES = 10
"""Lines of equal accuracy at most: the least step of `STEPS` that draws no more is taken."""
WIDTH, HEIGHT = 520, 440
OUTLINES: tuple[dict[str, Any], ...] = ({"stroke": "white", "strokeWidth": 3}, {"color": "black"})


def plot_frontier(surface: Surface, points: Points, theme: Theme = PAPER) -> Chart:
    """Fitted accuracy over train × test compute, lines of equal accuracy, and the points in the same colours.

    Paler outside the data's rectangle, where the surface is extrapolated, as far as it is stated (10×). The title
    says what one compute is worth in the other.
    """
    (left, bottom), (right, top) = np.array(surface.low) - REACH, np.array(surface.high) + REACH
    x = _axis("x", "Train compute (FLOPs)", left, right)
    y = _axis("y", "Test compute (FLOPs per problem)", bottom, top)
    cells = _cells(surface, left, right, bottom, top)
    most = max(float(cells["accuracy"].max()), float(points.accuracy.max()))  # type: ignore[arg-type]
    colour = alt.Color("accuracy:Q", title="Accuracy",
                       scale=alt.Scale(scheme="viridis", domain=[0, max(most, 0.01)]),
                       legend=alt.Legend(format=".0%", gradientLength=HEIGHT - 60, orient="right"))  # fmt: skip
    places = {"x": np.log10(points.train), "y": np.log10(points.test), "train": points.train, "test": points.test}
    measured = pl.DataFrame(places | {"accuracy": points.accuracy})
    tips = [
        alt.Tooltip("train:Q", title="train FLOPs", format=".2e"),
        alt.Tooltip("test:Q", title="test FLOPs", format=".2e"),
        alt.Tooltip("accuracy:Q", format=".1%"),
    ]
    lines, labels = _lines(surface, x, y, cells)
    layers: list[Any] = [
        alt.Chart(cells).mark_rect(strokeWidth=0, clip=True).encode(x=x, y=y, x2="x2:Q", y2="y2:Q", color=colour),
        *_data_range(surface, x, y, (left, right, bottom, top)),
        *lines,
        alt.Chart(measured).mark_circle(size=42, opacity=1, stroke="white", strokeWidth=0.9)
        .encode(x=x, y=y, color=colour, tooltip=tips),
        *labels,
        *_powers(left, right, x=x, y=alt.value(HEIGHT + 17)),
        *_powers(bottom, top, x=alt.value(-21), y=y),
    ]  # fmt: skip
    found = exchange_rate(surface)
    title = alt.TitleParams(text=headline(found), subtitle=_subtitle(found, points))
    return styled(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title), theme)


def headline(found: Exchange) -> str:
    """The exchange rate with its interval, or that there is none."""
    if found.rate is None:
        return "Train against test compute: no exchange rate is identified"
    median, lo, hi = (times(v) for v in (found.rate.median, found.rate.lo90, found.rate.hi90))
    return f"10× train compute is worth {median} test compute (90%: {lo} to {hi})"


def _subtitle(found: Exchange, points: Points) -> list[str]:
    scope = f"lines of equal accuracy, fitted to {len(points.train)} points (circles); paler: extrapolated"
    return [*([found.reason] if found.reason else []), scope]


def _axis(name: str, title: str, low: float, high: float) -> Any:
    """An axis of log10 values with ticks at powers of ten; their labels are `_powers`."""
    kind, padding = (alt.X, 28) if name == "x" else (alt.Y, 42)
    axis = alt.Axis(values=_exponents(low, high), labels=False, titlePadding=padding, grid=False)
    return kind(f"{name}:Q", title=title, scale=alt.Scale(domain=[low, high], nice=False, zero=False), axis=axis)


def _exponents(low: float, high: float) -> list[int]:
    return list(range(math.ceil(low), math.floor(high) + 1))


def _powers(low: float, high: float, **place: Any) -> list[alt.Chart]:
    """Labels of the ticks, the exponent raised."""
    base = alt.Chart(pl.DataFrame({"x": _exponents(low, high)})).transform_calculate(y="datum.x").encode(**place)
    return [
        base.mark_text(align="right", fontSize=12, dx=3).encode(text=alt.value("10")),
        base.mark_text(align="left", fontSize=9, dx=3.5, dy=-5).encode(text="x:N"),
    ]


def _cells(surface: Surface, left: float, right: float, bottom: float, top: float) -> pl.DataFrame:
    xs, ys = np.linspace(left, right, CELLS + 1), np.linspace(bottom, top, CELLS + 1)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(CELLS), np.arange(CELLS), indexing="ij"))
    accuracy = surface.best(10 ** ((xs[i] + xs[i + 1]) / 2), 10 ** ((ys[j] + ys[j + 1]) / 2))
    lap = (xs[1] - xs[0]) / 4, (ys[1] - ys[0]) / 4  # under the next cell: else a seam shows between them
    table = {"x": xs[i], "x2": xs[i + 1] + lap[0], "y": ys[j], "y2": ys[j + 1] + lap[1]}
    return pl.DataFrame({k: v.round(4) for k, v in table.items()} | {"accuracy": accuracy.round(4)})


def _data_range(surface: Surface, x: Any, y: Any, frame: tuple[float, float, float, float]) -> list[Any]:
    """A veil over everything outside the data's rectangle, and the rectangle."""
    (x1, y1), (x2, y2) = surface.low, surface.high
    left, right, bottom, top = frame
    veils = [(left, x1, bottom, top), (x2, right, bottom, top), (x1, x2, bottom, y1), (x1, x2, y2, top)]
    tables = [pl.DataFrame(rows, ["x", "x2", "y", "y2"], orient="row") for rows in (veils, [(x1, x2, y1, y2)])]
    outside, inside = (alt.Chart(t).encode(x=x, y=y, x2="x2:Q", y2="y2:Q") for t in tables)
    veil = outside.mark_rect(color="white", opacity=0.45)
    return [veil, inside.mark_rect(filled=False, stroke="black", strokeWidth=1.2)]


def _lines(surface: Surface, x: Any, y: Any, cells: pl.DataFrame) -> tuple[list[Any], list[Any]]:
    """Lines of equal accuracy at round levels, and their labels, inside the data where they can be."""
    low, high = np.quantile(cells["accuracy"].to_numpy(), (0, 1))
    step = next((s for s in STEPS if (high - low) / s <= MAX_LINES), STEPS[-1])
    levels = np.arange(math.floor(low / step) + 1, math.ceil(high / step)) * step
    tests = 10 ** np.linspace(surface.low[1] - REACH, surface.high[1] + REACH, 321)
    trains = surface.iso(levels, tests)
    at, which = np.nonzero(np.isfinite(trains))
    table = pl.DataFrame({"x": np.log10(trains[at, which]), "y": np.log10(tests[which]), "level": levels[at]})
    (x1, y1), (x2, y2) = surface.low, surface.high
    inside = pl.col("x").is_between(x1, x2) & pl.col("y").is_between(y1, y2)
    shown = table.filter(inside | ~inside.any().over("level"))
    # A quarter, half, three quarters along, in turn: neighbours' labels would overlap.
    at = pl.len() * (1 + (pl.col("level") / step).round().cast(pl.Int64) % 3) // 4
    middle = shown.filter((pl.int_range(pl.len()) == at).over("level"))
    labels = alt.Chart(middle).encode(x=x, y=y, text=alt.Text("level:Q", format=".0%"))
    base = alt.Chart(table).encode(x=x, y=y, detail="level:N", order="y:Q")
    halo = base.mark_line(color="white", strokeWidth=3, opacity=0.5)
    return [halo, base.mark_line(color="black", strokeWidth=1.3)], [
        labels.mark_text(fontSize=12, fontWeight="bold", **outline) for outline in OUTLINES
    ]
