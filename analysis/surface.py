"""Accuracy as one surface over train and test compute.

A form is R = A·(ρ + (1 − ρ)·link(b + Σ_j s_j φ_j)): a sigmoid between two levels, as ScaleRL's (arXiv 2510.13786),
in the logarithms of both computes, or a straight line with no ceiling in sight. The φ_j are the extreme rays of a
cone of functions that rise along both axes over the whole range on which the surface is stated, and s_j > 0. So
every fit, replicate and average of them is monotone there, and lines of equal accuracy exist. Several forms,
because none can be trusted alone to reach past the data: one lets either compute change what the other is worth,
one lets each have its own curvature besides, one has no ceiling. They are pooled by how well each predicted points
of more compute that were held out from it.

Each replicate redraws the problems (the same at every point), adds the scatter of checkpoints and what the forms
cannot follow (as if it were scatter of points, which counts for something but not for all), and redraws the centre
of the weak prior (randomised maximum a posteriori, Bardsley et al. 2014, SIAM J. Sci. Comput. 36). Past the data
an interval says how far the forms and replicates disagree, which is not a promise that it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import Floats
from analysis.estimators import effective_size
from analysis.series import FitError, counted_variance, scatter, smoothed, spread

REACH = 1.0
"""Decades past the data, on each side of each axis, on which the surface is stated: 10×."""
REPLICATES = 200
MIN_POINTS = 8
HELD_OUT = (1 / 6, 1 / 3, 1 / 2)
"""Shares of the points, those of most compute on an axis, that the forms must predict from the others."""
STEPS = 100
"""Of Fisher scoring, at most; twenty are usual."""
FLAT_GRADIENT = 0.02
"""Converged: no parameter, moved by its prior deviation, would gain this much log-likelihood (linearly)."""


@dataclass(frozen=True)
class Points:
    """Measured accuracies. Raises FitError where shapes differ or a number is outside its range."""

    train: Floats
    """[M] FLOPs above 0."""
    test: Floats
    """[M] FLOPs per problem above 0."""
    accuracy: Floats
    """[M] in [0, 1]."""
    n: Floats
    """[M] coin flips that each accuracy is worth: items answered once, or the effective size."""
    values: Floats | None = None
    """[M, P] every problem's own estimate, the same problems at every point; None where not at hand."""

    def __post_init__(self) -> None:
        shapes = {np.shape(a) for a in (self.train, self.test, self.accuracy, self.n)}
        if len(shapes) != 1 or len(shapes.pop()) != 1:
            raise FitError("train, test, accuracy and n must be one number a point each")
        if not all(np.all((a > 0) & np.isfinite(a)) for a in (self.train, self.test, self.n)):
            raise FitError("train, test and n must be finite and above 0: a logarithm has no place for no compute")
        if not np.all((self.accuracy >= 0) & (self.accuracy <= 1)):
            raise FitError("accuracy must lie between 0 and 1")
        if self.values is not None and (self.values.ndim != 2 or len(self.values) != len(self.train)):
            raise FitError(f"values must be [{len(self.train)}, problems], not {list(self.values.shape)}")

    @classmethod
    def from_estimates(cls, frame: pl.DataFrame) -> Points:
        """Of `analysis.load.estimates`, filtered to one estimator. Raises FitError for none or several."""
        if frame["estimator"].n_unique() > 1:
            raise FitError(f"one estimator at a time, not {', '.join(sorted(frame['estimator'].unique()))}")
        if frame["values"].list.len().n_unique() > 1:
            raise FitError("points differ in their number of problems; the same ones must stand at every point")
        if frame.is_empty():
            raise FitError(f"0 points; a surface needs {MIN_POINTS}")
        values = np.array(frame["values"].to_list(), dtype=np.float64).reshape(len(frame), -1)
        sizes = [effective_size(v, d) for v, d in zip(values, frame["draws"], strict=True)]
        train, test = (frame[name].to_numpy() for name in ("train_flops", "test_flops"))
        return cls(train, test, frame["accuracy"].to_numpy(), np.array(sizes), values)


