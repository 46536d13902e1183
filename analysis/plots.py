"""Charts of one run (Altair). Colours are Okabe and Ito's, distinct for every kind of colour vision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from analysis.fit import MIN_POINTS, Mixture
from analysis.saturation import Answer, certainty, percent
from analysis.saturation import points as gain_points
from analysis.study import Study

BLUE, GREEN, VERMILION, GREY = "#0072B2", "#009E73", "#D55E00", "#666666"
Chart = alt.TopLevelMixin
Y = Callable[[str], alt.Y]
"""The accuracy axis of a panel, for whichever field is drawn on it."""
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
BEFORE = "before RL"
START_GAP = 0.45
"""Decades left of the first point at which the state before RL stands: a log axis has no zero."""
WIDTH, HEIGHT = 460, 360
_PLAIN = "datum.value == 0 ? '0' : replace(format(datum.value, '{}'), 'e+', 'e')"
"""Axis label in Vega's language: numbers as `flops` writes them."""


def flops(value: float) -> str:
    """1.6e12: in charts as in code, because few fonts have every superscript."""
    return "0" if value <= 0 else f"{value:.1e}".replace("e+", "e").replace("e0", "e")


def panels(study: Study) -> Chart:
    """Accuracy against RL train compute (left) and against test compute (right), one accuracy axis."""
    top = _top(study)
    return _styled(alt.hconcat(_train_panel(study, top), _test_panel(study, top), spacing=36))


def _top(study: Study) -> float:
    """Upper end of the accuracy axis: all points and bands, and an asymptote that is identified."""
    shown = study.estimates.filter(pl.col("estimator") != "pass", pl.col("checkpoint").is_in(study.states))
    tops = [float(shown["hi95"].max() or 0)]  # type: ignore[arg-type]
    for curve in study.curves:
        if curve.mixture is not None and curve.key != "train":
            end = curve.mixture.predict([10 * curve.series.compute[-1]])
            tops.append(float(curve.mixture.quantiles(end, (LEVELS[-1],)).max()))
        if curve.key == "rl" and curve.answer.identified and curve.answer.asymptote is not None:
            tops.append(curve.answer.asymptote.hi90 or 0.0)
    return min(1.0, math.ceil(10 * max(tops) + 0.2) / 10)


def _train_panel(study: Study, top: float) -> Any:
    curve = study.curve("rl")
    rows = study.estimates.filter(
        pl.col("estimator") == "mean", pl.col("budget") == study.headline,
        pl.col("rl_flops").is_in(curve.series.compute.tolist()),
    ).sort("step").unique("rl_flops", keep="last").sort("rl_flops")  # fmt: skip
    inside = rows.filter(pl.col("rl_flops") > 0)
    first = math.log10(float(inside["rl_flops"][0])) if len(inside) else 0.0
    last = math.log10(float(inside["rl_flops"][-1])) if len(inside) else 1.0
    domain = (first - START_GAP - 0.15, last + 1.3)
    x = _log_axis("RL train compute (FLOPs)", *domain, first=first)
    points = _points(rows, "rl_flops").with_columns(
        pl.when(pl.col("rl_flops") > 0).then(pl.col("x")).otherwise(first - START_GAP).alias("x")
    )
    y = _accuracy(top, f"Held-out accuracy, thinking budget {study.headline}")
    layers = _bands(curve.mixture, x, y, first, last) if curve.mixture is not None else []
    layers += _marks(points.filter(pl.col("rl_flops") > 0), x, y, BLUE, "circle")
    start = points.filter(pl.col("rl_flops") == 0)
    layers += _marks(start, x, y, VERMILION, "diamond")
    layers.append(
        alt.Chart(start).mark_text(fontSize=12, color=VERMILION, align="left", dx=-12, dy=-12)
        .encode(x=x, y=y("hi95"), text=alt.value(BEFORE))
    )  # fmt: skip
    layers.append(
        alt.Chart(start).mark_text(fontSize=12).encode(x=x, y=alt.value(HEIGHT + 17), text=alt.value("0"))
    )
    layers += _limit(curve.answer, x, y, last + 1.12)
    layers += _powers(x, first, domain[1])
    scope = f"{curve.answer.problems} problems, one sample; bars 95%, bands 50% and 90%"
    title = alt.TitleParams(text=_verdict("RL compute", curve.answer), subtitle=[_subtitle(curve.answer), scope])
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
    x = _log_axis("Test compute (FLOPs per problem)", low - 0.1, high + 1.05, first=low - 0.1)
    y = _accuracy(top, None)
    layers: list[alt.Chart] = []
    for curve in answers:
        if curve.mixture is not None:
            end = math.log10(curve.series.compute[-1])
            layers += _bands(curve.mixture, x, y, end, end, BLUE)
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
    layers += _powers(x, low - 0.1, high + 1.05)
    longer, voted = (curve.answer for curve in answers)
    vote = f"{_verdict('Majority vote', voted)}; {_subtitle(voted)}"
    title = alt.TitleParams(text=_verdict("Thinking longer", longer), subtitle=[_subtitle(longer), vote])
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


def _log_axis(title: str, low: float, high: float, first: float) -> alt.X:
    """An axis of log10 values, with ticks at powers of ten and their multiples from the first point on.

    Its labels are `_powers`.
    """
    exponents = range(math.floor(low), math.ceil(high) + 1)
    values = [e + math.log10(k) for e in exponents for k in range(1, 10)]
    return alt.X(
        "x:Q",
        title=title,
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(
            values=[v for v in values if first - 0.05 <= v <= high],
            labels=False,
            grid=False,
            tickSize=4,
            titlePadding=28,
        ),
    )


