"""Forms of a level against compute: the functions, each with its source.

What falls as compute grows is written as a level e in (0, 1): the error, 1 − accuracy, or a loss over a scale
(`analysis.series`). A form is a function of u, e-folds of compute from the last point of the data (u = 0 there,
`FAR_LEFT` for no compute at all), and of parameters θ that are free on the whole line, so that every fit is an
unconstrained minimum and a weak Gaussian prior has a meaning. To add a form, write its function, `natural`,
prior and starts, and list it in `CURVES`; nothing else names a form.

The state before any compute cannot stand on a logarithmic axis: a form with a limit to the left takes it as a
point of its limit (`at_zero`); the others leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import sigmoid, softplus

from analysis.arrays import Floats

FAR_LEFT = -140.0
"""E-folds that stand for no compute at all."""
EDGE = 1e-5
"""Levels are kept this far from 0 and 1, where a likelihood has no bound."""
NEWTON = 6
"""Steps that solve M4's equation to 1e-9 for exponents α from .1 to 10."""


@dataclass(frozen=True)
class Shape:
    """What starts and priors are chosen from: arrays [R] over rows of data."""

    first: Floats
    """Level at the left end."""
    last: Floats
    """Mean level of the last three points."""
    span: Floats
    """E-folds of compute between the first and the last point."""


@dataclass(frozen=True)
class Curve:
    """A form: its function, and what a search for its parameters θ needs."""

    name: str
    formula: str
    reference: str
    parameters: tuple[str, ...]
    """Names of what `natural` returns."""
    function: Callable[[Array, Array], Array]
    """(θ [K], u [C]) → level e [C] in (0, 1); in jax.numpy, differentiable."""
    natural: Callable[[Floats, float, float, float], Floats]
    """(θ [K], log of the last compute, a, b) → the formula's own parameters, where a value is y = a + b·e."""
    prior: Callable[[Shape], tuple[Floats, Floats]]
    """→ mean [R, K], standard deviation [R, K] of θ: weak, but proper."""
    starts: Callable[[Shape], Floats]
    """→ θ [R, S, K] from which to search."""
    limit: Callable[[Floats], Floats] | None
    """θ [..., K] → level as compute grows without bound; None where the form has no limit within (0, 1)."""
    at_zero: bool
    """Whether the form has a level at no compute, so that the state before any counts as a point."""


def expit(x: Floats) -> Floats:
    """The logistic function, of arrays of any shape."""
    return 1 / (1 + np.exp(-x))


def logit(p: Floats) -> Floats:
    """Its inverse, at shares kept off 0 and 1: where a search starts."""
    p = np.clip(p, 0.003, 0.997)
    return np.log(p / (1 - p))


def _inside(level: Array) -> Array:
    return jnp.clip(level, EDGE, 1 - EDGE)


def _columns(shape: Shape, *values: Floats | float) -> Floats:
    return np.stack([np.broadcast_to(np.asarray(v, dtype=np.float64), shape.span.shape) for v in values], -1)


def _grid(shape: Shape, rows: Sequence[tuple[Floats | float, ...]]) -> Floats:
    return np.stack([_columns(shape, *row) for row in rows], 1)


# The forms -------------------------------------------------------------------------------------------------


def _line(theta: Array, u: Array) -> Array:
    return _inside(theta[0] + theta[1] * u)


def _line_natural(theta: Floats, last: float, a: float, b: float) -> Floats:
    per_decade = b * theta[1] * math.log(10)
    return np.array([a + b * theta[0] - b * theta[1] * last, per_decade])


def _power(theta: Array, u: Array) -> Array:
    now, end = sigmoid(theta[0]), sigmoid(theta[1])
    return _inside(end + (now - end) * jnp.exp(jnp.clip(-jnp.exp(theta[2]) * u, -50.0, 30.0)))


