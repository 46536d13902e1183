"""Forms of accuracy against compute: a registry of functions, each with its source.

A form is written in u, decades from the last compute of the data (u = 0 there, −inf for no compute at all),
and in parameters θ that are free on the whole line, so that every fit is an unconstrained minimum and a weak
Gaussian prior has a meaning. To add a form, write its function, `natural`, prior and starts, and list it in
`CURVES`; nothing else names a form.

The state before RL has no RL compute, which a logarithmic axis cannot show: a form with a limit to the left
(the sigmoid: R0, its level as C → 0) takes that state as a point of its limit; one without leaves it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import sigmoid
from numpy.typing import NDArray

FAR_LEFT = -60.0
"""Decades that stand for no compute at all: every sigmoid of the prior is at its lower level there."""
LN10 = math.log(10.0)


@dataclass(frozen=True)
class Curve:
    name: str
    formula: str
    reference: str
    parameters: tuple[str, ...]
    """Names of what `natural` returns."""
    function: Callable[[Array, Array], Array]
    """(θ [K], u [C]) → accuracy [C] in [0, 1]; in jax.numpy, differentiable."""
    natural: Callable[[NDArray, float], NDArray]
    """(θ [..., K], log10 of the last compute) → the formula's own parameters [..., K]."""
    prior: Callable[[float], tuple[NDArray, NDArray]]
    """Decades that the data span → mean [K], standard deviation [K] of θ: weak, but proper."""
    starts: Callable[[NDArray, NDArray], NDArray]
    """(u [C], accuracy [C]) → θ [S, K] from which to search."""
    asymptote: Callable[[NDArray], NDArray] | None
    """θ [..., K] → limit of accuracy [...]; None where the form has none and ends at 0 or 1."""
    at_zero: bool
    """Whether the form has a value at no compute, so that the state before any counts as a point."""


def expit(x: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-x))


def logit(p: float) -> float:
    p = min(max(p, 0.005), 0.995)
    return math.log(p / (1 - p))


def _sigmoid(theta: Array, u: Array) -> Array:
    low, high = sigmoid(theta[0]), sigmoid(theta[1])
    return low + (high - low) * sigmoid(LN10 * jnp.exp(theta[3]) * (jnp.maximum(u, FAR_LEFT) - theta[2]))


def _sigmoid_natural(theta: NDArray, last: float) -> NDArray:
    middle = 10.0 ** np.clip(theta[..., 2] + last, -300, 300)
    return np.stack([expit(theta[..., 0]), expit(theta[..., 1]), middle, np.exp(theta[..., 3])], -1)


def _sigmoid_prior(span: float) -> tuple[NDArray, NDArray]:
    # Levels nearly uniform on [0, 1]; the bend anywhere within twice the data's span; B from .15 to 3.5.
    return np.array([-0.5, 0.5, -span / 2, -0.35]), np.array([1.7, 1.7, 2 * max(span, 1.0), 0.8])


def _sigmoid_starts(u: NDArray, y: NDArray) -> NDArray:
    inside = u[np.isfinite(u)]
    low, high = float(y[0]), float(y.max())
    far = (high + 2) / 3
    middle, last = float(np.median(inside)), float(inside.max())
    return np.array(
        [
            [logit(low), logit(high), middle, 0.3],
            [logit(low), logit(high), (middle + inside.min()) / 2, 0.0],
            [logit(low), logit((high + far) / 2), middle, -0.3],
            [logit(low), logit(far), last, -0.3],
            [logit(low), logit(far), last + 1, -0.9],
            [logit(low / 2), logit(high), float(inside.min()), -0.5],
        ]
    )


def _line(theta: Array, u: Array) -> Array:
    return jnp.clip(theta[0] + theta[1] * jnp.maximum(u, FAR_LEFT), 0.0, 1.0)


def _line_natural(theta: NDArray, last: float) -> NDArray:
    return np.stack([theta[..., 0] - theta[..., 1] * last, theta[..., 1]], -1)


def _line_prior(span: float) -> tuple[NDArray, NDArray]:
    return np.array([0.5, 0.0]), np.array([0.5, 0.3])


def _line_starts(u: NDArray, y: NDArray) -> NDArray:
    inside = np.isfinite(u)
    slope, level = np.polyfit(u[inside], y[inside], 1) if inside.sum() > 1 else (0.0, y.mean())
    return np.array([[level, slope], [y[inside][-1], slope / 2]])


LOG_LINEAR = Curve(
    name="log-linear",
    formula="R = a + b·log10(C), within [0, 1]",
    reference="no ceiling in sight: the reading of the o1 report's figure",
    parameters=("a", "b"),
    function=_line,
    natural=_line_natural,
    prior=_line_prior,
    starts=_line_starts,
    asymptote=None,
    at_zero=False,
)
SIGMOID = Curve(
    name="sigmoid",
    formula="R = R0 + (A − R0)/(1 + (C_mid/C)^B)",
    reference="ScaleRL, arXiv 2510.13786",
    parameters=("R0", "A", "C_mid", "B"),
    function=_sigmoid,
    natural=_sigmoid_natural,
    prior=_sigmoid_prior,
    starts=_sigmoid_starts,
    asymptote=lambda theta: expit(theta[..., 1]),
    at_zero=True,
)
CURVES = (LOG_LINEAR, SIGMOID)
