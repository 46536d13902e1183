"""Fits of one curve, batched by us, and one by one by SciPy.

SciPy gets the objective as we have it (binomial deviance and prior, `analysis.search`), compiled, with exact
derivatives, as a sum of squares (deviance residuals: McCullagh & Nelder 1989, section 2.4) for MINPACK's
Levenberg-Marquardt, and its value and gradient for BFGS; a row's peer is the faster of the two.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.optimize import least_squares, minimize

from analysis import posterior
from analysis.arrays import Floats
from analysis.curves import SIGMOID, Curve, Shape
from analysis.search import Found, search
from analysis.series import Series, from_points, redrawn
from benchmarks import Row, faster, interleaved

REPLICATES = 1000
ITEMS = 500
POINTS = 14
SAMPLED = 100
"""Replicates that SciPy's loop is timed on; its seconds are scaled to all."""
PER_CALL = 24
"""Fits of each search that SciPy's loop is timed on where a curve has all forms."""
SAME_LOSS = 1e-3
"""Log-posterior by which the optima of two searches may differ."""


@dataclass(frozen=True)
class Problems:
    """What `analysis.search.search` is given: arrays over N problems."""

    curve: Curve
    u: Floats
    """[N, C]"""
    e: Floats
    """[N, C]"""
    size: Floats
    """[N, C]"""
    mean: Floats
    """[N, K]"""
    sd: Floats
    """[N, K]"""
    start: Floats
    """[N, K]"""

    def __len__(self) -> int:
        return len(self.start)

    def chosen(self, rows: np.ndarray) -> Problems:
        """Some of the problems, without columns that none of them uses (SciPy would pay for padding)."""
        used = (self.size[rows] > 0).any(0)
        points = (a[rows][:, used] for a in (self.u, self.e, self.size))
        return Problems(self.curve, *points, *(a[rows] for a in (self.mean, self.sd, self.start)))

    def ours(self) -> Found:
        return search(self.curve, self.u, self.e, self.size, self.mean, self.sd, self.start)


def curve_of(items: int = ITEMS, points: int = POINTS, seed: int = 0) -> Series:
    """A sigmoid that bends within the data."""
    compute = np.geomspace(1e10, 3e12, points)
    truth = 0.1 + 0.7 / (1 + (2e11 / compute) ** 1.2)
    counts = np.random.default_rng(seed).binomial(items, truth)
    return from_points(compute, counts / items, "accuracy", np.full(points, float(items)))


def sigmoid_problems(series: Series, replicates: int = REPLICATES) -> Problems:
    """Bootstrap replicates from each of the sigmoid's starts: row r·starts + s."""
    levels, sizes = redrawn(series, replicates, np.random.default_rng(1))
    shape = Shape(series.level[:1], series.level[-3:].mean(keepdims=True), -series.folds[:1])
    (mean,), (sd,) = SIGMOID.prior(shape)
    (start,) = SIGMOID.starts(shape)
    count = replicates * len(start)
    u, mean, sd = (np.broadcast_to(a, (count, len(a))) for a in (series.folds, mean, sd))
    levels, sizes = (np.repeat(a, len(start), 0) for a in (levels, sizes))
    return Problems(SIGMOID, u, levels, sizes, mean, sd, np.tile(start, (replicates, 1)))


def asked_by_posterior(series: Series, replicates: int) -> list[Problems]:
    """Every search that `analysis.posterior.posteriors` makes for one curve."""
    asked: list[Problems] = []

    def recorded(curve: Curve, u, e, size, mean, sd, start) -> Found:
        asked.append(Problems(curve, u, e, size, mean, sd, start))
        return search(curve, u, e, size, mean, sd, start)

    with mock.patch.object(posterior, "search", recorded), mock.patch("analysis.search.search", recorded):
        posterior.posteriors([series], replicates)
    return asked


# SciPy -----------------------------------------------------------------------------------------------------


def _residuals(curve: Curve, theta, u, e, size, mean, sd):
    """[C + K] whose squares sum to twice the loss."""
    level = curve.function(theta, u)
    seen = jnp.clip(e, 1e-12, 1 - 1e-12)
    each = e * jnp.log(seen / level) + (1 - e) * jnp.log((1 - seen) / (1 - level))
    gap = level - e
    # Near its zero the root of the deviance is the gap over its deviation, which has a derivative.
    near = jnp.abs(gap) < 1e-7
    root = jnp.sign(gap) * jnp.sqrt(2 * jnp.where(near, 1.0, jnp.maximum(each, 1e-300)))
    flip = jnp.where(near, gap / jnp.sqrt(level * (1 - level)), root)
    return jnp.concatenate([jnp.sqrt(size) * flip, (theta - mean) / sd])


@functools.cache
def _compiled(curve: Curve) -> tuple[Callable[..., Array], ...]:
    """Residuals, their Jacobian [C + K, K], and the loss with its gradient, of (θ, a problem's row)."""
    residuals = functools.partial(_residuals, curve)

    def loss(*args):
        return 0.5 * (residuals(*args) ** 2).sum()

    return jax.jit(residuals), jax.jit(jax.jacfwd(residuals)), jax.jit(jax.value_and_grad(loss))