@dataclass(frozen=True)
class Form:
    """One way for accuracy to depend on both computes."""

    name: str
    formula: str
    basis: Callable[[Floats, Floats, float, float], Floats]
    """(U, V [X] in [0, 1] across the stated range, its decades along U, along V) → rising functions [X, J].

    Scaled so that a coefficient is a slope in logits a decade (in accuracy, a quarter of that, where straight).
    """
    levels: bool = True
    """Whether it is a sigmoid between levels ρ·A and A; else a straight line within [0, 1]."""


def _interaction(u: Floats, v: Floats, wide: float, tall: float) -> Floats:
    # Every bilinear function that rises along both axes of the unit square is a positive sum of these.
    both = (wide + tall) / 2
    return np.stack([wide * u, tall * v, both * u * v, both * (u + v - u * v)], -1)


def _curvature(u: Floats, v: Floats, wide: float, tall: float) -> Floats:
    # Every quadratic that rises on [0, 1], along each axis: its slope at either end is not negative.
    bent = np.stack([s * f for s, x in ((wide, u), (tall, v)) for f in (x * (1 - x / 2), x * x / 2)], -1)
    return np.concatenate([bent, _interaction(u, v, wide, tall)[..., 2:]], -1)


FORMS = (
    Form("interaction", "R = R0 + (A − R0)·σ(b + b1·u + b2·v + b3·u·v)", _interaction),
    Form("curvature", "R = R0 + (A − R0)·σ(b + b1·u + c1·u² + b2·v + c2·v² + b3·u·v)", _curvature),
    Form("log-linear", "R = b + b1·u + b2·v + b3·u·v, within [0, 1]", _interaction, levels=False),
)
END = 1e-3
"""The straight form stays this far from 0 and 1, where a single other outcome would be impossible."""
BEND = 50.0
"""It bends there within about 1/BEND of accuracy: a kink would be a minimum without a flat gradient."""
PRIOR_MEAN = (-1.5, 0.5, 0.0, -1.0)
PRIOR_DEVIATION = (1.5, 1.7, 2.0, 2.0)
"""θ: logit of ρ, the lower level over the upper; logit of the upper level A, nearly uniform on [0, 1]; logit b
in the middle of the data; inverse softplus of every slope, which lies between .01 and 3 logits a decade at
two deviations."""


@dataclass(frozen=True)
class Surface:
    """Accuracy over train × test compute, within `REACH` decades of the data; NaN elsewhere."""

    low: tuple[float, float]
    """Least train, test compute of the data, log10 FLOPs."""
    high: tuple[float, float]
    thetas: tuple[Floats, ...]
    """[K] best parameters of each form of `FORMS`."""
    weights: tuple[float, ...]
    """Of each form, by held-out error; equal where none could be held out."""
    converged: tuple[bool, ...]
    replicates: tuple[Floats, ...]
    """[R, K] bootstrap replicates of each form; each time one form is used, as often as its weight says."""
    scatter: float
    """Standard deviation of a checkpoint about a smooth curve, beyond what problems explain, at accuracy ½."""
    misfit: float
    """Standard deviation of points about the form that follows them best, beyond problems and scatter."""

    def best(self, train: ArrayLike, test: ArrayLike) -> Floats:
        """Accuracy of the best fits, averaged by weight: FLOPs, broadcast to [...] → [...]."""
        place, outside = _place(self.low, self.high, train, test)
        found = [_accuracy(f, t[None], _basis(f, *place))[0] for f, t in zip(FORMS, self.thetas, strict=True)]
        return np.where(outside, np.nan, (np.asarray(self.weights) @ np.stack(found)).reshape(outside.shape))

    def predict(self, train: ArrayLike, test: ArrayLike) -> Floats:
        """Accuracy of each replicate: FLOPs, broadcast to [X] (flattened) → [R, X]."""
        place, outside = _place(self.low, self.high, train, test)
        count = len(self.replicates[0])
        used = np.searchsorted(np.cumsum(self.weights)[:-1], (np.arange(count) + 0.5) / count)
        out = np.empty((count, outside.size))
        for i, form in enumerate(FORMS):
            out[used == i] = _accuracy(form, self.replicates[i][used == i], _basis(form, *place))
        return np.where(outside.reshape(-1), np.nan, out)

    def iso(self, levels: ArrayLike, test: ArrayLike) -> Floats:
        """Train compute of the best surface at accuracies [L] and test computes [X], FLOPs → FLOPs [L, X].

        NaN where it would lie outside the stated range.
        """
        level, test = np.asarray(levels, dtype=np.float64)[:, None], np.asarray(test, dtype=np.float64)[None]
        low = np.full(np.broadcast_shapes(level.shape, test.shape), self.low[0] - REACH)
        high = np.full_like(low, self.high[0] + REACH)
        reached = (self.best(10**low, test) <= level) & (self.best(10**high, test) >= level)
        for _ in range(50):  # bisection: a range of 10 decades to 1e-14
            middle = (low + high) / 2
            under = self.best(10**middle, test) < level
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        return np.where(reached, 10 ** ((low + high) / 2), np.nan)

    def reach(self) -> tuple[Floats, Floats]:
        """Least and greatest (train, test) compute at which the surface is stated, FLOPs [2], [2]."""
        return 10 ** (np.array(self.low) - REACH), 10 ** (np.array(self.high) + REACH)


