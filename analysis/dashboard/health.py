"""Whether the RL of a run is healthy: its training rows as small charts, over steps or RL compute (Altair)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from analysis.dashboard.alarms import alarms
from analysis.drawing import THEMES, Chart, Theme, Y, notice, places_of_ten, styled
from scaling.files import Row

__all__ = ["POINTS", "alarms", "charts", "frame", "thin"]

POINTS = 400
"""Of a series, at most."""
MOST_BINS, MOST_ROWS = 24, 4000
"""Of a line that is drawn, wide enough for a cycle of budgets in a run of 150 steps; of one chart's table, which
its lines share: Altair refuses 5000."""
LEVEL = 1e-3
"""A metric whose values differ by no more than this share of them is drawn as one that does not change."""
FRAME = {
    "metric": pl.String,
    "step": pl.Int64,
    "rl_flops": pl.Float64,
    "mean": pl.Float64,
    "lo": pl.Float64,
    "hi": pl.Float64,
    "count": pl.Int64,
    "bad": pl.Int64,
}
"""A row a metric and bin: its last step and the RL compute there; mean, least and greatest of the finite values
(null without any), how many rows it holds, and how many of their values are not finite."""
BY_DIFFICULTY = "correct/"
COLUMNS, WIDTH, HEIGHT = 4, 220, 104
"""Charts in a row; pixels of one."""


@dataclass(frozen=True)
class Panel:
    """One small chart."""

    metric: str
    """Of a row's `metrics`, or made of its ledger; `BY_DIFFICULTY`: all that begin so."""
    title: str
    share: bool = False
    """Shown in percent, from 0 on."""


PANELS = (
    Panel("reward", "Reward"),
    Panel(BY_DIFFICULTY, "Right answers by difficulty", share=True),
    Panel("zero_variance_fraction", "Groups of one reward", share=True),
    Panel("slip_rate", "False lines", share=True),
    Panel("entropy", "Entropy (nats a token)"),
    Panel("kl", "KL to the start (nats a token)"),
    Panel("mismatch", "Sampler against trainer (nats)"),
    Panel("clip_fraction", "Clipped tokens", share=True),
    Panel("think_tokens", "Thinking (tokens)"),
    Panel("cut_fraction", "Cut by the budget", share=True),
    Panel("grad_norm", "Gradient norm"),
    Panel("loss", "Loss"),
    Panel("tokens_per_second", "Tokens a second"),
    Panel("flops_per_second", "FLOP/s, all waits included"),
    Panel("mfu", "FLOP/s of the devices' peak", share=True),
)
UNMEASURED = {"kl": "not measured: rl.kl is 0"}
"""Said in place of a chart; other metrics that a run lacks are left out."""
NUMBER = (
    "datum.value == 0 ? '0' : abs(datum.value) >= 1000 ? format(datum.value, '~s') : "
    "abs(datum.value) < 0.001 ? format(datum.value, '.1~e') : format(datum.value, '~r')"
)
"""Label of an axis in Vega's language."""


# From rows to a frame ----------------------------------------------------------------------------------------


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    """The steps of RL among the rows of train.jsonl, thinned to `POINTS` a metric: `FRAME`.

    flops_per_second is of the ledger, between a row and the one before it, whatever the time went to. A KL that
    never left 0 was not measured, and is left out.
    """
    values: dict[str, list[tuple[int, float, float]]] = {}
    for row, speed in zip(rows, _speeds(rows), strict=True):
        if row["phase"] == "rl":
            for metric, value in (row["metrics"] | speed).items():
                number = math.nan if value is None else float(value)
                values.setdefault(metric, []).append((row["step"], float(row["rl_flops"]), number))
    if not any(value for *_, value in values.get("kl", ())):
        values.pop("kl", None)
    return pl.concat([pl.DataFrame(schema=FRAME), *(_thinned(m, found) for m, found in values.items())])


