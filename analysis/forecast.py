"""Where a curve goes from here: equally likely paths from two views, each as often as the past bears it out.

- The posterior view believes its forms: paths are their bootstrap replicates (`analysis.posterior`). It is held
  only where counts say how far off a point can be; on real curves without counts it is far too sure of itself.
- The guarded view believes no form: a mean of all of them and of damped recent trends, none of which may run
  away, with a drift τ·h^p that nothing explains, h e-folds of compute from the data. A mean of forecasts that err
  to opposite sides beats each of them on real curves. τ² is what errors of past forecasts exceed their noise by
  (DerSimonian & Laird 1986, Controlled Clinical Trials 7, with a prior of one origin).

The guarded view's middle leans to the posterior's by how well that forecast the curve's own continuations past
rolling origins, and its width is multiplied by a factor learned from other curves (`analysis.calibration`). All of
this is done in g = log(level + a small offset).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2
from scipy.stats import t as student_t

from analysis.arrays import QUANTILES, Floats
from analysis.calibration import Calibration
from analysis.curves import FAR_LEFT, LOG_LINEAR
from analysis.posterior import Origin, Posterior, log_density
from analysis.series import Series, relative_noise, spread

PATHS = 1000
NODES = 64
"""Computes at which paths are drawn at the most; quantiles between are interpolated in the logarithm."""
Z90 = 1.6448536269514722
OFFSET = 0.02
"""Of levels that are errors: below it, what is absolute counts, not what is relative."""
LOSS_OFFSET = 0.005
GROWTH = 0.85
"""Errors of forecasts grow as the e-folds of reach to this power."""
NEAR = 0.2
"""E-folds below which a reach counts as this much."""
FURTHEST = 12.0
"""E-folds from which the drift grows no more, and at which an asymptote is drawn."""
USUAL_DRIFT = 0.035
"""Drift of a usual curve an e-fold, the prior of one origin: the median over public curves."""
WINDOWS = (0.7, 0.5, 0.35)
"""Shares of the log range over which a recent trend is measured."""
DAMPING = 0.65
"""Share of a recent trend that goes on."""
TREND_WEIGHT = 2.0
"""Of a recent trend in the guarded mean, where a form has 1."""
GUARD = 1.25
"""Forms may change by at most this times the recent trend, and two deviations of noise."""
DOUBT = 0.25
"""Share of the posterior's variance, and of the views' squared difference, in the guarded view's."""
BELIEF = 2.5
"""Log-odds of the posterior view where counts exist: before any of a curve's own past, and at the most after it,
for no past rules out what no form foresees."""
OVERREACH = 2.0
"""Log-odds that the posterior view loses where the reach equals the data's own range, by its fourth power."""
VAGUENESS = 3.0
"""Log-odds that it loses by each e-fold of its variance over the guarded view's."""
TAIL = 3
"""Degrees of freedom of the guarded view: most curves go on as they did, and a few do not."""
CHANCE = 0.05
"""Probability of a misfit by the counts down to which it is taken for chance."""
SKILL_ODDS = -2.0
"""Log-odds that the guarded mean leans to the posterior's median, before any of a curve's own past."""
SKILL_TEMPER = 0.5
"""Origins overlap: their densities count by half there."""