Place = tuple[Floats, Floats, float, float]
"""U, V [X] in [0, 1] across the stated range; its decades along U, along V."""


def _place(
    low: tuple[float, float], high: tuple[float, float], train: ArrayLike, test: ArrayLike
) -> tuple[Place, NDArray[np.bool_]]:
    """FLOPs, broadcast to [...], as places in the stated range [X]; and which lie outside it [...]."""
    logs = np.stack(np.broadcast_arrays(np.log10(np.asarray(train, float)), np.log10(np.asarray(test, float))))
    wide, tall = np.subtract(high, low) + 2 * REACH
    start = np.array(low)[:, None] - REACH
    unit = (logs.reshape(2, -1) - start) / np.array([[wide], [tall]])
    outside = np.any((unit < -1e-9) | (unit > 1 + 1e-9), axis=0)
    u, v = np.clip(unit, 0, 1)
    return (u, v, float(wide), float(tall)), outside.reshape(logs.shape[1:])


def _basis(form: Form, u: Floats, v: Floats, wide: float, tall: float) -> Floats:
    """The form's rising functions, 0 in the middle of the data: [X, J]."""
    middle = np.array([0.5])
    return form.basis(u, v, wide, tall) - form.basis(middle, middle, wide, tall)


def surface(points: Points, seed: int = 0, replicates: int = REPLICATES) -> Surface:
    """Fit the surface. Raises FitError below `MIN_POINTS` points or where an axis has a single compute."""
    if len(points.train) < MIN_POINTS:
        raise FitError(f"{len(points.train)} points; a surface needs {MIN_POINTS}")
    logs = np.log10(np.stack([points.train, points.test]))
    low, high = logs.min(1), logs.max(1)
    for axis, span in zip(("train", "test"), high - low, strict=True):
        if span < 1e-6:
            raise FitError(f"all points have the same {axis} compute; a surface needs several")
    rng = np.random.default_rng(seed)
    extra = _scatter(points)
    p = smoothed(points.accuracy, points.n)
    noise = p * (1 - p) / points.n + spread(p, extra) ** 2
    kept = np.array([np.ones(len(p), bool), *_folds(logs)])
    ends = (float(low[0]), float(low[1])), (float(high[0]), float(high[1]))
    place, _ = _place(*ends, points.train, points.test)
    bases, starts = [_basis(form, *place) for form in FORMS], _starts(points.accuracy)
    once = np.zeros(1)
    gaps = []
    for form, basis in zip(FORMS, bases, strict=True):
        theta, _ = _fit(form, basis, points.accuracy[None], (p * (1 - p) / noise)[None], once, starts)
        gaps.append(float(np.mean((_accuracy(form, theta, basis)[0] - points.accuracy) ** 2 - noise)))
    misfit = float(np.sqrt(max(0.0, min(gaps))))
    noise = noise + misfit**2
    redrawn = _redraw(points, extra, misfit, replicates, rng)
    data = np.concatenate([np.tile(points.accuracy, (len(kept), 1)), redrawn])
    weight = p * (1 - p) / noise * np.concatenate([kept, np.ones((replicates, len(p)), bool)])
    thetas, errors, flat, bootstrap = [], [], [], []
    for form, basis in zip(FORMS, bases, strict=True):
        shift = np.zeros((len(data), 3 + basis.shape[1]))
        shift[len(kept) :] = rng.standard_normal((replicates, shift.shape[1]))
        theta, slope = _fit(form, basis, data, weight, shift, starts)
        miss = (_accuracy(form, theta[1 : len(kept)], basis) - points.accuracy) ** 2
        errors.append([float(m[~k].mean()) for m, k in zip(miss, kept[1:], strict=True)])
        thetas.append(theta[0])
        flat.append(bool(slope[0] < FLAT_GRADIENT))
        bootstrap.append(theta[len(kept) :])
    # The likelihood of Gaussian errors whose scale is not known, as for curves.
    score = np.array([-len(e) / 2 * np.log(np.mean(e) + noise.mean()) if e else 0.0 for e in errors])
    weights = np.exp(score - score.max())
    return Surface(
        low=ends[0],
        high=ends[1],
        thetas=tuple(thetas),
        weights=tuple((weights / weights.sum()).tolist()),
        converged=tuple(flat),
        replicates=tuple(bootstrap),
        scatter=extra,
        misfit=misfit,
    )


