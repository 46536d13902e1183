"""What a curve's own points say of every form: fits, weights, bootstrap replicates and past forecasts.

Every form is fitted from several starts to all points, to the points after each candidate for a beginning of
the regime that goes on, to the past of rolling origins, and to bootstrap replicates, for any number of curves
at once: they are all rows of `analysis.search`.

A replicate redraws the data (`series.redrawn`) and the centre of the weak prior (randomised maximum a posteriori,
Bardsley et al. 2014, SIAM J. Sci. Comput. 36): without the second, replicates would all agree on a ceiling that
no datum speaks about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Floats
from analysis.curves import CURVES, FAR_LEFT, Curve, Shape
from analysis.search import levels, search, search_from
from analysis.series import MIN_POINTS, FitError, Series, flip_variance, redrawn
from scaling.quantities import how_many

REPLICATES = 250
"""Of each form."""
WIDTHS = (32, 64, 128, 256, 512, 1024)
"""Points are padded to one of these, so that curves of any length share a compiled search."""
BACK = (1.3, 1.6, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 32.0)
"""Rolling origins lie at the last compute over these; those without `MIN_POINTS` before them are left out."""
CUTS = (0.0, 1 / 3, 1 / 2)
"""Candidates for the share of the log range that belongs to an earlier regime."""
KEPT = 6
"""Points at the least that a cut leaves."""
DROP = 2.5
"""Log-evidence that each point left out costs: a free level of its own."""
TEMPER = 0.5
"""Evidence counts by half: forms share their errors, so points are not independent witnesses between them."""
SKILL = 1.0
"""Independent continuations that all rolling origins together are worth."""
NO_EVIDENCE = -1e12
"""Where a form's curvature is beyond numbers."""
LEAST_PROMISE = 0.02
"""Converged: a full step promises less gain of log-posterior than this."""
SAME_LOSS = 0.1
"""Starts agree where their log-posteriors differ by less."""


@dataclass(frozen=True)
class Origin:
    """Forecasts from a curve's past, and what came: Q points after the origin, F forms."""

    points: int
    """Points up to the origin, those before the first included."""
    folds: Floats
    """[Q] e-folds of compute past the origin."""
    weights: Floats
    """[F] of the forms, by their evidence at the origin."""
    levels: Floats
    """[F, 1 + Q] every form's level at the origin and its forecasts."""
    variances: Floats
    """[F, Q] of the forecasts (Laplace)."""
    seen: Floats
    """[Q] what came."""
    noise: Floats
    """[Q] variance of what came about its level."""

    @property
    def mean(self) -> Floats:
        """[Q] forecast of the weighted forms."""
        return self.weights @ self.levels[:, 1:]

    @property
    def variance(self) -> Floats:
        """[Q] of that forecast, within and between forms."""
        return self.weights @ (self.variances + (self.levels[:, 1:] - self.mean) ** 2)


@dataclass(frozen=True)
class FormFit:
    """One form fitted to one curve."""

    curve: Curve
    theta: Floats
    """[K] best parameters, as the form uses them."""
    parameters: dict[str, float]
    """As the formula has them, in the metric's and the compute's own units."""
    weight: float
    evidence: float
    """Laplace's approximation of the log-evidence, 0 for a form that met every point without a parameter."""
    skill: float | None
    """Mean log-density of continuations past rolling origins; None where there are too few points."""
    converged: bool
    starts_agreeing: float
    """Share of the starts that end at the best one's log-posterior."""
    replicates: Floats
    """[R, K] bootstrap replicates of theta."""


@dataclass(frozen=True)
class Posterior:
    """All forms fitted to one curve, weighted by evidence and by skill."""

    series: Series
    fits: tuple[FormFit, ...]
    cut: int
    """Points at the left that belong to another regime and are left out."""
    cut_evidence: float
    """Log-evidence that leaving them out gains, its price paid."""
    origins: tuple[Origin, ...]

    @property
    def weights(self) -> Floats:
        """[F] of the forms, summing to 1."""
        return np.array([fit.weight for fit in self.fits])

    def levels(self, folds: Floats) -> Floats:
        """Level of all replicates of all forms at e-folds of compute from the last point: [X] → [F, R, X]."""
        return np.stack([levels(fit.curve, fit.replicates, np.maximum(folds, FAR_LEFT)) for fit in self.fits])

    def best(self, folds: Floats) -> Floats:
        """Level of every form's best fit: [X] → [F, X]."""
        return np.stack([levels(fit.curve, fit.theta[None], np.maximum(folds, FAR_LEFT))[0] for fit in self.fits])


@dataclass(frozen=True)
class _Row:
    """Points `cut` to `points` of a curve: what one search sees."""

    series: int
    cut: int
    points: int


