"""One curve as it is fitted: levels at rising compute, and how much each of them tells.

A level e in (0, 1) is what falls as a model gets better: the error, 1 − accuracy, or a loss over four times its
largest value; y = offset + factor·e brings it back. How much a point tells is its size, the number of coin flips
whose mean would vary as much. Where counts exist it follows from them and from the scatter of checkpoints
beyond them; elsewhere from how far points stray from the line through their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from analysis.arrays import Floats
from analysis.estimators import effective_size

WIDTH = 60
"""Most points that are fitted; more are averaged in equal steps of log compute."""
LOSS_HEADROOM = 4.0
"""A loss is fitted as a share of this times its largest value, so that forms may start above the data."""
LEAST_NOISE = 0.004
"""Relative noise that is assumed at the least where no count says how much there is."""
MOST_FLIPS = 1e6
"""That a point is worth, at the most."""
SCALES = {"accuracy": (1.0, -1.0), "error": (0.0, 1.0)}
"""Offset and factor of `Series`; those of a loss follow from its largest value."""
MIN_POINTS = 4
"""Fewer points with compute are not fitted."""
SCATTER_POINTS = 8
"""Fewer do not tell scatter from shape."""


class FitError(ValueError):
    """A curve that cannot be fitted; the message says what it lacks."""


@dataclass(frozen=True)
class Series:
    """Points of one curve, by rising compute."""

    compute: Floats
    """[C] > 0, in `unit`; a first 0 is the state before any."""
    level: Floats
    """[C] in [0, 1], falling where the model gets better."""
    size: Floats
    """[C] coin flips that each level is worth."""
    offset: float = 1.0
    factor: float = -1.0
    """y = offset + factor·level, in the metric's own units: 1 − e for accuracy."""
    metric: str = "accuracy"
    unit: str = "FLOPs"
    name: str = "curve"
    source: str | None = None
    counted: bool = True
    """Whether sizes follow from counts; else from the points' own scatter."""
    scatter: float = 0.0
    """Standard deviation of a point about the curve beyond what its counts explain, in level, at a level of ½;
    `spread` has that at others."""
    values: Floats | None = None
    """[C, P] every problem's own level, where known: the same problems at every point."""
    seed: np.ndarray | None = None
    """[C] which seed a point is of, where there are several."""

    @property
    def inside(self) -> np.ndarray:
        """[C] bool: points with compute, which a logarithmic axis can show."""
        return self.compute > 0

    @property
    def folds(self) -> Floats:
        """[C] e-folds of compute from the last point; −inf at 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.compute / self.compute[-1])

    @property
    def relative_noise(self) -> float:
        """Standard deviation of a point about the curve, relative to its level, at the last three points."""
        level = float(np.clip(self.level[-3:].mean(), 0.01, 0.99))
        return float(np.sqrt((1 - level) / (level * np.median(self.size))))

    @property
    def y(self) -> Floats:
        """[C] in the metric's own units."""
        return self.to_y(self.level)

    def to_y(self, level: Floats) -> Floats:
        """Levels of any shape in the metric's own units."""
        return self.offset + self.factor * level


def from_values(compute: Floats, values: Floats, draws: Floats, **facts: Any) -> Series:
    """From problems' own accuracies [C, P] in [0, 1], each the mean of draws [C] independent samples."""
    levels = 1 - np.asarray(values, dtype=np.float64)
    order = np.argsort(compute, kind="stable")
    compute, levels, draws = np.asarray(compute, dtype=np.float64)[order], levels[order], np.asarray(draws)[order]
    level = levels.mean(1)
    flips = np.array([effective_size(v, d) for v, d in zip(levels, draws, strict=True)])
    extra = scatter(compute, level, counted_variance(level, flips), levels)
    size = _sizes(level, flips, extra)
    return Series(compute, level, size, scatter=extra, values=levels, **facts)


