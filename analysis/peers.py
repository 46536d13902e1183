"""What users of other tools would forecast: one form by itself, with the interval of a residual bootstrap.

Each form is fitted as well as it can be: from several starts, to all points, with priors so wide that they only
keep the search from leaving the numbers. The residual bootstrap refits to the fitted curve plus resampled relative
residuals, and adds one to what is forecast (Efron 1979; Besiroglu et al. 2024, arXiv 2404.10102, for scaling
laws).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Floats
from analysis.curves import BROKEN, FAR_LEFT, LOG_LINEAR, M4, POWER, SIGMOID, Curve, Shape
from analysis.search import levels, search, search_from
from analysis.series import MOST_FLIPS, Series, relative_noise

REPLICATES = 60
FLAT = 8.0
"""Times as wide as the priors that our own fits have."""
PEERS: dict[str, Curve | None] = {
    "last value": None,
    "log-linear": LOG_LINEAR,
    "power law (M2)": POWER,
    "M4": M4,
    "broken power law": BROKEN,
    "sigmoid (ScaleRL)": SIGMOID,
}


@dataclass(frozen=True)
class Paths:
    """Forecasts of one curve by one peer: arrays [X] and, over bootstrap replicates, [R, X]; levels."""

    middle: Floats
    drawn: Floats


def peer_paths(name: str, series: Sequence[Series], folds: Sequence[Floats], seed: int = 0) -> list[Paths]:
    """Forecasts of every curve at its e-folds of compute past the last point. Raises KeyError for no peer."""
    curve = PEERS[name]
    if curve is None:
        return [_last_value(s, at, seed) for s, at in zip(series, folds, strict=True)]
    width = max(len(s.compute) for s in series)
    width += -width % 32
    u, e, size = np.zeros((len(series), width)), np.full((len(series), width), 0.5), np.zeros((len(series), width))
    first, last, span = (np.zeros(len(series)) for _ in range(3))
    for i, s in enumerate(series):
        count, used = len(s.compute), s.inside
        u[i, :count], e[i, :count] = np.maximum(s.folds, FAR_LEFT), s.level
        size[i, :count] = np.where(used, _sizes(s), 0.0)
        first[i], last[i] = s.level[used][0], s.level[-3:].mean()
        span[i] = max(1.0, -float(s.folds[used][0]))
    shape = Shape(first, last, span)
    mean, sd = curve.prior(shape)
    found, _ = search_from(curve, u, e, size, mean, sd * FLAT, curve.starts(shape))
    theta, fitted = found.theta, found.level
    rng = np.random.default_rng(seed)
    many = [np.repeat(a, REPLICATES, 0) for a in (u, e, size, mean, sd * FLAT, theta)]
    residuals = []
    for i, s in enumerate(series):
        count = len(s.compute)
        rest = np.log(np.maximum(s.level, 1e-4) / fitted[i, :count])[s.inside]
        residuals.append(rest - rest.mean())
        rows = slice(i * REPLICATES, (i + 1) * REPLICATES)
        many[1][rows, :count] = np.clip(fitted[i, :count] * np.exp(rng.choice(rest, (REPLICATES, count))), 0, 1)
    again = search(curve, *many).theta
    out = []
    for i, at in enumerate(folds):
        drawn = levels(curve, again[i * REPLICATES : (i + 1) * REPLICATES], at)
        noise = np.exp(rng.choice(residuals[i], drawn.shape))
        out.append(Paths(levels(curve, theta[i][None], at)[0], np.clip(drawn * noise, 0.0, 1.0)))
    return out


def _sizes(series: Series) -> Floats:
    """Least squares of logarithms, as users of these forms fit them: equal relative noise at every point."""
    near = np.clip(series.level, 0.01, 0.99)
    noise = relative_noise(series.compute, series.level)
    return np.minimum((1 - near) / (near * noise**2), MOST_FLIPS)


def _last_value(series: Series, folds: Floats, seed: int) -> Paths:
    logs = np.log(np.maximum(series.level[series.inside], 1e-4))
    steps = np.diff(logs)
    noise = np.random.default_rng(seed).choice(steps, (REPLICATES, len(folds)))
    last = np.full(len(folds), float(series.level[-1]))
    return Paths(last, np.clip(last * np.exp(noise), 0.0, 1.0))