def _speeds(rows: Sequence[Row]) -> Iterator[dict[str, float]]:
    """flops_per_second of each row; empty for the first, and where no time went by."""
    if rows:
        yield {}
    for before, row in pairwise(rows):
        seconds = sum(row["ledger"]["seconds"].values()) - sum(before["ledger"]["seconds"].values())
        yield {"flops_per_second": (row["train_flops"] - before["train_flops"]) / seconds} if seconds > 0 else {}


def _thinned(metric: str, values: Sequence[tuple[int, float, float]]) -> pl.DataFrame:
    step, compute, value = zip(*values, strict=True)
    number = pl.Series(value, dtype=pl.Float64)
    number = number.set(~number.is_finite(), None)
    one = {"mean": number, "lo": number, "hi": number, "count": 1, "bad": number.is_null().cast(pl.Int64)}
    table = pl.DataFrame({"metric": metric, "step": step, "rl_flops": compute} | one, schema_overrides=FRAME)
    return thin(table.select(list(FRAME)), POINTS)


def thin(series: pl.DataFrame, most: int) -> pl.DataFrame:
    """One metric's rows of a frame, by step, in at most `most` bins of equally many; a short one as it is.

    The least and the greatest value of a bin stay, and the mean over all its steps.
    """
    if len(series) <= most:
        return series
    bins = pl.Series(np.arange(len(series)) * most // len(series))
    return _gathered(series.with_columns(bins.alias("bin")), ["bin"]).select(series.columns)


def _gathered(rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Rows of a frame with those together that are equal in the columns `by`."""
    good = pl.col("count") - pl.col("bad")
    mean = pl.when(good.sum() > 0).then((pl.col("mean") * good).sum() / good.sum())
    return rows.group_by(by, maintain_order=True).agg(
        pl.exclude(*by, "mean", "lo", "hi", "count", "bad").last(),
        mean.alias("mean"),
        pl.col("lo").min(),
        pl.col("hi").max(),
        pl.col("count", "bad").sum(),
    )


# Charts ------------------------------------------------------------------------------------------------------


def charts(frames: Mapping[str, pl.DataFrame], axis: str = "step", theme: str = "light") -> Chart:
    """Small charts of runs (name → `frame`), a colour a run: means as a line, around it from least to greatest.

    axis: step or rl_flops (logarithmic); theme: a name of `analysis.drawing.THEMES`.
    """
    look = THEMES[theme]
    table = pl.concat(
        [pl.DataFrame(schema={"run": pl.String} | FRAME)]
        + [found.select(pl.lit(name).alias("run"), pl.all()) for name, found in frames.items()]
    )
    table = table.filter(pl.col("rl_flops") > 0)
    if table.is_empty():
        return notice("No step of RL is recorded yet.", look)
    table = _binned(table.with_columns(x=pl.col("step") if axis == "step" else pl.col("rl_flops").log10()))
    x = _x_axis(axis, table["x"])
    names = list(frames)
    legend = alt.Legend(columns=4, symbolOpacity=1) if len(names) > 1 else None
    colour = alt.Color("run:N", title=None, sort=names, legend=legend, scale=alt.Scale(
        domain=names, range=[look.colours[i % len(look.colours)] for i in range(len(names))]))  # fmt: skip
    drawn = [_chart(table, panel, x, colour, look) for panel in PANELS if _is_shown(table, panel)]
    over = "training steps" if axis == "step" else "RL train compute (FLOPs)"
    title = alt.TitleParams(
        text=f"RL health over {over}",
        subtitle=f"lines: means over a {MOST_BINS}th of the axis; around them the least and the greatest",
        offset=30,
    )
    grid = alt.concat(*drawn, columns=COLUMNS, spacing={"row": 62, "column": 58}, bounds="flush", title=title)
    return styled(grid, look)


def _binned(table: pl.DataFrame) -> pl.DataFrame:
    """Each line's rows gathered in at most `MOST_BINS` bins of equal width on the axis."""
    lines = table.filter(pl.col("metric").str.starts_with(BY_DIFFICULTY)).select("run", "metric").n_unique()
    low, high = pl.col("x").min(), pl.col("x").max()
    share = (pl.col("x") - low) / pl.max_horizontal(high - low, 1e-9)
    bins = min(MOST_BINS, MOST_ROWS // max(lines, 1))
    place = (share * bins).floor().clip(0, bins - 1)
    return _gathered(table.with_columns(place.alias("bin")), ["run", "metric", "bin"])


def _x_axis(axis: str, x: pl.Series) -> alt.X:
    low, high = float(x.min()), float(x.max())  # type: ignore[arg-type]
    scale = alt.Scale(domain=[low, max(high, low + 0.01)], nice=False, zero=False)
    if axis == "step":
        return alt.X("x:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4, format="~s", grid=False))
    label = "replace(format(pow(10, datum.value), '.0e'), 'e+', 'e')"
    ticks = alt.Axis(values=[at for at, *_ in places_of_ten(low, high)], labelExpr=label, grid=False)
    return alt.X("x:Q", title=None, scale=scale, axis=ticks)


def _of(table: pl.DataFrame, panel: Panel) -> pl.DataFrame:
    if panel.metric == BY_DIFFICULTY:
        return table.filter(pl.col("metric").str.starts_with(BY_DIFFICULTY))
    return table.filter(metric=panel.metric)


def _is_shown(table: pl.DataFrame, panel: Panel) -> bool:
    return panel.metric in UNMEASURED or not _of(table, panel).is_empty()


def _chart(table: pl.DataFrame, panel: Panel, x: alt.X, colour: alt.Color, look: Theme) -> Any:
    lines = _of(table, panel)
    size = {"width": WIDTH, "height": HEIGHT}
    title = _text(panel.title, -12, align="left", fontSize=12)
    if lines.is_empty():
        words = _text(UNMEASURED[panel.metric], HEIGHT / 2, align="left", fontSize=11, color=look.muted)
        return alt.layer(title, words, **size)
    shown = lines.with_columns(pl.col("x", "rl_flops", "mean", "lo", "hi").round_sig_figs(5))
    y = _y_axis(shown, panel)
    tips = [
        alt.Tooltip("run:N"),
        alt.Tooltip("metric:N"),
        alt.Tooltip("step:Q", title="up to step"),
        alt.Tooltip("rl_flops:Q", title="RL FLOPs", format=".2e"),
        *(alt.Tooltip(f"{name}:Q", format=".3~g") for name in ("mean", "lo", "hi")),
    ]
    base = alt.Chart(shown).encode(x=x, color=colour, detail="metric:N")
    line = base.mark_line(strokeWidth=1.5).encode(y=y("mean"), tooltip=tips)
    if panel.metric != BY_DIFFICULTY:
        return alt.layer(base.mark_area(opacity=0.14).encode(y=y("lo"), y2="hi:Q"), line, title, **size)
    difficulty = pl.col("metric").str.strip_prefix(BY_DIFFICULTY)
    ends = shown.group_by("run", "metric", maintain_order=True).last().with_columns(difficulty.alias("difficulty"))
    label = alt.Chart(ends).mark_text(align="left", dx=4, fontSize=11)
    return alt.layer(line, label.encode(x=x, y=y("mean"), text="difficulty:N", color=colour), title, **size)


def _text(words: str, y: float, **style: Any) -> alt.Chart:
    """Words at the left of a chart, at a height that no label of an axis moves."""
    mark = alt.Chart(pl.DataFrame({"text": [words]})).mark_text(clip=False, **style)
    return mark.encode(x=alt.value(0), y=alt.value(y), text="text:N")


def _y_axis(shown: pl.DataFrame, panel: Panel) -> Y:
    low, high = (shown[name].drop_nulls().to_list() for name in ("lo", "hi"))
    bottom, top = min(low, default=0.0), max(high, default=0.0)
    level = top - bottom <= LEVEL * abs(top)
    domain: dict[str, Any] = {"zero": panel.share, "nice": True}
    if level:
        domain = {"domain": [bottom, top + max(0.05 * abs(top), 0.01)]}
    style: dict[str, Any] = {"format": "~%"} if panel.share else {"labelExpr": NUMBER}

    def axis(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=None, scale=alt.Scale(**domain), axis=alt.Axis(tickCount=4, **style))

    return axis