def by_least_squares(problems: Problems) -> Floats:
    """[N] losses, by MINPACK's Levenberg-Marquardt."""
    residuals, jacobian, _ = _compiled(problems.curve)

    def fit(start: Floats, *row: Floats) -> float:
        def fun(theta: Floats) -> Floats:
            return np.asarray(residuals(theta, *row))

        def jac(theta: Floats) -> Floats:
            return np.asarray(jacobian(theta, *row))

        found = least_squares(fun, start, jac, method="lm")  # pyright: ignore[reportArgumentType]
        return 0.5 * float((found.fun**2).sum())

    return _loop(problems, fit)


def by_bfgs(problems: Problems) -> Floats:
    """[N] losses, by BFGS."""
    both = _compiled(problems.curve)[2]

    def objective(theta: Floats, *row: Floats) -> tuple[float, Floats]:
        value, gradient = both(theta, *row)
        return float(value), np.asarray(gradient)

    return _loop(problems, lambda start, *row: float(minimize(objective, start, row, "BFGS", jac=True).fun))


PEERS = {"least_squares(method='lm')": by_least_squares, "minimize(method='BFGS')": by_bfgs}


def _loop(problems: Problems, fit: Callable[..., float]) -> Floats:
    p = problems
    with jax.enable_x64(True), np.errstate(all="ignore"):
        rows = zip(p.start, p.u, p.e, p.size, p.mean, p.sd, strict=True)
        return np.array([fit(*row) for row in rows])


def disagreement(problems: Problems, ours: Floats, peer: Floats) -> tuple[float, float]:
    """Share of the curves whose best start ends higher by more than `SAME_LOSS` with us, and with the peer.

    ours, peer [N]: losses; problems that differ in their start only stand together.
    """
    new = np.r_[True, (np.diff(problems.e, axis=0) != 0).any(1) | (np.diff(problems.mean, axis=0) != 0).any(1)]
    first = np.flatnonzero(new)
    mine, its = np.minimum.reduceat(ours, first), np.minimum.reduceat(peer, first)
    return float(np.mean(mine > its + SAME_LOSS)), float(np.mean(its > mine + SAME_LOSS))


def _fastest(problems: Problems) -> str:
    """Name of the peer that takes the least time."""
    seconds = {}
    for name, run in PEERS.items():
        run(problems)  # Compiles.
        start = time.perf_counter()
        run(problems)
        seconds[name] = time.perf_counter() - start
    return min(seconds, key=seconds.__getitem__)


# Rows ------------------------------------------------------------------------------------------------------


def bootstrap() -> list[Row]:
    """1,000 replicates of the sigmoid on one curve, from four starts each."""
    problems = sigmoid_problems(curve_of())
    starts = len(problems) // REPLICATES
    sample = problems.chosen(np.arange(SAMPLED * starts))
    peer = _fastest(problems.chosen(np.arange(20 * starts)))
    losses: dict[str, Floats] = {}

    def run_ours() -> None:
        losses["ours"] = problems.ours().loss[: len(sample)]

    def run_peer() -> None:
        losses["peer"] = PEERS[peer](sample)

    ours, its = interleaved(run_ours, run_peer)
    worse, better = disagreement(sample, losses["ours"], losses["peer"])
    work = f"{REPLICATES:,} sigmoid replicates × {starts} starts, {POINTS} points"
    note = (
        f"peer: SciPy {peer} in a loop over {SAMPLED} replicates, scaled; the best optimum is worse in "
        f"{worse:.1%} of ours and in {better:.1%} of the peer's"
    )
    return [faster("bootstrap", ours, its * REPLICATES / SAMPLED, "s", f"{work}; {note}")]


def families() -> list[Row]:
    """All forms, with rolling origins and regimes, for one curve: 1,000 replicates in all, and 1,000 of each."""
    return [_families("families", REPLICATES // 5), _families("families, all replicates", REPLICATES)]


def _families(name: str, replicates: int) -> Row:
    series = curve_of()
    asked = asked_by_posterior(series, replicates)
    rng = np.random.default_rng(2)
    samples = [p.chosen(rng.choice(len(p), min(PER_CALL, len(p)), replace=False)) for p in asked]
    peers = [_fastest(sample) for sample in samples]
    each: list[list[float]] = [[] for _ in samples]

    def run_peer() -> None:
        for sample, peer, seconds in zip(samples, peers, each, strict=True):
            start = time.perf_counter()
            PEERS[peer](sample)
            seconds.append(time.perf_counter() - start)

    ours, _ = interleaved(lambda: posterior.posteriors([series], replicates), run_peer, repetitions=3)
    # The first of each compiled.
    scaled = sum(float(np.median(s[1:])) * len(p) / len(q) for s, p, q in zip(each, asked, samples, strict=True))
    fits = sum(len(p) for p in asked)
    note = (
        f"posteriors of five forms, {replicates:,} replicates of each, {fits:,} fits in all; peer: the same fits "
        f"by the faster of {' and '.join(PEERS)} in a loop over {sum(map(len, samples))}, scaled"
    )
    return faster(name, ours, scaled, "s", note)