def from_points(
    compute: Floats,
    y: Floats,
    metric: str,
    n: Floats | None = None,
    seed: np.ndarray | None = None,
    **facts: Any,
) -> Series:
    """From means in the metric's own units (accuracy, error: [0, 1]; loss > 0), n items behind each if known."""
    order = np.argsort(compute, kind="stable")
    compute, y = np.asarray(compute, dtype=np.float64)[order], np.asarray(y, dtype=np.float64)[order]
    seed = None if seed is None or len(np.unique(seed)) < 2 else np.asarray(seed)[order]
    n = None if n is None else np.asarray(n, dtype=np.float64)[order]
    offset, factor = (0.0, LOSS_HEADROOM * float(y.max())) if metric == "loss" else SCALES[metric]
    level = (y - offset) / factor
    if seed is None:
        compute, level, n, weight = _thinned(compute, level, n)
    else:
        weight = np.ones(len(compute))
    extra = 0.0
    if n is not None:
        variance = counted_variance(level, n)
        extra = scatter(compute, level, variance) if seed is None else between_seeds(compute, level, variance)
        size = _sizes(level, n, extra)
    else:
        near = np.clip(level, 0.01, 0.99)
        flips = (1 - near) / (near * relative_noise(compute, level) ** 2)
        size = np.minimum(np.minimum(weight, 4) * flips, MOST_FLIPS)
    return Series(
        compute, level, size, offset, factor, metric, counted=n is not None, scatter=extra, seed=seed, **facts
    )


def smoothed(level: Floats, n: Floats) -> Floats:
    """Levels of n items with one more of either outcome (Laplace), so that none is 0 or 1."""
    return (level * n + 1) / (n + 2)


def counted_variance(level: Floats, n: Floats) -> Floats:
    """Variance of a level that was counted over n items."""
    smooth = smoothed(level, n)
    return smooth * (1 - smooth) / n


def flip_variance(level: Floats, size: Floats) -> Floats:
    """Variance of the mean of `size` coin flips about a level, which is kept off 0 and 1."""
    near = np.clip(level, 0.002, 0.998)
    return near * (1 - near) / size


def _sizes(level: Floats, n: Floats, scatter: float) -> Floats:
    """[C] coin flips that levels counted over n items are worth where checkpoints scatter besides."""
    smooth = smoothed(level, n)
    return smooth * (1 - smooth) / (counted_variance(level, n) + spread(smooth, scatter) ** 2)


def _thinned(compute: Floats, level: Floats, n: Floats | None) -> tuple[Floats, Floats, Floats | None, Floats]:
    """Equal computes averaged; then, above `WIDTH` points, neighbours. The last column: points averaged."""
    groups, key = np.unique(compute, return_inverse=True)
    if len(groups) > WIDTH:
        logs = np.log(np.maximum(groups, np.min(groups[groups > 0]) / np.e))
        edges = np.linspace(logs[0], logs[-1] + 1e-9, WIDTH + 1)
        key = np.unique(np.digitize(logs, edges)[key], return_inverse=True)[1]
    count = np.bincount(key).astype(np.float64)
    mean = np.bincount(key, level) / count
    zero = compute[0] == 0
    with np.errstate(divide="ignore"):
        place = np.exp(np.bincount(key, np.log(np.where(compute > 0, compute, 1.0))) / count)
    if zero:
        place[0] = 0.0
    # Neighbouring checkpoints answered the same items: averaging them adds no items.
    return place, mean, None if n is None else np.bincount(key, n) / count, count


def relative_noise(compute: Floats, level: Floats) -> float:
    """Standard deviation of a point about a smooth curve, relative to its level, from second differences.

    The mean of the root mean square and of the median's estimate: one cliff is no noise, nor are many.
    """
    logs = np.log(np.maximum(level[compute > 0], 0.005))
    if len(logs) < 4:
        return 0.03
    gaps = logs[2:] - 2 * logs[1:-1] + logs[:-2]
    found = 0.5 * np.sqrt(np.mean(gaps**2) / 6) + 0.5 * np.median(np.abs(gaps)) / 0.6745 / np.sqrt(6)
    return max(float(found), LEAST_NOISE)


