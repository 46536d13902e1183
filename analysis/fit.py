"""Fits as data: every form, all starts and bootstrap replicates in one compiled call (JAX, float64).

Likelihood: binomial on the mean of each point, at the sample size that its variance amounts to. That variance
has two parts: problems differ (from their own values), and a run's checkpoints scatter about any smooth curve
by more than the problems explain (estimated from neighbouring points, so without a form).

Uncertainty: each replicate redraws the problems, the same ones at every point; adds that scatter; and redraws
the centre of the weak prior (randomised maximum a posteriori, Bardsley et al. 2014, SIAM J. Sci. Comput. 36).
Without the last, replicates would all agree on a ceiling that no datum speaks about.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from numpy.typing import ArrayLike, NDArray

from analysis.curves import CURVES, FAR_LEFT, Curve
from analysis.estimators import effective_size

REPLICATES = 500
MAX_ORIGINS = 11
MIN_POINTS = 4
"""Fewer points with compute are not fitted."""
MIN_ORIGIN = 3
"""Points at the least before an origin of the rolling-origin test."""
PAD = 32
"""Points are padded to a multiple of this, so that curves of any length share a compiled fit."""
FLAT_GRADIENT = 0.02
"""Converged: no parameter, moved by its prior deviation, would gain this much log-likelihood (linearly)."""
SAME_LOSS = 0.1
"""Starts agree where their log-posteriors differ by less."""


class FitError(ValueError):
    """A curve that cannot be fitted; the message says what it lacks."""


@dataclass(frozen=True)
class Series:
    """What is fitted: points of one curve, over the same problems."""

    compute: NDArray[np.float64]
    """[C] rising FLOPs; a first 0 is the state before any."""
    values: NDArray[np.float64]
    """[C, P] every problem's own estimate in [0, 1]."""
    draws: NDArray[np.float64]
    """[C] independent samples that each value averages."""

    @property
    def means(self) -> NDArray[np.float64]:
        return self.values.mean(1)

    @property
    def decades(self) -> NDArray[np.float64]:
        """[C] log10 of compute over the last compute; −inf at 0."""
        with np.errstate(divide="ignore"):
            return np.log10(self.compute / self.compute[-1])


@dataclass(frozen=True)
class Fit:
    """One form fitted to one series."""

    curve: Curve
    last: float
    """Last compute of the data, FLOPs."""
    theta: NDArray[np.float64]
    """[K] best parameters, as the form uses them; `parameters` has them as its formula does."""
    parameters: dict[str, float]
    log_likelihood: float
    converged: bool
    starts_agreeing: float
    """Share of the starts that end at the best one's log-posterior."""
    replicates: NDArray[np.float64]
    """[R, K] bootstrap replicates of theta."""
    held_out_rmse: float | None
    """Error on the points after each origin, fitted before it; None where there are too few points."""
    origins: int

    def predict(self, compute: ArrayLike) -> NDArray[np.float64]:
        """Accuracy of each replicate at each compute, FLOPs [X] → [R, X]."""
        return evaluate(self.curve, self.replicates, decades_from(self.last, compute))

    def best(self, compute: ArrayLike) -> NDArray[np.float64]:
        """Accuracy of the best fit, FLOPs [X] → [X]."""
        return evaluate(self.curve, self.theta[None], decades_from(self.last, compute))[0]


@dataclass(frozen=True)
class Mixture:
    """All forms fitted to one series, weighted by how well each predicted points held out from it."""

    fits: tuple[Fit, ...]
    weights: tuple[float, ...]
    scatter: float
    """Standard deviation of a point about the curve beyond what the problems explain."""

    def share(self, values: NDArray[np.bool_]) -> float:
        """Probability of a statement, [F, R] over forms and replicates."""
        return float(np.asarray(self.weights) @ values.mean(1))

    def quantiles(self, values: NDArray[np.float64], levels: Sequence[float]) -> NDArray[np.float64]:
        """Quantiles of a quantity, [F, R, ...] over forms and replicates → [len(levels), ...].

        The smallest value below which the level's share of the pooled, weighted replicates lies.
        """
        weights = np.repeat(np.asarray(self.weights) / values.shape[1], values.shape[1])
        pooled = values.reshape(-1, *values.shape[2:])
        order = np.argsort(pooled, axis=0)
        below = np.cumsum(weights[order], axis=0)
        ranks = [np.argmax(below >= level - 1e-9, axis=0)[None] for level in levels]
        picks = [np.take_along_axis(order, rank, 0) for rank in ranks]
        return np.concatenate([np.take_along_axis(pooled, pick, 0) for pick in picks])

    def predict(self, compute: ArrayLike) -> NDArray[np.float64]:
        """Accuracy of all replicates of all forms at each compute: FLOPs [X] → [F, R, X]."""
        return np.stack([fit.predict(compute) for fit in self.fits])


