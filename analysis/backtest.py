"""How good the forecasts are: every curve's continuation is hidden, forecast, and compared, beside peers.

A table's own split is used where it has one, else the last 1/2, 3/4 and 9/10 of the compute are hidden (horizons
2×, 4×, 10×). Ours is calibrated without the source that is tested. Each peer has the interval that its users
would take, and that interval widened by the same conformal step as ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from analysis import calibration
from analysis.arrays import QUANTILES, Floats
from analysis.calibration import Calibration, Score
from analysis.estimators import wilson
from analysis.fit import CURVES_A_CALL
from analysis.forecast import forecast
from analysis.peers import PEERS, peer_paths
from analysis.posterior import chunks, posteriors
from analysis.series import MIN_POINTS, Series, series_of
from analysis.table import TableError

HORIZONS = (2, 4, 10)
REPLICATES = 100
"""Of each form: enough for intervals, and many curves are to be done."""
NODES = 24
"""Reaches at which a curve's paths are drawn; quantiles between are interpolated."""
FLOOR = 0.005
"""Values below it count as it in logarithms: half an item of a hundred."""
CELL = 10
"""Curves of a cell at the least that counts in what is said over all cells."""
OURS = "ours"


@dataclass(frozen=True)
class Task:
    """A curve with its continuation hidden."""

    source: str
    group: str
    curve: str
    horizon: str
    """"split", or how many times the last compute is reached."""
    series: Series
    compute: Floats
    """[H] of the continuation."""
    y: Floats
    """[H]"""
    n: Floats
    """[H] items behind each; NaN where not known."""


@dataclass(frozen=True)
class Forecasts:
    """Quantiles of one method at a task's hidden points, in the metric's own units."""

    task: Task
    method: str
    quantiles: Floats
    """[5, H] at `QUANTILES`."""
    seconds: float
    doubt: Floats | float = 1.0
    """[H] share of the guarded view, which alone a calibration widens."""


@dataclass(frozen=True)
class Backtest:
    """How good forecasts were."""

    scores: pl.DataFrame
    """A row a task and method."""
    table: pl.DataFrame
    """A row a cell and method, as `summary` makes it."""
    overall: pl.DataFrame
    """A row a method: means over cells."""


def tasks(frame: pl.DataFrame) -> tuple[list[Task], list[str]]:
    """Tasks of a canonical frame (`analysis.table.CANONICAL`), and a line for each curve that gives none."""
    found: list[Task] = []
    left_out: list[str] = []
    for (source, curve), rows in frame.partition_by("source", "curve", as_dict=True, maintain_order=True).items():
        rows = rows.filter(pl.col("compute") > 0).sort("compute")
        name = str(source or "table")
        if rows.is_empty():
            left_out.append(f"{name}, {curve}: no point with compute")
            continue
        compute, group = rows["compute"].to_numpy(), str(rows["group"][0] or "")
        fit = (rows["split"] == "fit").to_numpy()
        splits = [("split", fit)] if not fit.all() else [(f"{h}x", compute <= compute[-1] / h) for h in HORIZONS]
        for horizon, past in splits:
            points = len(np.unique(compute[past]))
            if points < MIN_POINTS or past.all():
                left_out.append(f"{name}, {curve}, {horizon}: {points} points before it, {MIN_POINTS} are needed")
                continue
            (series,) = series_of(rows.filter(past).with_columns(split=pl.lit("fit")))
            hidden = rows.filter(~past)
            n = hidden["n"].cast(pl.Float64).fill_null(np.nan).to_numpy()
            y = hidden["value"].to_numpy()
            found.append(Task(name, group, str(curve), horizon, series, compute[~past], y, n))
    return found, left_out


def backtest(frame: pl.DataFrame, peers: bool = True, say: Callable[[str], None] = lambda text: None) -> Backtest:
    """Hide, forecast, compare: every task of a canonical frame, by us and by every peer.

    Raises TableError where no curve has a continuation to hide.
    """
    found, left_out = tasks(frame)
    for line in left_out:
        say(f"left out: {line}")
    if not found:
        raise TableError([f"TABLE: no curve has {MIN_POINTS} points before a continuation to hide"])
    done = ours(found, say=say)
    if peers:
        for name in PEERS:
            done += _peer(name, found)
            say(f"{name}: done")
    return _compared(done)