def origins(series: Series) -> list[int]:
    """Numbers of points before each rolling origin, falling."""
    folds, inside = series.folds, series.inside
    first = int((~inside).sum())
    found = []
    for ratio in BACK:
        points = int((folds <= -np.log(ratio) + 1e-9).sum())
        if points - first >= MIN_POINTS and points < len(folds) and points not in found:
            found.append(points)
    return found


def cuts(series: Series, points: int) -> list[int]:
    """Candidates for the number of points at the left that belong to an earlier regime, 0 first."""
    folds = series.folds[:points] - series.folds[points - 1]
    first = int((~series.inside).sum())
    found = [0]
    for share in CUTS[1:]:
        cut = int((folds < folds[first] * (1 - share)).sum())
        if cut > max(first, found[-1]) and points - cut >= KEPT:
            found.append(cut)
    return found


def too_few(usable: int) -> str:
    """Why so many points with compute are not fitted."""
    return f"{how_many(usable, 'point')} with compute; a fit needs {MIN_POINTS}"


def posteriors(
    series: Sequence[Series], replicates: int = REPLICATES, seed: int = 0, curves: Sequence[Curve] = CURVES
) -> list[Posterior]:
    """Every form fitted to every curve. Raises FitError where one has fewer than `MIN_POINTS` with compute."""
    for s in series:
        if (usable := int(s.inside.sum())) < MIN_POINTS:
            raise FitError(f"{s.name}: {too_few(usable)}")
    rows = [_Row(i, cut, points) for i, s in enumerate(series) for points in [len(s.compute), *origins(s)]
            for cut in cuts(s, points)]  # fmt: skip
    width = _width(series)
    tried = [_Tried.of(curve, series, rows, width) for curve in curves]
    total = np.logaddexp.reduce([t.evidence for t in tried])
    chosen: dict[tuple[int, int], int] = {}  # (curve, points) → row whose cut has the most evidence
    for index, row in enumerate(rows):
        key = row.series, row.points
        if key not in chosen or total[index] > total[chosen[key]]:
            chosen[key] = index
    whole = [chosen[i, len(s.compute)] for i, s in enumerate(series)]
    draws = _replicates(series, tried, rows, whole, replicates, seed, width)
    found = []
    for i, s in enumerate(series):
        past = [chosen[i, points] for points in origins(s)]
        uncut = rows.index(_Row(i, 0, len(s.compute)))
        skills = _skills(s, tried, rows, past)
        weights = _weights(np.array([t.evidence[whole[i]] for t in tried]), skills)
        found.append(
            Posterior(
                series=s,
                fits=tuple(
                    _fit(s, t, whole[i], float(w), None if skills is None else float(skills[f]), draws[f][i])
                    for f, (t, w) in enumerate(zip(tried, weights, strict=True))
                ),
                cut=rows[whole[i]].cut,
                cut_evidence=float(total[whole[i]] - total[uncut]),
                origins=tuple(_origin(s, tried, rows[j], j) for j in past),
            )
        )
    return found


def _width(series: Sequence[Series]) -> int:
    most = max(len(s.compute) for s in series)
    return next(w for w in WIDTHS if w >= most) if most <= WIDTHS[-1] else most


@dataclass(frozen=True)
class _Tried:
    """One form, searched from every start on every row."""

    curve: Curve
    theta: Floats
    """[N, K] of the best start."""
    promise: Floats
    agreeing: Floats
    evidence: Floats
    level: Floats
    """[N, C]"""
    variance: Floats
    mean: Floats
    """[N, K] of the prior."""
    sd: Floats

    @staticmethod
    def of(curve: Curve, series: Sequence[Series], rows: Sequence[_Row], width: int) -> _Tried:
        u, e, size, dropped, shape = _data(curve, series, rows, width)
        mean, sd = curve.prior(shape)
        start = curve.starts(shape)
        found, loss = search_from(curve, u, e, size, mean, sd, start)
        evidence = -found.loss - found.log_determinant / 2 - DROP * dropped
        return _Tried(
            curve=curve,
            theta=found.theta,
            promise=found.promise,
            agreeing=(loss < loss.min(1, keepdims=True) + SAME_LOSS).mean(1),
            evidence=np.nan_to_num(evidence, nan=NO_EVIDENCE),
            level=found.level,
            variance=np.minimum(np.nan_to_num(found.variance, nan=1.0), 1.0),
            mean=mean,
            sd=sd,
        )