def _scatter(points: Points) -> float:
    """Standard deviation at an accuracy of ½ of checkpoints about a smooth curve, from their mean over the test
    settings.

    0 where the points are no grid (as many test settings, at least 2, at every train compute).
    """
    train, which, count = np.unique(points.train, return_inverse=True, return_counts=True)
    if count.min() != count.max() or count[0] < 2:
        return 0.0
    order = np.argsort(which, kind="stable").reshape(len(train), -1)
    values = None if points.values is None else points.values[order].mean(1)
    p, n = points.accuracy[order], points.n[order]
    return scatter(train, p.mean(1), counted_variance(p, n).mean(1) / count[0], values)


def _redraw(points: Points, extra: float, misfit: float, replicates: int, rng: np.random.Generator) -> Floats:
    """[R, M] accuracies of redrawn problems, each checkpoint shifted by `extra`, each point by `misfit`."""
    if points.values is None:
        items = np.maximum(1, np.round(points.n)).astype(np.int64)
        drawn = rng.binomial(items, points.accuracy, size=(replicates, len(items))) / items
    else:
        problems = points.values.shape[1]
        shares = rng.multinomial(problems, np.full(problems, 1 / problems), size=replicates) / problems
        drawn = shares @ points.values.T
    train, which = np.unique(points.train, return_inverse=True)
    drawn = drawn + spread(points.accuracy, extra) * rng.standard_normal((replicates, len(train)))[:, which]
    return np.clip(drawn + misfit * rng.standard_normal(drawn.shape), 0.0, 1.0)


def _folds(logs: Floats) -> list[NDArray[np.bool_]]:
    """Which points [M] stay when those of most compute are held out, along each axis in turn; logs [2, M]."""
    folds = []
    for x in logs:
        for share in HELD_OUT:
            kept = x <= np.quantile(x, 1 - share, method="lower")
            if not kept.all() and np.ptp(x[kept]) > 0:
                folds.append(kept)
    return folds


def _starts(accuracy: Floats) -> Floats:
    """θ [S, 4], the last for every slope: nearly a logistic line; levels at the data's ends, steep; between."""
    least, most = np.clip([accuracy.min() / max(accuracy.max(), 1e-3), accuracy.max()], 0.05, 0.95)
    mean = np.clip(accuracy.mean(), 0.05, 0.95)
    low, top, level = (np.log(p / (1 - p)) for p in (least, most, mean))
    return np.array([[-3, 3, level, -1], [low, top, 0, 1], [low, top + 1, level, 0]])


def _each(values: ArrayLike, slopes: int) -> Floats:
    """[..., 4], the last for every slope, → [..., 3 + slopes]."""
    values = np.asarray(values, dtype=np.float64)
    return np.concatenate([values[..., :3], np.repeat(values[..., 3:], slopes, -1)], -1)


def _sigmoid(x: Floats) -> Floats:
    return (1 + np.tanh(x / 2)) / 2


def _accuracy(form: Form, theta: Floats, basis: Floats) -> Floats:
    """θ [R, K], φ [X, J] → accuracy [R, X]."""
    lower, upper, inner, _ = _parts(form, theta, basis)
    return upper * (lower + (1 - lower) * inner)