def ours(
    found: Sequence[Task],
    calibrate: Callable[[str], Calibration] = calibration.load,
    say: Callable[[str], None] = lambda text: None,
) -> list[Forecasts]:
    """Our forecasts of every task; calibrate: source → factors, by default learned without that source."""
    out: list[Forecasts | None] = [None] * len(found)
    counted = 0
    for part in chunks([t.series for t in found], CURVES_A_CALL):
        start = time.perf_counter()
        fitted = posteriors([found[i].series for i in part], REPLICATES)
        made = []
        for i, posterior in zip(part, fitted, strict=True):
            task = found[i]
            path = forecast(posterior, calibrate(task.source))
            doubt = 1 - path.belief(path.folds(task.compute))
            made.append((i, doubt, path.quantiles(task.compute, task.n)))
        seconds = (time.perf_counter() - start) / len(part)
        for i, doubt, values in made:
            out[i] = Forecasts(found[i], OURS, values, seconds, doubt)
        counted += len(part)
        say(f"{counted} of {len(found)} forecasts")
    return [f for f in out if f is not None]


def _nodes(compute: Floats) -> Floats:
    distinct = np.unique(compute)
    if len(distinct) <= NODES:
        return distinct
    return np.exp(np.linspace(np.log(distinct[0]), np.log(distinct[-1]), NODES))


def _peer(name: str, found: Sequence[Task]) -> list[Forecasts]:
    out = []
    for part in chunks([t.series for t in found], CURVES_A_CALL):
        start = time.perf_counter()
        nodes = [_nodes(found[i].compute) for i in part]
        series = [found[i].series for i in part]
        folds = [np.log(at / s.compute[-1]) for at, s in zip(nodes, series, strict=True)]
        made = peer_paths(name, series, folds)
        seconds = (time.perf_counter() - start) / len(part)
        for i, at, paths in zip(part, nodes, made, strict=True):
            s = found[i].series
            low = np.quantile(paths.drawn, QUANTILES, axis=0)
            low[2] = paths.middle
            values = s.to_y(low if s.factor > 0 else low[::-1])
            logs = np.log(found[i].compute)
            rows = np.stack([np.interp(logs, np.log(at), row) for row in values])
            out.append(Forecasts(found[i], name, np.sort(rows, 0), seconds))
    return out


def score(made: Forecasts) -> Score:
    """How far off a forecast was over its own half-width of 90%, at every hidden point."""
    folds = np.log(made.task.compute / made.task.series.compute[-1])
    middle, y = made.quantiles[2], made.task.y
    half = np.where(y >= middle, made.quantiles[4] - middle, middle - made.quantiles[0])
    ratio = np.abs(y - middle) / np.maximum(half, 1e-9)
    return Score(made.task.source, made.task.curve, folds, ratio, float(np.mean(made.doubt)))


def scores_of(frame: pl.DataFrame) -> tuple[list[Score], dict[str, dict[str, int]]]:
    """Scores of uncalibrated forecasts of every task, and how many curves and tasks each source has."""
    found, _ = tasks(frame)
    facts = {
        source: {
            "curves": len({t.curve for t in found if t.source == source}),
            "tasks": sum(t.source == source for t in found),
        }
        for source in sorted({t.source for t in found})
    }
    return [score(made) for made in ours(found, calibrate=lambda source: calibration.NONE)], facts


# Comparison ------------------------------------------------------------------------------------------------


def _compared(done: Sequence[Forecasts]) -> Backtest:
    rows = []
    for name in dict.fromkeys(made.method for made in done):
        mine = [made for made in done if made.method == name]
        scores, sources = [score(made) for made in mine], sorted({made.task.source for made in mine})
        widen = {s: calibration.learn(scores, s) for s in sources} if name != OURS and len(sources) > 1 else {}
        rows += [_row(made, widen.get(made.task.source)) for made in mine]
    scores = pl.DataFrame(rows)
    table = summary(scores)
    return Backtest(scores, table, overall(table))


def _row(made: Forecasts, widen: Calibration | None) -> dict[str, Any]:
    task, (lo90, lo50, middle, hi50, hi90) = made.task, made.quantiles
    y = task.y
    gap = np.log(np.maximum(middle, FLOOR)) - np.log(np.maximum(y, FLOOR))
    row: dict[str, Any] = {
        "source": task.source, "group": task.group, "curve": task.curve, "horizon": task.horizon,
        "method": made.method, "points": len(y), "rmse": float(np.sqrt(np.mean((middle - y) ** 2))),
        "rmsle": float(np.sqrt(np.mean(gap**2))), "seconds": made.seconds,
        "covered50": float(np.mean((lo50 <= y) & (y <= hi50))),
        "covered90": float(np.mean((lo90 <= y) & (y <= hi90))),
        "width90": float(np.mean(hi90 - lo90)),
        "interval_score": _interval_score(lo90, hi90, y),
    }  # fmt: skip
    if widen is not None:
        factor = widen.factor(np.log(task.compute / task.series.compute[-1]))
        lo90, hi90 = middle - factor * (middle - lo90), middle + factor * (hi90 - middle)
        if task.series.metric != "loss":
            lo90, hi90 = np.clip(lo90, 0, 1), np.clip(hi90, 0, 1)
    row["covered90_widened"] = float(np.mean((lo90 <= y) & (y <= hi90)))
    row["interval_score_widened"] = _interval_score(lo90, hi90, y)
    return row


