"""Where a run stands, as the two panels without any fit: cheap enough to draw at every evaluation (Altair)."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from analysis.drawing import BLUE, GREEN, Chart, accuracy_axis, accuracy_top, log_axis, powers, styled
from analysis.ways import headline, votes_budget

WIDTH, HEIGHT = 420, 300
MARGIN = 0.15
"""Decades left free on either side of the points."""


def progress(estimates: pl.DataFrame) -> Chart:
    """Accuracy, with 95% intervals: every checkpoint's against train compute, the last one's against test compute.

    estimates: `analysis.load.estimates` of the evaluations so far. Train compute is that of RL once there is any.
    """
    means, votes = headline(estimates), votes_budget(estimates)
    rl = float(estimates["rl_flops"].max()) > 0  # type: ignore[arg-type]
    axis, compute = ("rl_flops", "RL train compute") if rl else ("train_flops", "Train compute")
    trained = means.filter(pl.col(axis) > 0).sort(axis)
    last = estimates.filter(pl.col("step") == pl.col("step").max())
    ways = {
        "thinking longer": last.filter(pl.col("estimator") == "mean"),
        f"majority vote, budget {votes}": last.filter(pl.col("estimator") == "maj", pl.col("budget") == votes),
    }
    answered = pl.concat([rows.with_columns(pl.lit(way).alias("way")) for way, rows in ways.items()])
    shown = pl.concat([trained, answered.drop("way")])
    top = accuracy_top(float(shown["hi95"].max()))  # type: ignore[arg-type]
    left = _panel(
        trained.with_columns(pl.lit("one sample").alias("way")), axis, f"{compute} (FLOPs)", top, [BLUE],
        f"Thinking budget {means['budget'][0]}, {means['n'][0]} problems",
    )  # fmt: skip
    right = _panel(
        answered, "test_flops", "Test compute (FLOPs per problem)", top, [BLUE, GREEN],
        f"Checkpoint of step {last['step'][0]}", legend=True,
    )  # fmt: skip
    return styled(alt.hconcat(left, right, spacing=36).resolve_scale(color="independent"))


def _panel(
    rows: pl.DataFrame, axis: str, name: str, top: float, colours: list[str], title: str, legend: bool = False
) -> Any:
    table = rows.select(pl.col(axis).log10().alias("x"), "way", "accuracy", "lo95", "hi95")
    first, last = float(table["x"].min()), float(table["x"].max())  # type: ignore[arg-type]
    x = log_axis(name, first - MARGIN, last + MARGIN, first=first - MARGIN)
    ways = table["way"].unique(maintain_order=True).to_list()
    colour = alt.Color(
        "way:N", sort=ways, scale=alt.Scale(domain=ways, range=colours[: len(ways)]),
        legend=alt.Legend(title=None) if legend else None,
    )  # fmt: skip
    y = accuracy_axis(top, "Held-out accuracy")
    base = alt.Chart(table).encode(x=x, color=colour)
    layers = [
        base.mark_rule(strokeWidth=1.5, opacity=0.7).encode(y=y("lo95"), y2="hi95:Q"),
        base.mark_line(strokeWidth=1.5).encode(y=y("accuracy")),
        base.mark_point(size=50, filled=True, opacity=1).encode(y=y("accuracy")),
        *powers(x, first - MARGIN, last + MARGIN, HEIGHT),
    ]
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)
