"""The search for a form's parameters: many problems in one compiled call (JAX, float64).

A problem is one row of data with one start; rows are curves, rolling origins, bootstrap replicates. Damped
Fisher scoring (Levenberg 1944, Marquardt 1963, with the expected curvature of a binomial likelihood) needs five
to twenty steps where a general minimiser needs forty, and its small linear systems are solved for all problems
at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from analysis.arrays import Floats
from analysis.curves import Curve

BATCH = 64
"""Problems of one compiled call; more are cut, fewer are padded, so that a form is compiled once a width. A call
lasts as long as its slowest problem, so that larger ones wait more for stragglers and pad more."""
DAMPING = 1e-2
"""At the start of a search: share of the curvature's diagonal that is added to it."""
STEPS = 12
"""Of one call; problems that are not done go on together in the next, up to `ROUNDS` times."""
ROUNDS = 6
TOLERANCE = 1e-6
"""A search ends when a step gains less log-posterior than this."""

Row = tuple[Array, Array, Array, Array, Array]
"""The data of one problem: u, e, size [C], and the prior's mean, sd [K]."""


@dataclass(frozen=True)
class Found:
    """Arrays over problems [N]."""

    theta: Floats
    """[N, K]"""
    loss: Floats
    """Minus the log-posterior, less its bound by the data: half the deviance, plus the prior's part."""
    promise: Floats
    """Gain of log-posterior that a full step still promises: half the squared Newton decrement. A plain gradient
    would not tell: where the data are sharp, much of one is left at an optimum that is met to 1e-7."""
    log_determinant: Floats
    """Of the curvature in prior deviations: the Laplace evidence is −loss − log_determinant/2."""
    level: Floats
    """[N, C] level at every column of the data, those without weight too."""
    variance: Floats
    """[N, C] of that level, by the curvature (Laplace)."""


def search(curve: Curve, u: Floats, e: Floats, size: Floats, mean: Floats, sd: Floats, start: Floats) -> Found:
    """Minimise minus the log-posterior from every start.

    u, e, size [N, C]: e-folds of compute, observed level in [0, 1], coin flips that each is worth (0: not used);
    mean, sd, start [N, K]. Deterministic; problems do not see one another.
    """
    rows = tuple(np.asarray(a, dtype=np.float64) for a in (u, e, size, mean, sd))
    theta, damping = np.array(start, dtype=np.float64), np.full(len(u), DAMPING)
    out: list[np.ndarray] = []
    busy = np.arange(len(u))
    with jax.enable_x64(True):
        for _ in range(ROUNDS):
            found = _batched(lambda *args: _search(curve, *args), busy, (*rows, theta, damping))
            if not out:
                out = list(found[2:])
            for kept, new in zip((theta, damping, *out), found, strict=True):
                kept[busy] = new
            busy = busy[found[-1]]
            if not len(busy):
                break
    return Found(theta, *out[:-1])


def search_from(
    curve: Curve, u: Floats, e: Floats, size: Floats, mean: Floats, sd: Floats, starts: Floats
) -> tuple[Found, Floats]:
    """As `search`, from several starts a row [N, S, K]: what the best start of each row found, and the losses
    [N, S] of all."""
    n, count, k = starts.shape
    repeated = [np.repeat(a, count, 0) for a in (u, e, size, mean, sd)]
    found = search(curve, *repeated, start=starts.reshape(n * count, k))
    loss = found.loss.reshape(n, count)
    best = np.arange(n) * count + loss.argmin(1)
    return Found(**{name: column[best] for name, column in vars(found).items()}), loss