def _powers(x: alt.X, first: float, high: float) -> list[alt.Chart]:
    """Labels of the powers of ten below the axis, the exponent raised."""
    exponents = [e for e in range(math.floor(first), math.ceil(high) + 1) if first - 0.05 <= e <= high]
    table = pl.DataFrame({"x": exponents, "ten": ["10"] * len(exponents), "exponent": map(str, exponents)})
    base = alt.Chart(table.with_columns(pl.col("x").cast(pl.Float64))).encode(x=x, y=alt.value(HEIGHT + 17))
    return [
        base.mark_text(align="right", fontSize=12, dx=3).encode(text="ten:N"),
        base.mark_text(align="left", fontSize=9, dx=3.5, dy=-5).encode(text="exponent:N"),
    ]


def _accuracy(top: float, title: str | None) -> Y:
    def axis(field: str) -> alt.Y:
        return alt.Y(
            f"{field}:Q",
            title=title,
            scale=alt.Scale(domain=[0, top], nice=False, clamp=True),
            axis=alt.Axis(format=".0%", tickCount=6),
        )

    return axis


def _bands(mixture: Mixture, x: alt.X, y: Y, first: float, last: float, colour: str = BLUE) -> list[alt.Chart]:
    """Median, 50% and 90% bands from `first` to a decade past `last` (log10 FLOPs); dashed past the data."""
    grid = np.linspace(first, last + 1, 61)
    lo90, lo50, median, hi50, hi90 = mixture.quantiles(mixture.predict(10**grid), LEVELS)
    table = pl.DataFrame({"x": grid, "accuracy": median, "lo50": lo50, "hi50": hi50, "lo90": lo90, "hi90": hi90})
    base = alt.Chart(table).encode(x=x)
    layers = [
        base.mark_area(opacity=0.13, color=colour).encode(y=y("lo90"), y2="hi90:Q"),
        base.mark_area(opacity=0.22, color=colour).encode(y=y("lo50"), y2="hi50:Q"),
    ]
    within, past = table.filter(pl.col("x") <= last), table.filter(pl.col("x") >= last - 1e-9)
    for part, dash in ((within, [1, 0]), (past, [6, 4])):
        line = alt.Chart(part).mark_line(color=colour, strokeWidth=2, strokeDash=dash)
        layers.append(line.encode(x=x, y=y("accuracy")))
    return layers


def _marks(points: pl.DataFrame, x: alt.X, y: Y, colour: str, shape: str) -> list[alt.Chart]:
    base = alt.Chart(points).encode(x=x)
    return [
        base.mark_rule(strokeWidth=1.5, color=colour).encode(y=y("lo95"), y2="hi95:Q"),
        base.mark_point(size=70, filled=True, opacity=1, color=colour, shape=shape).encode(
            y=y("accuracy"), tooltip=_tooltip("rl_flops")
        ),
    ]


def _limit(found: Answer, x: alt.X, y: Y, at: float) -> list[alt.Chart]:
    """The asymptote's 90% interval at the right margin, drawn only where it is identified."""
    if not found.identified or found.asymptote is None:
        return []
    limit = found.asymptote
    row = pl.DataFrame({"x": [at], "accuracy": [limit.median], "lo90": [limit.lo90], "hi90": [limit.hi90]})
    base = alt.Chart(row).encode(x=x)
    return [
        base.mark_rule(strokeWidth=5, color=GREY, opacity=0.6).encode(y=y("lo90"), y2="hi90:Q"),
        base.mark_tick(thickness=3, size=16, color=GREY, orient="horizontal").encode(y=y("accuracy")),
        base.mark_text(dy=-14, fontSize=12, color=GREY, align="right", dx=10).encode(
            y=y("hi90"), text=alt.value("asymptote, 90%")
        ),
    ]


def _verdict(name: str, found: Answer) -> str:
    if found.probability is None or found.verdict == "cannot tell":
        return f"{name}: cannot tell"
    return f"{name}: {found.verdict} (probability {certainty(found)})"


def _subtitle(found: Answer) -> str:
    if found.gain_10x is None:
        return f"fewer than {MIN_POINTS} points: no fit"
    gain = found.gain_10x
    text = f"next 10×: {gain_points(gain.median)} points ({gain_points(gain.lo90)} to {gain_points(gain.hi90)})"
    if found.identified and found.asymptote is not None:
        return f"{text}; asymptote {percent(found.asymptote.median)}"
    return f"{text}; asymptote not identified"


def heatmap(study: Study) -> Chart:
    """Accuracy of one sample over train compute (up) × thinking budget (right)."""
    rows = study.estimates.filter(estimator="mean").sort("step", "budget")
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
    return _styled(
        layers.properties(
            width=max(84 * len(columns), 240),
            height=24 * len(names),
            title="Accuracy over train × test compute, one sample",
        )
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
    return _styled(layers.properties(width=520, height=30 * max(len(values), 1), title=title))


def _styled(chart: Any) -> Chart:
    return (
        chart.configure(font="Helvetica, Arial, sans-serif", background="white", padding=14)
        .configure_axis(labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#e6e6e6",
                        domainColor="#888888", tickColor="#888888", titlePadding=10)
        .configure_title(fontSize=15, subtitleFontSize=13, anchor="start", subtitleColor="#444444", offset=12)
        .configure_legend(labelFontSize=12, titleFontSize=12, labelLimit=320, orient="bottom",
                          titleFontWeight="normal", symbolSize=80)
        .configure_view(stroke=None)
    )  # fmt: skip