def decades_from(last: float, compute: ArrayLike) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log10(np.asarray(compute, dtype=np.float64) / last)


def fit(series: Series, curves: Sequence[Curve] = CURVES, replicates: int = REPLICATES, seed: int = 0) -> Mixture:
    """Every form fitted to a series. Raises FitError below `MIN_POINTS` points with compute."""
    usable = int((series.compute > 0).sum())
    if usable < MIN_POINTS:
        raise FitError(f"{usable} points with compute; a fit needs {MIN_POINTS}")
    rng = np.random.default_rng(seed)
    problems = series.values.shape[1]
    extra = scatter(series)
    draws = rng.multinomial(problems, np.full(problems, 1 / problems), size=replicates) / problems
    redrawn = draws @ series.values.T + extra * rng.standard_normal((replicates, len(series.compute)))
    redrawn = np.clip(redrawn, 0.0, 1.0)
    fits = [_fit_one(curve, series, extra, redrawn, rng) for curve in curves]
    return Mixture(tuple(fits), _skill(fits, series, extra), extra)


def scatter(series: Series) -> float:
    """Standard deviation of points about any smooth curve, beyond what the problems' own values explain.

    From each point's distance to the line through its neighbours (Gasser, Sroka & Jennen-Steinmetz 1986,
    Biometrika 73), less the variance that this distance has between problems; by medians, so that one cliff
    in a curve does not count as noise.
    """
    inside = series.compute > 0
    x, values = np.log(series.compute[inside]), series.values[inside]
    if len(x) < 3:
        return 0.0
    share = ((x[2:] - x[1:-1]) / np.maximum(x[2:] - x[:-2], 1e-9))[:, None]
    gaps = share * values[:-2] + (1 - share) * values[2:] - values[1:-1]
    scale = 1 / (share[:, 0] ** 2 + (1 - share[:, 0]) ** 2 + 1)
    between = gaps.var(1, ddof=1) / gaps.shape[1] if gaps.shape[1] > 1 else np.zeros(len(gaps))
    median_of_squares = 0.455  # of a standard normal
    excess = np.median(scale * gaps.mean(1) ** 2) / median_of_squares - np.median(scale * between)
    return float(np.sqrt(max(0.0, excess)))


def sizes(series: Series, extra: float) -> NDArray[np.float64]:
    """[C] coin flips that each point is worth: problems' variance plus the scatter `extra`."""
    found = np.array([effective_size(v, d) for v, d in zip(series.values, series.draws, strict=True)])
    p = (series.means * found + 1) / (found + 2)
    return p * (1 - p) / (p * (1 - p) / found + extra**2)