def _data(
    curve: Curve, series: Sequence[Series], rows: Sequence[_Row], width: int
) -> tuple[Floats, Floats, Floats, Floats, Shape]:
    """u, e, size [N, C] of every row, the points [N] that the form leaves out, and what its prior needs."""
    u, e, size = np.zeros((len(rows), width)), np.full((len(rows), width), 0.5), np.zeros((len(rows), width))
    dropped, first, last, span = (np.zeros(len(rows)) for _ in range(4))
    for j, row in enumerate(rows):
        s = series[row.series]
        count = len(s.compute)
        folds = s.folds - s.folds[row.points - 1]
        used = np.arange(count) < row.points
        used[: row.cut] = False
        if not curve.at_zero:
            used &= s.inside
        u[j, :count], e[j, :count] = np.maximum(folds, FAR_LEFT), s.level
        size[j, :count] = np.where(used, s.size, 0.0)
        dropped[j] = row.points - used.sum()
        kept = np.flatnonzero(used & s.inside)
        first[j] = s.level[kept[: max(1, min(3, len(kept) // 4))]].mean()
        last[j] = s.level[kept[-3:]].mean()
        span[j] = max(1.0, -folds[kept[0]])
    return u, e, size, dropped, Shape(first, last, span)


def _replicates(
    series: Sequence[Series], tried: Sequence[_Tried], rows: Sequence[_Row], whole: Sequence[int],
    replicates: int, seed: int, width: int,
) -> list[list[Floats]]:  # fmt: skip
    """[F][S] θ [R, K]: every form on every curve's redrawn data, from its best fit, around a redrawn centre."""
    drawn = [redrawn(s, replicates, np.random.default_rng([seed, len(s.compute)])) for s in series]
    out: list[list[Floats]] = []
    for t in tried:
        u, _, size, _, _ = _data(t.curve, series, [rows[j] for j in whole], width)
        problems = []
        for i, (j, (levels_, sizes)) in enumerate(zip(whole, drawn, strict=True)):
            count = len(series[i].compute)
            rng = np.random.default_rng([seed, count, len(t.mean[j])])
            centre = t.mean[j] + t.sd[j] * rng.standard_normal((replicates, len(t.mean[j])))
            pad = ((0, 0), (0, width - count))
            weight = np.pad(np.where(size[i, :count] > 0, sizes, 0.0), pad)
            many = [np.repeat(a[None], replicates, 0) for a in (u[i], t.sd[j], t.theta[j])]
            problems.append((many[0], np.pad(levels_, pad), weight, centre, many[1], many[2]))
        theta = search(t.curve, *(np.concatenate(column) for column in zip(*problems, strict=True))).theta
        out.append(np.split(theta, len(series)))
    return out


def _skills(series: Series, tried: Sequence[_Tried], rows: Sequence[_Row], past: Sequence[int]) -> Floats | None:
    """[F] mean over origins of the mean log-density of the points after each, as every form forecast them."""
    if not past:
        return None
    scores = np.zeros(len(tried))
    for j in past:
        after = slice(rows[j].points, len(series.compute))
        noise = flip_variance(series.level, series.size)[after]
        for f, t in enumerate(tried):
            variance = t.variance[j, after] + noise
            gap = series.level[after] - t.level[j, after]
            scores[f] += np.mean(log_density(gap, variance)) / len(past)
    return scores


def log_density(gap: Floats, variance: Floats) -> Floats:
    """Of what came, this far off a forecast of this variance, but for a constant.

    Student's t with 4 degrees: one wild forecast tells no more than that it was wild.
    """
    return -2.5 * np.log1p(gap**2 / variance / 4) - 0.5 * np.log(variance)


def _weights(evidence: Floats, skills: Floats | None) -> Floats:
    logs = TEMPER * evidence + (0.0 if skills is None else SKILL * skills)
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def _fit(series: Series, t: _Tried, row: int, weight: float, skill: float | None, replicates: Floats) -> FormFit:
    last = float(np.log(series.compute[-1]))
    natural = t.curve.natural(t.theta[row], last, series.offset, series.factor)
    return FormFit(
        curve=t.curve,
        theta=t.theta[row],
        parameters=dict(zip(t.curve.parameters, map(float, natural), strict=True)),
        weight=weight,
        evidence=float(t.evidence[row]),
        skill=skill,
        converged=bool(t.promise[row] < LEAST_PROMISE),
        starts_agreeing=float(t.agreeing[row]),
        replicates=replicates,
    )


def _origin(series: Series, tried: Sequence[_Tried], row: _Row, index: int) -> Origin:
    after = slice(row.points, len(series.compute))
    return Origin(
        points=row.points,
        folds=series.folds[after] - series.folds[row.points - 1],
        weights=_weights(np.array([t.evidence[index] for t in tried]), None),
        levels=np.stack([t.level[index, row.points - 1 : len(series.compute)] for t in tried]),
        variances=np.stack([t.variance[index, after] for t in tried]),
        seen=series.level[after],
        noise=flip_variance(series.level, series.size)[after],
    )


def chunks(series: Sequence[Series], size: int) -> Iterator[list[int]]:
    """Indexes of curves of like length, `size` at a time: rows are padded to the longest of a call."""
    order = sorted(range(len(series)), key=lambda i: len(series[i].compute))
    for at in range(0, len(order), size):
        yield order[at : at + size]
