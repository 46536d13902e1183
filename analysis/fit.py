"""From a frame of points to fits, forecasts and answers: `fit(load("points.csv")).saturation()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from analysis import calibration
from analysis.arrays import NAMES, Floats
from analysis.forecast import Forecast, forecast
from analysis.posterior import REPLICATES, chunks, posteriors, too_few
from analysis.saturation import Answer, answer
from analysis.series import MIN_POINTS, FitError, Series, series_of

__all__ = ["CURVES_A_CALL", "CurveFit", "Fit", "FitError", "fit", "fit_series", "predictions"]

CURVES_A_CALL = 64
"""Curves that are searched together: rows are padded to the longest of a call."""
PREDICTIONS = {"source": pl.String, "curve": pl.String, "compute": pl.Float64} | {
    name: pl.Float64 for name in ("median", "lo50", "hi50", "lo90", "hi90")
}
"""Columns of forecasts: compute in the curve's own unit, quantiles in the metric's."""


@dataclass(frozen=True)
class CurveFit:
    """One curve: what was fitted, where it goes, and what it says."""

    series: Series
    forecast: Forecast | None
    """None where there are too few points."""
    answer: Answer

    def quantiles(self, compute: ArrayLike, n: ArrayLike | None = None) -> Floats:
        """As `Forecast.quantiles`, [5, X]. Raises FitError where the curve has too few points for a forecast."""
        if self.forecast is None:
            raise FitError(f"{self.series.name}: {self.answer.reason}")
        return self.forecast.quantiles(compute, n)


@dataclass(frozen=True)
class Fit:
    """Every curve of a frame."""

    curves: tuple[CurveFit, ...]

    def predict(self, compute: ArrayLike) -> pl.DataFrame:
        """Level of every fitted curve at every compute, a row each: `PREDICTIONS`."""
        at = np.atleast_1d(np.asarray(compute, dtype=np.float64))
        frames = [_predicted(curve, at) for curve in self.curves if curve.forecast is not None]
        return pl.concat([pl.DataFrame(schema=PREDICTIONS), *frames])

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
    usable = [len(np.unique(s.compute[s.inside])) for s in series]
    enough = [i for i, points in enumerate(usable) if points >= MIN_POINTS]
    paths: dict[int, Forecast] = {}
    calibrated = calibration.load()
    for part in chunks([series[i] for i in enough], CURVES_A_CALL):
        chosen = [enough[j] for j in part]
        fitted = posteriors([series[i] for i in chosen], replicates, seed)
        paths |= {i: forecast(one, calibrated, seed) for i, one in zip(chosen, fitted, strict=True)}
    found = []
    for i, s in enumerate(series):
        lacks = "" if i in paths else too_few(usable[i])
        found.append(CurveFit(s, paths.get(i), answer(s, paths.get(i), lacks)))
    return found


def predictions(found: Fit, frame: pl.DataFrame) -> pl.DataFrame:
    """What is forecast for every holdout row of a frame: an observation over its n items, or one as noisy as the
    data where n is not known; the column `interval` says which."""
    frames = [pl.DataFrame(schema=PREDICTIONS | {"interval": pl.String})]
    hidden = frame.filter(split="holdout")
    for curve in found.curves:
        rows = hidden.filter(pl.col("source").eq_missing(curve.series.source), curve=curve.series.name)
        if curve.forecast is None or rows.is_empty():
            continue
        compute, n = rows["compute"].to_numpy(), rows["n"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        known = ["observed, noise as in the data" if np.isnan(items) else "observed" for items in n]
        frames.append(_predicted(curve, compute, n).with_columns(interval=pl.Series(known)))
    return pl.concat(frames)


def _predicted(curve: CurveFit, compute: Floats, n: Floats | None = None) -> pl.DataFrame:
    columns = {"source": curve.series.source, "curve": curve.series.name, "compute": compute}
    columns |= dict(zip(NAMES, curve.quantiles(compute, n), strict=True))
    return pl.DataFrame(columns, schema_overrides=PREDICTIONS).select(list(PREDICTIONS))
