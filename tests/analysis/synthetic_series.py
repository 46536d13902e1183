"""Series with a known truth: the same problems at every point, some easier than others."""

from collections.abc import Callable

import numpy as np
from scipy.stats import beta

from analysis.series import Series, from_values

COMPUTE = 10 ** np.linspace(10, 12.4, 13)


def bend(low: float, high: float, middle: float, power: float) -> Callable[[float], float]:
    return lambda c: low + (high - low) / (1 + (middle / max(c, 1e-9)) ** power)


def line(level: float, slope: float) -> Callable[[float], float]:
    """`level` below 10^9.5 FLOPs, then `slope` a decade."""
    return lambda c: level + slope * max(0.0, float(np.log10(max(c, 1.0))) - 9.5)


def draw(
    truth: Callable[[float], float],
    compute: np.ndarray = COMPUTE,
    *,
    problems: int = 512,
    samples: int = 8,
    scatter: float = 0.0,
    zero: bool = True,
    seed: int = 0,
    shared: int | None = None,
    name: str = "curve",
) -> Series:
    """shared: curves of one such number have the same problems, whatever their seed."""
    rng = np.random.default_rng(seed)
    ease = rng.uniform(size=problems)
    if shared is not None:
        ease = np.random.default_rng(shared).uniform(size=problems)
    compute = np.concatenate([[0.0] if zero else [], compute])
    levels = np.clip([truth(c) for c in compute] + scatter * rng.standard_normal(len(compute)), 0.01, 0.99)
    chances = [beta.ppf(ease, 1.5 * level, 1.5 * (1 - level)) for level in levels]
    draws = np.full(len(compute), float(samples))
    return from_values(compute, rng.binomial(samples, chances) / samples, draws, name=name)
