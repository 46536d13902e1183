"""Charts of one run (Altair): its panels, its heat map, where its compute went."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from analysis.curve_plot import band_table, bands, forecast_words, limit, verdict
from analysis.drawing import (
    BLUE,
    GREEN,
    PAPER,
    VERMILION,
    Chart,
    Theme,
    Y,
    accuracy_axis,
    accuracy_top,
    log_axis,
    powers,
    styled,
    zero_label,
)
from analysis.saturation import Answer
from analysis.study import Study
from analysis.ways import rl_points
from scaling.quantities import flops

BEFORE = "before RL"
START_GAP = 0.45
"""Decades left of the first point at which the state before RL stands: a log axis has no zero."""
WIDTH, HEIGHT = 460, 360
_PLAIN = "datum.value == 0 ? '0' : replace(format(datum.value, '{}'), 'e+', 'e')"
"""Axis label in Vega's language: numbers as `flops` writes them."""


def panels(study: Study) -> Chart:
    """Accuracy against RL train compute (left) and against test compute (right), one accuracy axis."""
    top = _top(study)
    return styled(alt.hconcat(_train_panel(study, top), _test_panel(study, top), spacing=36))


def _top(study: Study) -> float:
    """Upper end of the accuracy axis: all points and bands, and an asymptote that is identified."""
    shown = study.estimates.filter(pl.col("estimator") != "pass", pl.col("checkpoint").is_in(study.states))
    tops = [float(shown["hi95"].max() or 0)]  # type: ignore[arg-type]
    for curve in study.curves:
        if curve.forecast is not None and curve.key != "train":
            table = band_table(curve.forecast, inside=curve.key == "rl")
            tops.append(float(table["hi90"].max()))  # type: ignore[arg-type]
        if curve.key == "rl" and curve.answer.identified and curve.answer.asymptote is not None:
            tops.append(curve.answer.asymptote.hi90 or 0.0)
    return accuracy_top(max(tops))


def _train_panel(study: Study, top: float) -> Any:
    curve = study.curve("rl")
    rows = rl_points(study.estimates.filter(estimator="mean", budget=study.headline))
    inside = rows.filter(pl.col("rl_flops") > 0)
    first = math.log10(float(inside["rl_flops"][0])) if len(inside) else 0.0
    last = math.log10(float(inside["rl_flops"][-1])) if len(inside) else 1.0
    domain = (first - START_GAP - 0.15, last + 1.05)
    x = log_axis("RL train compute (FLOPs)", *domain, first=first)
    points = _points(rows, "rl_flops").with_columns(
        pl.when(pl.col("rl_flops") > 0).then(pl.col("x")).otherwise(first - START_GAP).alias("x")
    )
    y = accuracy_axis(top, f"Held-out accuracy, thinking budget {study.headline}")
    layers = bands(band_table(curve.forecast), last, x, y) if curve.forecast is not None else []
    layers += _marks(points.filter(pl.col("rl_flops") > 0), x, y, BLUE, "circle")
    start = points.filter(pl.col("rl_flops") == 0)
    layers += _marks(start, x, y, VERMILION, "diamond")
    layers.append(
        alt.Chart(start).mark_text(fontSize=12, color=VERMILION, align="left", dx=-12, dy=-12)
        .encode(x=x, y=y("hi95"), text=alt.value(BEFORE))
    )  # fmt: skip
    layers += zero_label(x, first - START_GAP, HEIGHT)
    layers += limit(curve.answer, y, (0.0, top), WIDTH, HEIGHT)
    layers += powers(x, first, domain[1], HEIGHT)
    scope = f"{rows['n'][0]} problems, one sample; bars 95%, bands 50% and 90%"
    words = [forecast_words(curve.answer), scope]
    title = alt.TitleParams(text=f"RL compute: {verdict(curve.answer)}", subtitle=words)
    return _layered(layers, title)