def spread(level: Floats, scatter: float) -> Floats:
    """Standard deviation of points about the curve beyond their counts, where it is `scatter` at a level of ½.

    It falls towards 0 and 1 as that of counts does (a constant factor of overdispersion): a policy that answers
    nearly all problems has none left to waver on.
    """
    near = np.clip(level, 0.002, 0.998)
    return scatter * np.sqrt(4 * near * (1 - near))


def scatter(compute: Floats, level: Floats, variance: Floats, values: Floats | None = None) -> float:
    """Standard deviation at a level of ½ of points about any smooth curve, beyond what their counts explain; 0
    where chance may.

    From each point's distance to the cubic through its four neighbours (difference-based, after Gasser, Sroka &
    Jennen-Steinmetz 1986, Biometrika 73; a line through two would take the bend of a curve for noise), less the
    variance that this distance has by `variance` [C], or between problems where their `values` [C, P] are known
    (the same problems at every point vary together); by medians, so that one cliff in a curve is no noise.
    """
    inside = compute > 0
    x, level, variance = np.log(compute[inside]), level[inside], variance[inside]
    if len(x) < SCATTER_POINTS:
        return 0.0
    windows = np.stack([np.arange(i, len(x) - 4 + i) for i in range(5)], 1)
    weights = _cubic(x[windows])
    gaps = (weights * level[windows]).sum(1)
    scale = 1 / (weights**2 * spread(level, 1.0)[windows] ** 2).sum(1)
    expected = (weights**2 * variance[windows]).sum(1)
    if values is not None and values.shape[1] > 1:
        each = np.einsum("gw,gwp->gp", weights, values[inside][windows])
        expected = each.var(1, ddof=1) / values.shape[1]
    median_of_squares = 0.455  # of a standard normal
    ratio = np.median(gaps**2 / np.maximum(expected, 1e-12)) / median_of_squares
    # The median of m squared normals has a relative standard error of about 2.2/√m (the gaps overlap).
    if ratio <= 1 + 2 * 2.2 / np.sqrt(len(gaps)):
        return 0.0
    excess = np.median(scale * gaps**2) / median_of_squares - np.median(scale * expected)
    return float(np.sqrt(max(0.0, excess)))


def between_seeds(compute: Floats, level: Floats, variance: Floats) -> float:
    """Standard deviation at a level of ½ between seeds at equal compute, beyond the variance [C] of their counts
    (by moments)."""
    _, key, count = np.unique(compute, return_inverse=True, return_counts=True)
    shared = count[key] > 1
    if not shared.any():
        return 0.0
    mean = (np.bincount(key, level) / count)[key]
    shape = spread(mean, 1.0) ** 2
    degrees = float((count[count > 1] - 1).sum())
    squares = float(((level - mean) ** 2 / shape)[shared].sum())
    return float(np.sqrt(max(0.0, squares / degrees - (variance / shape)[shared].mean())))


def _cubic(x: Floats) -> Floats:
    """[G, 5]: weights of a middle point less the cubic through the other four (Lagrange), at x [G, 5]."""
    weights = np.zeros_like(x)
    weights[:, 2] = 1.0
    others = (0, 1, 3, 4)
    for i in others:
        rest = [j for j in others if j != i]
        apart = [np.maximum(np.abs(x[:, i] - x[:, j]), 1e-9) * np.sign(i - j) for j in rest]
        weights[:, i] = -np.prod([(x[:, 2] - x[:, j]) / a for j, a in zip(rest, apart, strict=True)], 0)
    return weights


