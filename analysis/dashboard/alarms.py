"""What is wrong with a run's RL, in words: each rule looks at one thing and states its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from analysis.ways import headline, rl_points

SHARE = 0.1
"""The start and the end of a metric: the mean over this share of its steps on either side."""
LEAST_STEPS = 20
"""With fewer, nothing is said of a start and an end."""
ENTROPY_LEFT = 0.05
"""Of the start's entropy; less is a collapse."""
ALL_CUT = 0.99
"""Share of the answers, at the end, that the budget cut."""
MISMATCH = 0.1
"""Nats a token at the end, on average; rounding explains .01 in float32 and .1 in bfloat16."""
FALSE_LINES = 0.05
"""By which the share of false lines must rise from the start to the end."""


@dataclass(frozen=True)
class Ends:
    """A metric at the start and at the end of RL."""

    start: float
    end: float


def alarms(frame: pl.DataFrame, estimates: pl.DataFrame | None = None) -> tuple[str, ...]:
    """A line for each rule that fires. frame: `analysis.dashboard.health.frame`; estimates: of `analysis.load`."""
    said = (
        not_finite(frame),
        reward_without_accuracy(frame, estimates),
        entropy_collapsed(frame),
        every_answer_cut(frame),
        sampler_differs(frame),
        false_lines_rise(frame),
    )
    return tuple(line for line in said if line is not None)


def not_finite(frame: pl.DataFrame) -> str | None:
    """A loss or gradient norm that is not a finite number, at any step."""
    bad = frame.filter(pl.col("metric").is_in(["loss", "grad_norm"]), pl.col("bad") > 0).sort("step")
    if bad.is_empty():
        return None
    row = bad.row(0, named=True)
    name = {"loss": "Loss", "grad_norm": "Gradient norm"}[row["metric"]]
    return f"{name} not finite: first by step {row['step']}, {bad['bad'].sum()} times in all."


def reward_without_accuracy(frame: pl.DataFrame, estimates: pl.DataFrame | None) -> str | None:
    """Held-out accuracy at the last checkpoint is below its best, the 95% intervals apart, while the reward of the
    steps since the best is above that of as many steps before it."""
    if estimates is None or estimates.is_empty():
        return None
    held_out = rl_points(headline(estimates))
    reward = frame.filter(pl.col("metric") == "reward", pl.col("mean").is_not_null())
    if held_out.is_empty() or reward.is_empty():
        return None
    best, last = held_out.sort("accuracy").row(-1, named=True), held_out.row(-1, named=True)
    since = reward.filter(pl.col("step") > best["step"])
    before = reward.filter(pl.col("step") <= best["step"]).tail(len(since))
    if last["hi95"] >= best["lo95"] or since.is_empty() or before.is_empty():
        return None
    was, now = _mean(before), _mean(since)
    if now <= was:
        return None
    return (
        f"Reward rises ({was:.2f} to {now:.2f}) while held-out accuracy falls: {best['accuracy']:.1%} at step "
        f"{best['step']}, {last['accuracy']:.1%} at step {last['step']} (budget {last['budget']}, "
        "intervals apart)."
    )


def entropy_collapsed(frame: pl.DataFrame) -> str | None:
    """The end's entropy is below `ENTROPY_LEFT` of the start's."""
    found = ends(frame, "entropy")
    if found is None or found.end >= ENTROPY_LEFT * found.start:
        return None
    return (
        f"Entropy collapsed: {found.end:.2g} nats a token, {found.end / found.start:.1%} of the {found.start:.2g} "
        f"at the start (alarm below {ENTROPY_LEFT:.0%})."
    )


def every_answer_cut(frame: pl.DataFrame) -> str | None:
    """The budget cuts `ALL_CUT` of the answers at the end."""
    found = ends(frame, "cut_fraction")
    if found is None or found.end < ALL_CUT:
        return None
    return f"The budget cuts {found.end:.1%} of the answers (alarm from {ALL_CUT:.0%}): none says that it is done."


def sampler_differs(frame: pl.DataFrame) -> str | None:
    """Sampler and trainer differ by more than `MISMATCH` at the end."""
    found = ends(frame, "mismatch")
    if found is None or found.end <= MISMATCH:
        return None
    return (
        f"Sampler and trainer differ by {found.end:.2g} nats a token (alarm above {MISMATCH}): ratios are wrong."
    )


def false_lines_rise(frame: pl.DataFrame) -> str | None:
    """The share of false lines is at the end above the start's by more than `FALSE_LINES`."""
    found = ends(frame, "slip_rate")
    if found is None or found.end - found.start <= FALSE_LINES:
        return None
    return (
        f"False lines rise: {found.start:.1%} of the lines at the start, {found.end:.1%} now (alarm above "
        f"{100 * FALSE_LINES:.0f} points)."
    )


def ends(frame: pl.DataFrame, metric: str) -> Ends | None:
    """Means over the first and the last `SHARE` of a metric's points; None with fewer than `LEAST_STEPS` steps."""
    found = frame.filter(pl.col("metric") == metric, pl.col("mean").is_not_null())
    if found["count"].sum() < LEAST_STEPS:
        return None
    few = max(int(SHARE * len(found)), 1)
    return Ends(_mean(found.head(few)), _mean(found.tail(few)))


def _mean(rows: pl.DataFrame) -> float:
    """Over steps; a row may hold several."""
    good = rows["count"] - rows["bad"]
    return float((rows["mean"] * good).sum()) / float(good.sum())