def _test_panel(study: Study, top: float) -> Any:
    names = dict(zip(study.states, _state_names(study), strict=True))
    shown = study.estimates.filter(pl.col("checkpoint").is_in(study.states))
    ways = {
        "thinking longer (1 sample)": shown.filter(pl.col("estimator") == "mean"),
        f"majority of samples (budget {study.votes})": shown.filter(
            pl.col("estimator") == "maj", pl.col("budget") == study.votes
        ),
    }
    table = pl.concat(
        [
            _points(rows, "test_flops").with_columns(
                pl.lit(way).alias("way"), pl.col("checkpoint").replace_strict(names).alias("state")
            )
            for way, rows in ways.items()
        ]
    )
    answers = [study.curve(key) for key in ("budget", "votes")]
    low, high = float(table["x"].min()), float(table["x"].max())  # type: ignore[arg-type]
    x = log_axis("Test compute (FLOPs per problem)", low - 0.1, high + 1.05, first=low - 0.1)
    y = accuracy_axis(top, None)
    layers: list[alt.Chart] = []
    for curve in answers:
        if curve.forecast is not None:
            end = math.log10(curve.series.compute[-1])
            layers += bands(band_table(curve.forecast, inside=False), end, x, y)
    colour = alt.Color(
        "state:N",
        title="Checkpoint",
        sort=list(names.values()),
        scale=alt.Scale(domain=list(names.values()), range=_state_colours(names.values())),
    )
    shape = alt.Shape("way:N", title="Test compute spent on", sort=list(ways),
                      scale=alt.Scale(domain=list(ways), range=["circle", "square"]))  # fmt: skip
    dash = alt.StrokeDash("way:N", title="Test compute spent on", sort=list(ways),
                          scale=alt.Scale(domain=list(ways), range=[[1, 0], [5, 4]]))  # fmt: skip
    base = alt.Chart(table).encode(x=x, color=colour)
    layers.append(base.mark_rule(strokeWidth=1.5, opacity=0.7).encode(
        y=y("lo95"), y2="hi95:Q"))  # fmt: skip
    layers.append(base.mark_line(strokeWidth=1.5).encode(y=y("accuracy"), strokeDash=dash))
    layers.append(base.mark_point(size=50, filled=True, opacity=1).encode(
        y=y("accuracy"), shape=shape, tooltip=_tooltip("test_flops")))  # fmt: skip
    layers += powers(x, low - 0.1, high + 1.05, HEIGHT)
    longer, voted = (curve.answer for curve in answers)
    words = [forecast_words(longer), f"Majority vote: {verdict(voted)}; {_next(voted)}"]
    title = alt.TitleParams(text=f"Thinking longer: {verdict(longer)}", subtitle=words)
    return _layered(layers, title)


def _layered(layers: Sequence[alt.Chart], title: alt.TitleParams) -> Any:
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)


def _state_names(study: Study) -> list[str]:
    names = []
    for checkpoint in study.states:
        compute = float(study.outcomes.filter(checkpoint=checkpoint)["rl_flops"][0])
        names.append(BEFORE if compute == 0 else f"after {flops(compute)} FLOPs of RL")
    return names


def _state_colours(names: Iterable[str]) -> list[str]:
    """The left panel's colours: before RL, then the last; the one between has its own."""
    *others, _ = names
    return [VERMILION if name == BEFORE else GREEN for name in others] + [BLUE]


def _points(rows: pl.DataFrame, axis: str) -> pl.DataFrame:
    """What a chart needs of estimates, with x = log10 of an axis (−inf at 0)."""
    return rows.select(
        pl.col(axis).log10().alias("x"), "accuracy", "lo95", "hi95", "checkpoint", "step", "budget",
        "samples", "rl_flops", "train_flops", "test_flops",
    )  # fmt: skip


def _tooltip(axis: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("step:Q", title="training step"),
        alt.Tooltip(f"{axis}:Q", title="FLOPs", format=".2e"),
        alt.Tooltip("budget:Q", title="thinking budget"),
        alt.Tooltip("samples:Q", title="samples"),
        alt.Tooltip("accuracy:Q", format=".1%"),
        alt.Tooltip("lo95:Q", title="95% from", format=".1%"),
        alt.Tooltip("hi95:Q", title="to", format=".1%"),
    ]