def redrawn(series: Series, replicates: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Bootstrap replicates: levels [R, C] and sizes [R, C].

    Problems are redrawn jointly over all points where their values are known, else every point by its size;
    then seeds, with replacement, where there are several: a seed's points count as often as it was drawn.
    Which problems a replicate draws depends on their number alone, so that the replicates of all curves that the
    same problems answered have the same problems, and their differences no more variance than they should.
    """
    shape = (replicates, len(series.compute))
    if series.values is not None:
        problems = series.values.shape[1]
        shared = np.random.default_rng(problems)
        draws = shared.multinomial(problems, np.full(problems, 1 / problems), size=replicates) / problems
        levels = draws @ series.values.T + spread(series.level, series.scatter) * rng.standard_normal(shape)
    else:
        levels = series.level + np.sqrt(flip_variance(series.level, series.size)) * rng.standard_normal(shape)
    sizes = np.broadcast_to(series.size, shape)
    if series.seed is not None:
        seeds, index = np.unique(series.seed, return_inverse=True)
        times = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=replicates)
        sizes = sizes * times[:, index]
    return np.clip(levels, 0.0, 1.0), sizes


def series_of(frame: pl.DataFrame) -> list[Series]:
    """Every curve of a canonical frame (`analysis.table.CANONICAL`), in order of appearance; holdouts left out.

    Problems' own values are kept where every point, of every seed, has all of them; else points are means over
    problems. Several rows of one point without a problem are averaged.
    """
    frame = frame.filter(split="fit")
    parts = frame.partition_by("source", "curve", as_dict=True, maintain_order=True)
    return [_series(str(curve), source, rows) for (source, curve), rows in parts.items()]


def _series(curve: str, source: str | None, rows: pl.DataFrame) -> Series:
    facts = {"name": curve, "source": source, "unit": rows["unit"][0] or "compute"}
    metric = str(rows["metric"][0])
    seeds = rows["seed"].n_unique()
    if rows["problem"].null_count() == 0 and metric != "loss":
        tables = [_by_problem(part) for part in rows.partition_by("seed", maintain_order=True)]
        if (
            not any(t.null_count().sum_horizontal()[0] for t in tables)
            and len({tuple(t.columns) for t in tables}) == 1
        ):
            return pooled([_of_problems(table, metric, **facts) for table in tables])
    of_problems = pl.col("problem").is_not_null().any()
    points = (
        rows.group_by("seed", "compute")
        .agg(
            pl.col("value").mean(),
            pl.when(of_problems).then(pl.col("n").fill_null(1.0).sum()).otherwise(pl.col("n").mean()).alias("n"),
        )
        .sort("compute", "seed")
    )
    n = None if points["n"].null_count() or metric == "loss" else points["n"].to_numpy()
    seed = points["seed"].to_numpy() if seeds > 1 else None
    return from_points(points["compute"].to_numpy(), points["value"].to_numpy(), metric, n, seed, **facts)


def _by_problem(rows: pl.DataFrame) -> pl.DataFrame:
    """A row a compute: compute, n, then a column a problem; numbers in their order, so that curves agree on it."""
    values = rows.pivot("problem", index="compute", values="value", aggregate_function="mean")
    draws = rows.group_by("compute").agg(pl.col("n").mean().fill_null(1.0))
    problems = sorted((name for name in values.columns if name != "compute"), key=lambda name: (len(name), name))
    return draws.join(values, on="compute").sort("compute").select("compute", "n", *problems)


def _of_problems(table: pl.DataFrame, metric: str, **facts: Any) -> Series:
    compute, draws = table["compute"].to_numpy(), table["n"].to_numpy()
    values = table.drop("compute", "n").to_numpy()
    right = values if metric == "accuracy" else 1 - values
    offset, factor = SCALES[metric]
    return from_values(compute, right, draws, metric=metric, offset=offset, factor=factor, **facts)


def pooled(parts: Sequence[Series]) -> Series:
    """Seeds of one curve, the same problems answered by all, as one series."""
    if len(parts) == 1:
        return parts[0]
    compute = np.concatenate([s.compute for s in parts])
    order = np.argsort(compute, kind="stable")
    return replace(
        parts[0],
        compute=compute[order],
        level=np.concatenate([s.level for s in parts])[order],
        size=np.concatenate([s.size for s in parts])[order],
        values=np.concatenate([s.values for s in parts if s.values is not None])[order],
        scatter=float(np.sqrt(np.mean([s.scatter**2 for s in parts]))),
        seed=np.repeat(np.arange(len(parts)), [len(s.compute) for s in parts])[order],
    )