def _power_natural(theta: Floats, last: float, a: float, b: float) -> Floats:
    end, power = expit(theta[1]), math.exp(theta[2])
    return np.array([a + b * end, abs(b) * (expit(theta[0]) - end) * math.exp(min(power * last, 700.0)), power])


def _sigmoid(theta: Array, u: Array) -> Array:
    start, end = sigmoid(theta[0]), sigmoid(theta[1])
    return _inside(end + (start - end) * sigmoid(theta[2] - jnp.exp(theta[3]) * u))


def _sigmoid_natural(theta: Floats, last: float, a: float, b: float) -> Floats:
    power = math.exp(theta[3])
    middle = math.exp(float(np.clip(theta[2] / power + last, -700, 700)))
    return np.array([a + b * expit(theta[0]), a + b * expit(theta[1]), middle, power])


@jax.custom_jvp
def _left(t: Array, alpha: Array) -> Array:
    """z with log σ(z) − α·log(1 − σ(z)) = t: what is left of M4's fall, σ(z), by Newton steps."""
    z = jnp.where(t > 0, t / alpha, t)
    for _ in range(NEWTON):
        gap = alpha * softplus(z) - softplus(-z) - t
        z = z - gap / (sigmoid(-z) + alpha * sigmoid(z))
    return z


@_left.defjvp
def _left_jvp(primals, tangents):
    t, alpha = primals
    z = _left(t, alpha)
    slope = sigmoid(-z) + alpha * sigmoid(z)
    return z, (tangents[0] - softplus(z) * tangents[1]) / slope


def _m4(theta: Array, u: Array) -> Array:
    start, end = sigmoid(theta[0]), sigmoid(theta[1])
    left = sigmoid(_left(theta[2] - jnp.exp(theta[3]) * u, jnp.exp(theta[4])))
    return _inside(end + (start - end) * left)


def _m4_natural(theta: Floats, last: float, a: float, b: float) -> Floats:
    start, end, power, alpha = expit(theta[0]), expit(theta[1]), math.exp(theta[3]), math.exp(theta[4])
    # (ε − ε∞)/(ε0 − ε)^α = (ε0 − ε∞)^(1−α) · s/(1−s)^α, and s/(1−s)^α = e^(θ2 − c·u).
    width = max(abs(b * (start - end)), 1e-12)
    log_beta = theta[2] + power * last + (1 - alpha) * math.log(width)
    return np.array([a + b * start, a + b * end, math.exp(float(np.clip(log_beta, -700, 700))), power, alpha])


def _broken(theta: Array, u: Array) -> Array:
    end, sharp = sigmoid(theta[1]), jnp.exp(theta[5])
    bend = softplus((u - theta[4]) / sharp) - softplus(-theta[4] / sharp)
    fall = -theta[2] * u - theta[3] * sharp * bend
    return _inside(end + (sigmoid(theta[0]) - end) * jnp.exp(jnp.clip(fall, -30.0, 10.0)))


def _broken_natural(theta: Floats, last: float, a: float, b: float) -> Floats:
    end, sharp = expit(theta[1]), math.exp(theta[5])
    bend = sharp * np.logaddexp(0, -theta[4] / sharp)
    log_b = theta[2] * last + theta[3] * bend
    scale = abs(b) * (expit(theta[0]) - end) * math.exp(float(np.clip(log_b, -700, 700)))
    where = math.exp(float(np.clip(theta[4] + last, -700, 700)))
    return np.array([a + b * end, scale, theta[2], theta[3], where, sharp])