def _marks(points: pl.DataFrame, x: alt.X, y: Y, colour: str, shape: str) -> list[alt.Chart]:
    base = alt.Chart(points).encode(x=x)
    return [
        base.mark_rule(strokeWidth=1.5, color=colour).encode(y=y("lo95"), y2="hi95:Q"),
        base.mark_point(size=70, filled=True, opacity=1, color=colour, shape=shape).encode(
            y=y("accuracy"), tooltip=_tooltip("rl_flops")
        ),
    ]


def _next(found: Answer) -> str:
    """The gain of the next 10×, without the asymptote."""
    return forecast_words(found).split("; ")[0]


def heatmap(estimates: pl.DataFrame, theme: Theme = PAPER) -> Chart:
    """Accuracy of one sample over train compute (up) × thinking budget (right), of a run's `estimates`."""
    rows = estimates.filter(estimator="mean").sort("step", "budget")
    compute = rows.group_by("budget").agg(pl.col("test_flops").median()).sort("budget")
    columns = {b: f"{b} tokens, {flops(c)}" for b, c in zip(compute["budget"], compute["test_flops"], strict=True)}
    states = rows.unique("checkpoint", keep="first", maintain_order=True)
    names = {row["checkpoint"]: _train_name(row) for row in states.to_dicts()}
    table = rows.select(
        pl.col("checkpoint").replace_strict(names).alias("train"),
        pl.col("budget").replace_strict(columns).alias("test"),
        "accuracy",
    )
    base = alt.Chart(table).encode(
        x=alt.X("test:O", sort=list(columns.values()),
                title="Thinking budget, test compute (FLOPs per problem)",
                axis=alt.Axis(labelAngle=0, labelLimit=200, labelExpr="split(datum.label, ', ')")),
        y=alt.Y("train:O", sort=list(names.values())[::-1], title="Train compute (FLOPs)",
                axis=alt.Axis(labelLimit=300)),
    )  # fmt: skip
    peak = float(table["accuracy"].max())  # type: ignore[arg-type]
    colour = alt.Color("accuracy:Q", title="Accuracy", legend=alt.Legend(format=".0%", gradientLength=220),
                       scale=alt.Scale(scheme="viridis", domain=[0, peak]))  # fmt: skip
    dark = alt.condition(f"datum.accuracy > {0.6 * peak}", alt.value("black"), alt.value("white"))
    layers = alt.layer(
        base.mark_rect().encode(color=colour),
        base.mark_text(fontSize=12).encode(text=alt.Text("accuracy:Q", format=".0%"), color=dark),
    )
    return styled(
        layers.properties(
            width=max(84 * len(columns), 240),
            height=24 * len(names),
            title="Accuracy over train × test compute, one sample",
        ),
        theme,
    )


def _train_name(row: Mapping) -> str:
    if row["rl_flops"] > 0:
        return f"RL {flops(row['rl_flops'])}, all {flops(row['train_flops'])}"
    return f"{BEFORE if row['phase'] == 'rl' else 'warm start'}, all {flops(row['train_flops'])}"


def bars(values: Mapping[str, float], label: Sequence[str], *, title: str, axis: str, number: str) -> Chart:
    """Horizontal bars, one a phase, with their values written out; `number` formats the axis (d3)."""
    table = pl.DataFrame({"phase": list(values), "value": list(values.values()), "label": list(label)})
    base = alt.Chart(table).encode(
        x=alt.X("value:Q", title=axis,
                scale=alt.Scale(domain=[0, 1.25 * max(values.values(), default=1.0) or 1.0], nice=False),
                axis=alt.Axis(tickCount=5, grid=False, labelExpr=_PLAIN.format(number))),
        y=alt.Y("phase:N", sort=list(values), title=None),
    )  # fmt: skip
    layers = alt.layer(
        base.mark_bar(color=BLUE, height=18),
        base.mark_text(align="left", dx=6, fontSize=12).encode(text="label:N"),
    )
    return styled(layers.properties(width=520, height=30 * max(len(values), 1), title=title))
