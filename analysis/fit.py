"""From a frame of points to fits, forecasts and answers: `fit(load("points.csv")).saturation()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from analysis import calibration
from analysis.arrays import NAMES, QUANTILES, Floats
from analysis.forecast import Forecast, forecast
from analysis.posterior import MIN_POINTS, REPLICATES, chunks, posteriors
from analysis.saturation import Answer, answer
from analysis.series import FitError, Series, series_of

__all__ = ["CurveFit", "Fit", "FitError", "fit", "fit_series"]

CURVES_A_CALL = 64
NODES = 64
"""Computes at which paths are drawn at the most; quantiles between are interpolated in the logarithm."""


@dataclass(frozen=True)
class CurveFit:
    """One curve: what was fitted, where it goes, and what it says."""

    series: Series
    forecast: Forecast | None
    """None where there are too few points."""
    answer: Answer

    def quantiles(self, compute: ArrayLike, n: ArrayLike | None = None) -> Floats:
        """[5, X] quantiles (`QUANTILES`) at compute [X], in the metric's own units.

        Of the underlying level; with n [X], of an observation over that many items each, NaN for one as noisy as
        the data. Raises FitError where the curve has too few points.
        """
        if self.forecast is None:
            raise FitError(f"{self.series.name}: {self.answer.reason}")
        return quantiles(self.forecast, np.asarray(compute, dtype=np.float64), n)


@dataclass(frozen=True)
class Fit:
    """Every curve of a frame."""

    curves: tuple[CurveFit, ...]

    def predict(self, compute: ArrayLike) -> pl.DataFrame:
        """Level of every fitted curve at every compute: source, curve, compute, median, lo50, hi50, lo90, hi90."""
        at = np.atleast_1d(np.asarray(compute, dtype=np.float64))
        fitted = [found for found in self.curves if found.forecast is not None]
        frames = [_predictions(found.series, at, found.quantiles(at)) for found in fitted]
        return pl.concat(frames) if frames else _predictions(None, at[:0], np.zeros((5, 0)))

    def saturation(self) -> pl.DataFrame:
        """A row a curve: verdict, probability, and every estimate with its 90% interval."""
        rows = []
        for found in self.curves:
            row = {"source": found.series.source, "curve": found.series.name}
            row |= {name: getattr(found.answer, name) for name in ("verdict", "probability", "metric", "points")}
            for name in ("now", "asymptote", "headroom", "realised", "gain_2x", "gain_10x", "compute_95"):
                estimate = getattr(found.answer, name)
                for part, suffix in (("median", ""), ("lo90", "_lo90"), ("hi90", "_hi90")):
                    row[name + suffix] = None if estimate is None else getattr(estimate, part)
            rows.append(row | {"identified": found.answer.identified, "reason": found.answer.reason})
        return pl.DataFrame(rows, infer_schema_length=None)


def fit(frame: pl.DataFrame, replicates: int = REPLICATES, seed: int = 0) -> Fit:
    """Fit every curve of a canonical frame (`analysis.load.load`), forecast, answer. Holdouts are not seen."""
    return Fit(tuple(fit_series(series_of(frame), replicates, seed)))


def fit_series(series: Sequence[Series], replicates: int = REPLICATES, seed: int = 0) -> list[CurveFit]:
    """Fit series that are at hand. A series of too few points has no forecast, and an answer that says so."""
    found: dict[int, CurveFit] = {}
    enough = []
    for i, s in enumerate(series):
        usable = len(np.unique(s.compute[s.inside]))
        if usable < MIN_POINTS:
            reason = f"{usable} points with compute; a fit needs {MIN_POINTS}"
            found[i] = CurveFit(s, None, answer(s, None, reason))
        else:
            enough.append(i)
    for part in chunks([series[i] for i in enough], CURVES_A_CALL):
        chosen = [enough[j] for j in part]
        for i, posterior in zip(chosen, posteriors([series[i] for i in chosen], replicates, seed), strict=True):
            path = forecast(posterior, calibration.load(), seed)
            found[i] = CurveFit(series[i], path, answer(series[i], path))
    return [found[i] for i in range(len(series))]


def quantiles(path: Forecast, compute: Floats, n: ArrayLike | None = None) -> Floats:
    """[5, X] quantiles (`QUANTILES`) of a forecast; see `CurveFit.quantiles`."""
    series = path.series
    inside = np.unique(compute)
    nodes = inside
    if len(inside) > NODES and inside[0] > 0:
        nodes = np.exp(np.linspace(np.log(inside[0]), np.log(inside[-1]), NODES))
    observed = None
    if n is not None:
        items, order = np.broadcast_to(np.asarray(n, dtype=np.float64), compute.shape), np.argsort(compute)
        observed = np.interp(nodes, compute[order], items[order])
    found = series.to_y(np.quantile(path.paths(nodes, observed), QUANTILES, axis=0))
    found = found if series.factor > 0 else found[::-1]
    if len(nodes) == len(inside):
        return found[:, np.searchsorted(inside, compute)]
    return np.stack([np.interp(np.log(compute), np.log(nodes), row) for row in found])


def predictions(found: Fit, frame: pl.DataFrame) -> pl.DataFrame:
    """What is forecast for every holdout row of a frame: an observation over its n items, or one as noisy as the
    data where n is not known; the column `interval` says which."""
    frames = []
    hidden = frame.filter(split="holdout")
    for curve in found.curves:
        rows = hidden.filter(pl.col("source").eq_missing(curve.series.source), curve=curve.series.name)
        if curve.forecast is None or rows.is_empty():
            continue
        compute, n = rows["compute"].to_numpy(), rows["n"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        table = _predictions(curve.series, compute, curve.quantiles(compute, n))
        known = pl.Series("interval", ["observed, noise as in the data" if np.isnan(v) else "observed" for v in n])
        frames.append(table.with_columns(known))
    return pl.concat(frames) if frames else _predictions(None, np.zeros(0), np.zeros((5, 0)))


def _predictions(series: Series | None, compute: Floats, found: Floats) -> pl.DataFrame:
    columns = dict(zip(NAMES, found, strict=True))
    return pl.DataFrame(
        {
            "source": pl.Series([None if series is None else series.source] * len(compute), dtype=pl.String),
            "curve": pl.Series(["" if series is None else series.name] * len(compute), dtype=pl.String),
            "compute": compute,
        }
        | {name: columns[name] for name in ("median", "lo50", "hi50", "lo90", "hi90")}
    )