@dataclass(frozen=True)
class Forecast:
    """Paths of one curve. Compute is in the series' own unit."""

    posterior: Posterior
    calibration: Calibration
    odds: float
    """Log-odds of the posterior view near the data; −inf where no counts exist."""
    skill: float
    """Share of the posterior's median in the guarded view's middle."""
    drift: float
    """τ: standard deviation of g an e-fold that nothing explains."""
    picks: np.ndarray
    """[D, 2] form and replicate behind each path, as often as the form weighs."""
    turns: Floats
    """[D] in (0, 1): a path is the guarded view's where the share of the posterior view is below this."""
    shocks: Floats
    """[D] how far up a path of the guarded view lies: Student's t, as wide at 90% as a standard normal."""

    @property
    def series(self) -> Series:
        """What was fitted."""
        return self.posterior.series

    def folds(self, compute: Floats) -> Floats:
        """E-folds of compute past the last point."""
        with np.errstate(divide="ignore"):
            return np.maximum(np.log(np.asarray(compute, dtype=np.float64) / self.series.compute[-1]), FAR_LEFT)

    def belief(self, folds: Floats) -> Floats:
        """[X] share of the posterior view at e-folds of compute past the last point."""
        return self._views(folds)[2]

    def paths(self, compute: Floats, observed: Floats | None = None) -> Floats:
        """Levels [D, X] at compute [X]. `observed`: items [X] behind an observation, whose noise is added; NaN for
        as much noise as the data have."""
        folds = self.folds(compute)
        drawn, other, share = self._views(folds)
        # Within the data there is nothing to forecast, and the two views are one.
        guarded = (self.turns[:, None] > share) & (folds >= 0)
        return self._levels(np.where(guarded, other, drawn), folds, share, observed)

    def _views(self, folds: Floats) -> tuple[Floats, Floats, Floats]:
        """g of both views [D, X], and the share of the first.

        The posterior view counts for less where the reach nears the range that it was learned from, and where it
        spreads wider than the guarded one: there it says only that its forms could do anything.
        """
        forms = self.posterior.levels(folds)
        drawn = _g(self.series, forms[self.picks[:, 0], self.picks[:, 1]])
        low, middle, high = np.quantile(drawn, (0.05, 0.5, 0.95), axis=0)
        mean = guarded_mean(self.posterior, folds)
        own = self._drifted(folds) ** 2 + trend_variance(self.series, folds)
        # Each side by itself: that forms could end near no error says nothing of how far up they could go.
        above = DOUBT * (((high - middle) / Z90) ** 2 + np.maximum(middle - mean, 0) ** 2) + own
        below = DOUBT * (((middle - low) / Z90) ** 2 + np.maximum(mean - middle, 0) ** 2) + own
        shocks = self.shocks[:, None]
        other = mean + self.skill * (middle - mean) + shocks * np.sqrt(np.where(shocks > 0, above, below))
        reach = np.maximum(folds, 0.0) / -float(self.series.folds[self.series.inside][0])
        vague = np.log(np.maximum(drawn.var(0) / ((above + below) / 2 + 1e-12), 1.0))
        return drawn, other, _share(self.odds - OVERREACH * reach**4 - VAGUENESS * vague)

    def quantiles(self, compute: ArrayLike, n: ArrayLike | None = None) -> Floats:
        """[5, X] quantiles (`QUANTILES`) at compute [X], in the metric's own units.

        Of the underlying level; with n [X], of an observation over that many items each, NaN for one as noisy as
        the data.
        """
        compute, series = np.asarray(compute, dtype=np.float64), self.series
        inside = np.unique(compute)
        nodes = inside
        if len(inside) > NODES and inside[0] > 0:
            nodes = np.exp(np.linspace(np.log(inside[0]), np.log(inside[-1]), NODES))
        observed = None
        if n is not None:
            items, order = np.broadcast_to(np.asarray(n, dtype=np.float64), compute.shape), np.argsort(compute)
            observed = np.interp(nodes, compute[order], items[order])
        found = series.to_y(np.quantile(self.paths(nodes, observed), QUANTILES, axis=0))
        found = found if series.factor > 0 else found[::-1]
        if len(nodes) == len(inside):
            return found[:, np.searchsorted(inside, compute)]
        return np.stack([np.interp(np.log(compute), np.log(nodes), row) for row in found])

    def limits(self) -> Floats:
        """[D] levels as compute grows without bound; 0 or 1 where a form has no limit between."""
        ends = []
        for fit in self.posterior.fits:
            rises = np.where(fit.replicates[:, 1] > 0, 1.0, 0.0)
            ends.append(rises if fit.curve.limit is None else fit.curve.limit(fit.replicates))
        drawn = _g(self.series, np.stack(ends)[self.picks[:, 0], self.picks[:, 1]])[:, None]
        folds = np.array([FURTHEST])
        share = _share(np.array([self.odds]))
        guarded = self.turns > share
        moved = drawn + np.where(guarded, self.shocks, 0.0)[:, None] * self._drifted(folds)
        return self._levels(moved, folds, share, None)[:, 0]

    def _drifted(self, folds: Floats) -> Floats:
        reach = np.clip(folds, NEAR, FURTHEST)
        return np.where(folds > 0, self.drift * reach**GROWTH, 0.0)

    def _levels(self, drawn: Floats, folds: Floats, share: Floats, observed: Floats | None) -> Floats:
        middle = np.median(drawn, 0)
        about = drawn - middle
        if observed is not None:
            level = np.clip(np.exp(middle) - _offset(self.series), 0.002, 0.998)
            same = self.series.relative_noise**2 * level**2
            variance = np.where(np.isnan(observed), same, level * (1 - level) / np.maximum(observed, 1))
            deviation = np.sqrt(variance + spread(level, self.series.scatter) ** 2) / np.exp(middle)
            about = about + deviation * np.random.default_rng(1).standard_normal((len(drawn), 1))
        about = about * self.calibration.factor(folds) ** (1 - share)
        # A level of 1 is g < .1: what lies far above need not overflow to be cut to it.
        return np.clip(np.exp(np.minimum(middle + about, 1.0)) - _offset(self.series), 0.0, 1.0)