def _interval_score(lo: Floats, hi: Floats, y: Floats) -> float:
    """Mean interval score at 90% (Gneiting & Raftery 2007): width, and 20 times what lies outside."""
    return float(np.mean((hi - lo) + 20 * np.maximum(lo - y, 0) + 20 * np.maximum(y - hi, 0)))


def summary(scores: pl.DataFrame) -> pl.DataFrame:
    """A row a source, horizon and method: errors, coverage with its binomial interval over curves, scores."""
    table = scores.group_by("source", "horizon", "method", maintain_order=True).agg(
        pl.len().alias("curves"),
        pl.col("rmse").mean(),
        pl.col("rmsle").mean().alias("rmsle_mean"),
        pl.col("rmsle").median().alias("rmsle_median"),
        pl.col("covered50", "covered90", "covered90_widened", "interval_score", "interval_score_widened").mean(),
        pl.col("seconds").mean(),
    )
    ends = [wilson(p, n) for p, n in zip(table["covered90"], table["curves"], strict=True)]
    return table.with_columns(
        pl.Series("covered90_lo95", [lo for lo, _ in ends]), pl.Series("covered90_hi95", [hi for _, hi in ends])
    )


def overall(table: pl.DataFrame) -> pl.DataFrame:
    """A row a method: geometric means of errors and scores over cells, mean coverage; small cells left out."""
    large = table.filter(pl.col("curves") >= CELL)
    return (
        (large if len(large) else table)
        .group_by("method", maintain_order=True)
        .agg(
            pl.col("rmsle_mean", "rmsle_median").clip(1e-9).log().mean().exp(),
            pl.col("interval_score", "interval_score_widened").clip(1e-9).log().mean().exp(),
            pl.col("covered50", "covered90", "covered90_widened").mean(),
            pl.col("seconds").mean(),
        )
    )


def text(found: Backtest) -> str:
    """The tables for a terminal."""
    lines = [
        f"{'source':<16}{'horizon':<9}{'method':<19}{'curves':>6}{'RMSE':>8}{'RMSLE':>8}{'median':>8}{'50%':>6}{'90%':>6}"
        f"{'(95% of it)':>14}{'score':>8}{'widened':>9}{'score':>8}{'s/curve':>9}"
    ]
    for row in found.table.sort("source", "horizon", maintain_order=True).to_dicts():
        lines.append(
            f"{row['source'][:15]:<16}{row['horizon']:<9}{row['method']:<19}{row['curves']:>6}{row['rmse']:>8.4f}"
            f"{row['rmsle_mean']:>8.4f}{row['rmsle_median']:>8.4f}{row['covered50']:>6.2f}{row['covered90']:>6.2f}"
            f"{row['covered90_lo95']:>8.2f}-{row['covered90_hi95']:<5.2f}{row['interval_score']:>8.4f}"
            f"{row['covered90_widened']:>9.2f}{row['interval_score_widened']:>8.4f}{row['seconds']:>9.3f}"
        )
    large = bool((found.table["curves"] >= CELL).any())
    cells = f"cells of {CELL} curves or more" if large else "all cells, small as they are"
    lines += ["", f"over {cells}: geometric means of errors and scores, means of coverage"]
    for row in found.overall.to_dicts():
        lines.append(
            f"{row['method']:<50}{row['rmsle_mean']:>16.4f}{row['rmsle_median']:>8.4f}{row['covered50']:>6.2f}"
            f"{row['covered90']:>6.2f}{row['interval_score']:>22.4f}{row['covered90_widened']:>9.2f}"
            f"{row['interval_score_widened']:>8.4f}{row['seconds']:>9.3f}"
        )
    lines += [
        "",
        "RMSLE: mean and median over curves of the root mean square error of the logarithm. Score: mean interval",
        "score at 90%. Widened: by the same conformal step as ours, learned from the other sources. The 95%",
        "interval of a coverage takes curves as independent.",
    ]
    return "\n".join(lines)