def _batched(run: Callable[..., tuple], chosen: np.ndarray, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Runs the chosen rows `BATCH` at a time, the last batch padded; → columns over the chosen rows."""
    parts = []
    for at in range(0, len(chosen), BATCH):
        part = chosen[at : at + BATCH]
        padded = np.concatenate([part, np.repeat(part[:1], BATCH - len(part))])
        parts.append([np.asarray(a)[: len(part)] for a in run(*(a[padded] for a in arrays))])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def levels(curve: Curve, theta: Floats, u: Floats) -> Floats:
    """The form at many parameters: θ [R, K], u [X] → level [R, X]."""
    width = len(u)
    grid = np.pad(np.asarray(u, dtype=np.float64), (0, -width % 64))
    with jax.enable_x64(True):
        found = _batched(lambda rows: (_levels(curve, rows, grid),), np.arange(len(theta)), (theta,))
    return found[0][:, :width]


@functools.partial(jax.jit, static_argnums=0)
def _levels(curve: Curve, theta: Float[Array, "R K"], u: Float[Array, " X"]) -> Float[Array, "R X"]:
    return jax.vmap(lambda row: curve.function(row, u))(theta)


def _deviance(level: Array, e: Array, size: Array) -> Array:
    """Half the binomial deviance: 0 where the level is the observed one."""
    seen = jnp.clip(e, 1e-12, 1 - 1e-12)
    return jnp.sum(size * (e * jnp.log(seen / level) + (1 - e) * jnp.log((1 - seen) / (1 - level))))


def _loss(curve: Curve, theta: Float[Array, " K"], row: Row) -> Array:
    u, e, size, mean, sd = row
    return _deviance(curve.function(theta, u), e, size) + 0.5 * jnp.sum(((theta - mean) / sd) ** 2)


def _slopes(curve: Curve, theta: Float[Array, " K"], row: Row) -> tuple[Array, Array, Array]:
    """Curvature [K, K] and gradient [K] of the loss, and the level's Jacobian [C, K]."""
    u, e, size, mean, sd = row
    level, jacobian = curve.function(theta, u), jax.jacfwd(curve.function)(theta, u)
    weight = size / (level * (1 - level))
    curvature = (jacobian * weight[:, None]).T @ jacobian + jnp.diag(1 / sd**2)
    return curvature, jacobian.T @ (weight * (level - e)) + (theta - mean) / sd**2, jacobian


@functools.partial(jax.jit, static_argnums=0)
def _search(
    curve: Curve,
    u: Float[Array, "N C"],
    e: Float[Array, "N C"],
    size: Float[Array, "N C"],
    mean: Float[Array, "N K"],
    sd: Float[Array, "N K"],
    start: Float[Array, "N K"],
    damping: Float[Array, " N"],
) -> tuple[Array, ...]:
    """`STEPS` steps of every problem: θ and damping, from which to go on; what else `Found` has, in its order; and
    which problems [N] are not done."""
    rows: Row = (u, e, size, mean, sd)
    losses, slopes = jax.vmap(functools.partial(_loss, curve)), jax.vmap(functools.partial(_slopes, curve))

    def step(state):
        count, theta, damping, value, busy = state
        curvature, gradient, _ = slopes(theta, rows)
        diagonal = jnp.diagonal(curvature, axis1=1, axis2=2)
        damped = curvature + jax.vmap(jnp.diag)(diagonal * damping[:, None])
        factor = (jnp.linalg.cholesky(damped), True)
        moved = theta - jax.scipy.linalg.cho_solve(factor, gradient[..., None])[..., 0]
        new = losses(moved, rows)
        better = (new < value) & busy
        gain = value - new
        busy = busy & ~(better & (gain < TOLERANCE)) & (damping < 1e6)
        damping = jnp.where(better, damping * 0.3, damping * 5.0)
        theta = jnp.where(better[:, None], moved, theta)
        return count + 1, theta, jnp.maximum(damping, 1e-8), jnp.where(better, new, value), busy

    def going(state):
        return (state[0] < STEPS) & state[4].any()

    first = (0, start, damping, losses(start, rows), jnp.ones(len(start), dtype=bool))
    _, theta, damping, value, busy = jax.lax.while_loop(going, step, first)
    promise, log_determinant, variance = _laplace(*slopes(theta, rows), sd)
    level = jax.vmap(curve.function)(theta, u)
    value = jnp.where(jnp.isfinite(value), value, 1e12)
    return theta, damping, value, promise, log_determinant, level, variance, busy


def _laplace(
    curvature: Float[Array, "N K K"],
    gradient: Float[Array, "N K"],
    jacobian: Float[Array, "N C K"],
    sd: Float[Array, "N K"],
) -> tuple[Float[Array, " N"], Float[Array, " N"], Float[Array, "N C"]]:
    """Where a search ended: `Found.promise`, `Found.log_determinant` and `Found.variance`."""
    lower = jnp.linalg.cholesky(curvature * sd[:, :, None] * sd[:, None, :])
    log_determinant = 2 * jnp.log(jnp.diagonal(lower, axis1=1, axis2=2)).sum(-1)
    spread = jax.scipy.linalg.solve_triangular(lower, jnp.swapaxes(jacobian * sd[:, None, :], 1, 2), lower=True)
    decrement = jax.scipy.linalg.solve_triangular(lower, (gradient * sd)[..., None], lower=True)[..., 0]
    return 0.5 * (decrement**2).sum(-1), log_determinant, (spread**2).sum(1)