LOG_LINEAR = Curve(
    name="log-linear",
    formula="y = a + b·log10(C), within [0, 1]",
    reference="no ceiling in sight: the reading of the o1 report's figure",
    parameters=("a", "b"),
    function=_line,
    natural=_line_natural,
    prior=lambda s: (_columns(s, s.last, 0.0), _columns(s, 0.5, 0.15)),
    starts=lambda s: _grid(s, [(s.last, -0.02)]),
    limit=None,
    at_zero=False,
)
POWER = Curve(
    name="power law",
    formula="y = y∞ ± β·C^(−c)",
    reference="M2 of arXiv 2209.06640",
    parameters=("y∞", "β", "c"),
    function=_power,
    natural=_power_natural,
    prior=lambda s: (_columns(s, 0.0, -1.0, np.log(2 / s.span)), _columns(s, 1.7, 2.0, 1.0)),
    starts=lambda s: _grid(
        s,
        [(logit(s.last), logit(s.last * f), np.log(a / s.span)) for f, a in ((0.95, 4), (0.7, 2), (0.2, 1))],
    ),
    limit=lambda theta: expit(theta[..., 1]),
    at_zero=False,
)
SIGMOID = Curve(
    name="sigmoid",
    formula="y = y0 + (y∞ − y0)/(1 + (C_mid/C)^B)",
    reference="ScaleRL, arXiv 2510.13786",
    parameters=("y0", "y∞", "C_mid", "B"),
    function=_sigmoid,
    natural=_sigmoid_natural,
    prior=lambda s: (_columns(s, 0.5, -1.0, -2.0, np.log(4 / s.span)), _columns(s, 2.0, 2.0, 4.0, 0.8)),
    starts=lambda s: _grid(
        s,
        [
            (logit(s.first), logit(s.last * f), -m * a, np.log(a / s.span))
            for f, m, a in ((0.97, 0.6, 6.0), (0.8, 0.4, 5.0), (0.4, 0.1, 4.0), (0.95, 0.8, 10.0))
        ],
    ),
    limit=lambda theta: expit(theta[..., 1]),
    at_zero=True,
)
M4 = Curve(
    name="M4",
    formula="(y − y∞)/(y0 − y)^α = β·C^(−c)",
    reference="M4 of arXiv 2209.06640",
    parameters=("y0", "y∞", "β", "c", "α"),
    function=_m4,
    natural=_m4_natural,
    prior=lambda s: (
        _columns(s, 0.5, -1.0, -2.0, np.log(4 / s.span), 0.0),
        _columns(s, 2.0, 2.0, 4.0, 0.8, 1.0),
    ),
    starts=lambda s: _grid(
        s,
        [
            (logit(s.first), logit(s.last * f), -m * a, np.log(a / s.span), alpha)
            for f, m, a in ((0.97, 0.6, 6.0), (0.7, 0.3, 5.0))
            for alpha in (-0.3, 0.7)
        ],
    ),
    limit=lambda theta: expit(theta[..., 1]),
    at_zero=True,
)
BROKEN = Curve(
    name="broken power law",
    formula="y = y∞ ± b·C^(−c0)·(1 + (C/d)^(1/f))^(−c1·f)",
    reference="arXiv 2210.14891, one break",
    parameters=("y∞", "b", "c0", "c1", "d", "f"),
    function=_broken,
    natural=_broken_natural,
    prior=lambda s: (
        _columns(s, 0.0, -1.0, 1 / s.span, 0.0, -s.span / 2, np.log(s.span / 10)),
        _columns(s, 2.0, 2.0, 1.5 / s.span, 4 / s.span, s.span / 2, 0.8),
    ),
    starts=lambda s: _grid(
        s,
        [
            (logit(s.last), logit(s.last * f), a / s.span, c / s.span, -s.span * d, np.log(s.span / 10))
            for f, a, c, d in (
                (0.9, 0.1, 1.0, 0.6),
                (0.5, 1.0, -0.8, 0.4),
                (0.5, 0.05, 1.5, 0.15),
                (0.9, 2.0, -2.0, 0.6),
            )
        ],
    ),
    # With a net exponent below 0 the form rises without bound, and the limit of levels is its edge.
    limit=lambda theta: np.where(theta[..., 2] + theta[..., 3] >= 0, expit(theta[..., 1]), 1 - EDGE),
    at_zero=False,
)
CURVES = (LOG_LINEAR, POWER, SIGMOID, M4, BROKEN)