def _origins(points: int) -> list[int]:
    """Numbers of points fitted when the rest is held out: from half of them, at most `MAX_ORIGINS`."""
    first = max(MIN_ORIGIN, (points + 1) // 2)
    grid = np.linspace(first, points - 1, min(MAX_ORIGINS, points - first)) if points > first else []
    return sorted({round(float(i)) for i in grid})


def _fit_one(curve: Curve, series: Series, extra: float, redrawn: NDArray, rng: np.random.Generator) -> Fit:
    """One form: the data, each origin's past and every replicate, as rows of one call."""
    used = np.isfinite(series.decades) | curve.at_zero
    inside = np.flatnonzero(series.compute > 0)
    u, y = series.decades[used], series.means[used]
    size = sizes(series, extra)
    mean, deviation = curve.prior(-float(series.decades[inside[0]]))
    origins = _origins(len(inside))
    rows = 1 + MAX_ORIGINS + len(redrawn)
    data, weight, centre = (
        np.tile(series.means, (rows, 1)),
        np.tile(size, (rows, 1)),
        np.tile(mean, (rows, 1)),
    )
    for row, past in enumerate(origins, 1):
        weight[row, inside[past:]] = 0.0
    data[1 + MAX_ORIGINS :] = redrawn
    centre[1 + MAX_ORIGINS :] += deviation * rng.standard_normal((len(redrawn), len(mean)))
    pad = -len(u) % PAD
    theta, loss, slope = _solve(
        curve,
        np.pad(np.maximum(u, FAR_LEFT), (0, pad)),
        np.pad(data[:, used], ((0, 0), (0, pad))),
        np.pad(weight[:, used], ((0, 0), (0, pad))),
        centre,
        deviation,
        curve.starts(u, y),
    )
    best = np.argmin(loss, axis=1)
    chosen = theta[np.arange(rows), best]
    errors = [
        np.mean((evaluate(curve, chosen[row, None], series.decades)[0] - series.means)[inside[past:]] ** 2)
        for row, past in enumerate(origins, 1)
    ]
    p = np.clip(evaluate(curve, chosen[:1], u)[0], 1e-6, 1 - 1e-6)
    likelihood = float((size[used] * (y * np.log(p) + (1 - y) * np.log1p(-p))).sum())
    natural = curve.natural(chosen[0], float(np.log10(series.compute[-1])))
    return Fit(
        curve=curve,
        last=float(series.compute[-1]),
        theta=chosen[0],
        parameters=dict(zip(curve.parameters, map(float, natural), strict=True)),
        log_likelihood=likelihood,
        converged=bool(slope[0, best[0]] < FLAT_GRADIENT),
        starts_agreeing=float(np.mean(loss[0] < loss[0].min() + SAME_LOSS)),
        replicates=chosen[1 + MAX_ORIGINS :],
        held_out_rmse=float(np.sqrt(np.mean(errors))) if errors else None,
        origins=len(origins),
    )


def _skill(fits: Sequence[Fit], series: Series, extra: float) -> tuple[float, ...]:
    """Weights by rolling-origin error: the likelihood of m Gaussian errors whose scale is not known.

    (rmse² + noise²)^(−m/2) with m origins; equal weights where nothing could be held out.
    """
    if any(fit.held_out_rmse is None for fit in fits):
        return tuple(1 / len(fits) for _ in fits)
    noise = float(np.mean(series.means * (1 - series.means) / sizes(series, extra))) + 1e-6
    logs = np.array([-fit.origins / 2 * np.log((fit.held_out_rmse or 0.0) ** 2 + noise) for fit in fits])
    weights = np.exp(logs - logs.max())
    return tuple(float(w) for w in weights / weights.sum())


def _solve(curve: Curve, *args: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    with jax.enable_x64(True):
        theta, loss, slope = _search(curve, *args)
    return np.asarray(theta), np.asarray(loss), np.asarray(slope)


@functools.partial(jax.jit, static_argnums=0)
def _search(curve: Curve, u, y, size, centre, deviation, starts):
    """BFGS from every start for every row: y, size [R, C], centre [R, K], starts [S, K], u [C] →
    theta [R, S, K], minus log-posterior [R, S], its largest slope in prior deviations [R, S]."""

    def loss(z, row):
        y, size, centre = row
        theta = z * deviation
        p = jnp.clip(curve.function(theta, u), 1e-6, 1 - 1e-6)
        likelihood = jnp.sum(size * (y * jnp.log(p) + (1 - y) * jnp.log1p(-p)))
        return 0.5 * jnp.sum((z - centre / deviation) ** 2) - likelihood

    solver = optx.BFGS(rtol=1e-7, atol=1e-7)

    def search(row, start):
        done = optx.minimise(loss, solver, start / deviation, row, max_steps=128, throw=False)
        value, slope = jax.value_and_grad(loss)(done.value, row)
        return done.value * deviation, value, jnp.abs(slope).max()

    return jax.vmap(lambda row: jax.vmap(lambda start: search(row, start))(starts))((y, size, centre))


def evaluate(curve: Curve, theta: NDArray, u: NDArray) -> NDArray[np.float64]:
    """The form at many parameters: θ [R, K], u [X] decades from the last compute → accuracy [R, X]."""
    with jax.enable_x64(True):
        return np.asarray(_evaluate(curve, theta, np.maximum(u, FAR_LEFT)))


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(curve: Curve, theta, u):
    return jax.vmap(lambda row: curve.function(row, u))(theta)
