"""What would settle a verdict most cheaply: more compute, more problems, more seeds (preposterior analysis).

Each of a sample of the forecast's paths is taken for the truth in turn: the data that an option would add are
drawn from it, all paths are weighted by how well they agree with them, and the verdict is taken again (Raiffa &
Schlaifer 1961; importance weights in place of a refit).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.arrays import Floats
from analysis.forecast import Forecast
from analysis.series import flip_variance, spread

TRUTHS = 200
ENOUGH = 0.8
"""Probability of a verdict at which an option counts as settling it."""
PROBLEMS = (4, 16)
COMPUTE = (2, 4, 10)
SEEDS = (4, 10)


@dataclass(frozen=True)
class Option:
    """More of one thing."""

    kind: str
    """problems, compute or seeds."""
    times: int
    """As many problems, as far in compute, as many runs in all."""
    settles: float
    """Probability that the verdict would then be saturated or not saturated."""
    compute: float
    """What it costs, in multiples of the last point's compute; evaluation apart."""

    def __str__(self) -> str:
        what = {
            "problems": f"{self.times}× the evaluation problems",
            "compute": f"going on to {self.times}× the compute",
            "seeds": f"{self.times} seeds in all",
        }[self.kind]
        return f"{what} (probability of a verdict {self.settles:.2f})"


def options(forecast: Forecast, gain: float, certainty: float, seed: int = 0) -> tuple[Option, ...]:
    """Options by cost: those up to the first of each kind that settles with `ENOUGH`, or all of the kind.

    gain: the gain of level in the next 10× that counts as none; certainty: P at which a verdict is given.
    """
    rng = np.random.default_rng(seed)
    series = forecast.series
    last = float(series.compute[-1])
    inside = series.inside
    data = series.compute[inside]
    times_on = np.array([1.0, *COMPUTE])
    ends = last * times_on
    drawn = forecast.paths(np.concatenate([data, ends, 10 * ends]))
    at_data, at_ends, beyond = np.split(drawn, [len(data), len(data) + len(ends)], axis=1)
    gains = dict(zip(times_on, (at_ends - beyond).T, strict=True))
    truths = rng.choice(len(drawn), TRUTHS, replace=False)
    size = series.size[inside]
    found: list[Option] = []
    for times in PROBLEMS if series.counted else ():
        # The scatter of checkpoints stays whatever the number of problems.
        share = _variance(at_data, size)
        scatter = spread(np.median(at_data, 0), series.scatter) ** 2
        counted = np.maximum(share - scatter, 1e-9) / (times - 1)
        settles = _settled(at_data, counted + scatter, truths, gains[1.0], gain, certainty, rng)
        found.append(Option("problems", times, settles, 0.0))
    step = _step(data, 1 if series.seed is None else len(np.unique(series.seed)))
    for times in COMPUTE:
        count = max(1, round(float(np.log(times) / step)))
        where = np.interp(np.linspace(0, np.log(times), count + 1)[1:], np.log(times_on), np.arange(len(ends)))
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, len(ends) - 1)
        new = at_ends[:, low] + (where - low) * (at_ends[:, high] - at_ends[:, low])
        variance = _variance(new, np.full(count, float(np.median(size))))
        settles = _settled(new, variance, truths, gains[float(times)], gain, certainty, rng)
        found.append(Option("compute", times, settles, times - 1.0))
    for times in SEEDS:
        variance = _variance(at_data, size) / (times - 1)
        settles = _settled(at_data, variance, truths, gains[1.0], gain, certainty, rng)
        found.append(Option("seeds", times, settles, times - 1.0))
    return tuple(sorted(_useful(found), key=lambda o: (o.settles < ENOUGH, o.compute, o.times)))


def _step(compute: Floats, seeds: int) -> float:
    """E-folds of compute from one point of a seed to its next: several seeds have the same computes, or nearly."""
    steps = np.diff(np.log(compute[::seeds]))
    if np.any(steps > 0):
        return float(np.median(steps[steps > 0]))
    return float(np.log(compute[-1] / compute[0])) / (len(compute) - 1)


def _useful(found: list[Option]) -> list[Option]:
    """Of each kind, what comes after an option that settles is of no use."""
    kept: list[Option] = []
    for option in found:
        if not any(o.kind == option.kind and o.settles >= ENOUGH for o in kept):
            kept.append(option)
    return kept


def _variance(levels: Floats, size: Floats) -> Floats:
    """[X] of an observation about the paths' median level."""
    return flip_variance(np.median(levels, 0), size)


def _settled(
    levels: Floats, variance: Floats, truths: np.ndarray, gained: Floats, gain: float, certainty: float,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """Share of truths whose new data, at levels [D, X] and of this variance [X], lead to a verdict."""
    seen = levels[truths] + np.sqrt(variance) * rng.standard_normal((len(truths), levels.shape[1]))
    logs = -0.5 * (((seen[:, None] - levels[None]) ** 2) / variance).sum(-1)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    chance = (weights @ (gained < gain)) / weights.sum(1)
    return float(np.mean((chance >= certainty) | (chance <= 1 - certainty)))