def _parts(form: Form, theta: Floats, basis: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """ρ [R, 1], A [R, 1], the link [R, X] and its slope [R, X]."""
    x = theta[:, 2:3] + np.logaddexp(0, theta[:, 3:]) @ basis.T
    if form.levels:
        inner = _sigmoid(x)
        return _sigmoid(theta[:, :1]), _sigmoid(theta[:, 1:2]), inner, inner * (1 - inner)
    x = 0.5 + x / 4  # the sigmoid's tangent, so that both have the same prior
    inner = END + (1 - 2 * END) * (np.logaddexp(0, BEND * x) - np.logaddexp(0, BEND * (x - 1))) / BEND
    steep = (1 - 2 * END) / 8 * (np.tanh(BEND * x / 2) - np.tanh(BEND * (x - 1) / 2))
    return np.zeros((len(theta), 1)), np.ones((len(theta), 1)), inner, steep


def _fit(
    form: Form, basis: Floats, y: Floats, size: Floats, shift: Floats, starts: Floats
) -> tuple[Floats, Floats]:
    """Greatest posterior of every row from every start, by Fisher scoring with Levenberg's damping.

    basis [M, J], y and size (0 leaves a point out) [B, M], shift of the prior in its deviations [B, K], starts as
    `_starts` gives them [S, 4] → θ [B, K], largest slope of the log-posterior in prior deviations [B]. Batched
    NumPy: needs no compilation.
    """
    rows = np.repeat(np.arange(len(y)), len(starts))
    mean, deviation = (_each(a, basis.shape[1]) for a in (PRIOR_MEAN, PRIOR_DEVIATION))
    centre, precision = np.broadcast_to(mean + deviation * shift, (len(y), len(mean))), deviation**-2
    theta = np.tile(_each(starts, basis.shape[1]), (len(y), 1))
    damping, slope = np.full(len(rows), 1e-2), np.full(len(rows), np.inf)

    def loss(theta: Floats, row: NDArray) -> Floats:
        p = np.clip(_accuracy(form, theta, basis), 1e-9, 1 - 1e-9)
        likelihood = (size[row] * (y[row] * np.log(p) + (1 - y[row]) * np.log1p(-p))).sum(1)
        return 0.5 * (precision * (theta - centre[row]) ** 2).sum(1) - likelihood

    value = loss(theta, rows)
    active = np.arange(len(rows))
    for _ in range(STEPS):
        now, row = theta[active], rows[active]
        lower, upper, inner, steep = _parts(form, now, basis)
        p = np.clip(upper * (lower + (1 - lower) * inner), 1e-9, 1 - 1e-9)
        rise = upper * (1 - lower) * steep
        levels = [upper * lower * (1 - lower) * (1 - inner), p * (1 - upper), rise]
        slopes = rise[..., None] * basis * _sigmoid(now[:, None, 3:])
        jacobian = np.concatenate([np.stack(levels, -1), slopes], -1)
        scaled = jacobian * (size[row] / (p * (1 - p)))[..., None]
        pull = -np.einsum("rmk,rm->rk", scaled, y[row] - p)
        gradient = pull + precision * (now - centre[row])
        slope[active] = np.abs(gradient * deviation).max(1)
        hessian = scaled.swapaxes(1, 2) @ jacobian
        # Data that want a slope below 0 push its θ ever further left; without the curvature of the softplus there,
        # which Fisher's information leaves out, steps overshoot.
        bend = precision + (np.arange(len(precision)) > 2) * np.maximum(pull * _sigmoid(-now), 0.0)
        bend += damping[active, None] * np.diagonal(hessian, 0, 1, 2)
        hessian += bend[..., None] * np.eye(len(precision))
        tried = now - np.linalg.solve(hessian, gradient[..., None])[..., 0]
        after = loss(tried, row)
        better = after < value[active]
        theta[active[better]], value[active[better]] = tried[better], after[better]
        damping[active] = np.clip(damping[active] * np.where(better, 0.2, 8.0), 1e-9, 1e9)
        active = active[slope[active] > FLAT_GRADIENT / 10]
        if not len(active):
            break
    pick = np.arange(len(y)) * len(starts) + value.reshape(len(y), -1).argmin(1)
    return theta[pick], slope[pick]