def forecast(posterior: Posterior, calibration: Calibration, seed: int = 0) -> Forecast:
    """`PATHS` paths of a fitted curve, the guarded ones as much wider as the calibration says."""
    rng = np.random.default_rng(seed)
    # Systematic sampling: every form gets its share of the paths, to one path, in each view.
    edges = np.cumsum(posterior.weights)
    forms = np.searchsorted(edges / edges[-1], (np.arange(PATHS) + 0.5) / PATHS)
    replicates = len(posterior.fits[0].replicates)
    picks = np.stack([forms, rng.permutation(np.arange(PATHS) % replicates)], 1)
    ratio = log_ratio(posterior)
    return Forecast(
        posterior=posterior,
        calibration=calibration,
        odds=BELIEF + min(0.0, ratio + refutation(posterior)) if posterior.series.counted else -np.inf,
        skill=float(_share(SKILL_ODDS + SKILL_TEMPER * ratio)),
        drift=drift(posterior),
        picks=picks,
        turns=rng.permutation((np.arange(PATHS) + 0.5) / PATHS),
        shocks=rng.standard_t(TAIL, PATHS) * (Z90 / student_t.ppf(0.95, TAIL)),
    )


def _share(odds: ArrayLike) -> Floats:
    return 1 / (1 + np.exp(-np.clip(odds, -500, 500)))


def log_ratio(posterior: Posterior) -> float:
    """Log-density of past continuations by the posterior view over that by the guarded view.

    An origin counts by the mean over the points after it.
    """
    total = 0.0
    offset = _offset(posterior.series)
    for origin in posterior.origins:
        seen, own = np.log(origin.seen + offset), np.log(origin.mean + offset)
        variance = (origin.variance + origin.noise) / (origin.mean + offset) ** 2
        wider = variance + (USUAL_DRIFT * np.maximum(origin.folds, NEAR) ** GROWTH) ** 2
        gaps = log_density(seen - own, variance) - log_density(seen - _guarded_at(posterior, origin), wider)
        total += float(np.mean(gaps))
    return total


def refutation(posterior: Posterior) -> float:
    """Log of how improbable the points' distances to the best-fitting form are, by their counts; 0 within chance.

    The chi-square test of Pearson's statistic. Where points scatter by far more than counts allow, as answers to
    few kinds of question do, every form would take their noise for shape.
    """
    series = posterior.series
    used = series.inside & (np.arange(len(series.compute)) >= posterior.cut)
    levels = posterior.best(series.folds[used])
    squares = (series.size[used] * (series.level[used] - levels) ** 2 / (levels * (1 - levels))).sum(1)
    degrees = [max(int(used.sum()) - fit.theta.size, 1) for fit in posterior.fits]
    return min(0.0, float(np.max(chi2.logsf(squares, degrees)) - np.log(CHANCE)))


