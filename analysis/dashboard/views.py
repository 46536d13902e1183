"""What the tabs show of the runs that are picked: charts, and words on what could not be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import polars as pl

from analysis.dashboard import exchange, health, panels
from analysis.dashboard.alarms import alarms
from analysis.dashboard.fitted import Choice, Fitted, fitted
from analysis.dashboard.watch import FAILURES, Stamp, Watch, word
from analysis.drawing import Chart
from analysis.load import estimates

Stamps = tuple[tuple[str, Stamp | None], ...]
"""What has to change for a fit to be made again: a run's complete evaluations."""


def curves(
    watch: Watch, names: Sequence[str], choice: Choice, theme: str
) -> tuple[Chart | None, tuple[str, ...], list[str]]:
    """The two panels of runs; of several, each curve in words; and what is wrong with the others."""
    found, wrong = [], []
    plain = replace(choice, logit=False, colour="run")
    for name in names:
        try:
            found.append(_panels(watch.run(name), watch.evaluated(name), plain))
        except FAILURES as error:
            wrong.append(f"{name}: {word(error, watch.root / name)}")
    said = panels.words(found) if len(found) > 1 else ()  # of one, the chart's titles say it
    return (panels.chart(found, choice, theme) if found else None), said, wrong


@lru_cache(maxsize=64)
def _panels(path: Path, stamps: Stamps, choice: Choice) -> Fitted:
    return fitted(path, choice)


def traded(watch: Watch, name: str, theme: str) -> tuple[Chart | None, list[str]]:
    """Train × test compute of a run, and what the chart leaves to be said."""
    try:
        found = _traded(watch.run(name), watch.evaluated(name))
    except FAILURES as error:
        return None, [f"{name}: {word(error, watch.run(name))}"]
    return exchange.chart(found, theme), [exchange.words(found)]


@lru_cache(maxsize=16)
def _traded(path: Path, stamps: Stamps) -> exchange.Traded:
    return exchange.fitted(path)


def steps(watch: Watch, names: Sequence[str], axis: str, theme: str) -> tuple[Chart, list[str], list[str]]:
    """The course of RL, alarms, and what is wrong with records."""
    frames: dict[str, pl.DataFrame] = {}
    said, wrong = [], []
    for name in names:
        rows, bad = watch.train_rows(name)
        wrong += [f"{name}: {bad}"] if bad else []
        try:
            frames[name] = health.frame(rows)
            held_out = _estimates(watch.run(name), watch.evaluated(name))
        except FAILURES as error:
            wrong.append(f"{name}: {word(error, watch.run(name))}")
            continue
        said += [f"{name}: {alarm}" for alarm in alarms(frames[name], held_out)]
    return health.charts(frames, axis, theme), said, wrong


@lru_cache(maxsize=64)
def _estimates(path: Path, stamps: Stamps) -> pl.DataFrame | None:
    return estimates(path) if stamps else None