def drift(posterior: Posterior) -> float:
    """τ, from how far guarded forecasts from the curve's past were off beyond the noise of what came."""
    usual = USUAL_DRIFT**2
    excess, weight = usual, 1.0
    offset = _offset(posterior.series)
    for origin in posterior.origins:
        reach = np.maximum(origin.folds, NEAR) ** (2 * GROWTH)
        gap = np.log(origin.seen + offset) - _guarded_at(posterior, origin)
        noise = float(np.mean(origin.noise / (origin.mean + offset) ** 2 / reach))
        tells = (usual / (usual + noise)) ** 2
        excess += tells * (float(np.mean(np.minimum(gap**2 / reach, 1.0))) - noise)
        weight += tells
    return float(np.sqrt(max(excess, 0.0) / weight))


def guarded_mean(posterior: Posterior, folds: Floats) -> Floats:
    """[X] g of the guarded view at e-folds from the last point."""
    best = posterior.best(np.append(np.maximum(folds, 0.0), 0.0))
    return _guarded(posterior, len(posterior.series.compute), folds, best[:, -1], best[:, :-1])


def _guarded_at(posterior: Posterior, origin: Origin) -> Floats:
    return _guarded(posterior, origin.points, origin.folds, origin.levels[:, 0], origin.levels[:, 1:])


def _guarded(posterior: Posterior, points: int, folds: Floats, now: Floats, ahead: Floats) -> Floats:
    """The guarded mean from the first points of a curve; now [F], ahead [F, X]: the forms' levels."""
    series = posterior.series
    inside = series.inside[:points]
    logs = np.log(np.maximum(series.level[:points][inside], 0.005))
    u = (series.folds[:points] - series.folds[points - 1])[inside]
    level, noise, slope = float(logs[-3:].mean()), _noise(series, points), _trend(u, logs, 0.5)[0]
    reach = np.maximum(folds, 0.0)
    low, high = np.minimum(GUARD * slope * reach, 0) - 2 * noise, np.maximum(GUARD * slope * reach, 0) + 2 * noise
    total, weight = np.zeros(len(folds)), 0.0
    for fit, start, values in zip(posterior.fits, np.log(now), np.log(ahead), strict=True):
        if fit.curve is not LOG_LINEAR:
            total += (start + level) / 2 + np.clip(values - start, low, high)
            weight += 1.0
    for window in WINDOWS:
        slope, fitted = _trend(u, logs, window)
        total += TREND_WEIGHT * ((fitted + level) / 2 + DAMPING * slope * reach)
        weight += TREND_WEIGHT
    return _g(series, np.exp(total / weight))


def trend_variance(series: Series, folds: Floats) -> Floats:
    """[X] variance of g by what noise does to a damped recent trend: ordinary least squares."""
    u = series.folds[series.inside]
    used = _recent(u, 0.5)
    centred = u[used] - u[used].mean()
    reach = DAMPING * np.maximum(folds, 0.0) - u[used].mean()
    spread = _noise(series, len(series.compute)) ** 2 * (1 / used.sum() + reach**2 / (centred @ centred))
    level = float(series.level[-3:].mean())
    return spread * (level / (level + _offset(series))) ** 2


def _trend(u: Floats, logs: Floats, window: float) -> tuple[float, float]:
    """Slope an e-fold and level at the end of a line through the last share of the log range, four points at
    the least."""
    used = _recent(u, window)
    slope, level = np.polyfit(u[used], logs[used], 1)
    return float(slope), float(level)


def _recent(u: Floats, window: float) -> np.ndarray:
    used = u >= u[0] * window
    return used if used.sum() >= 4 else np.arange(len(u)) >= len(u) - 4


def _noise(series: Series, points: int) -> float:
    """Standard deviation of a point's log-level."""
    if not series.counted:
        return relative_noise(series.compute[:points], series.level[:points])
    return series.relative_noise


def _offset(series: Series) -> float:
    return LOSS_OFFSET if series.metric == "loss" else OFFSET


def _g(series: Series, level: Floats) -> Floats:
    return np.log(level + _offset(series))
