"""What the fields of a sweep take: `value`, `values`, or `min` and `max`, in the words of W&B's sweep files."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from scaling.structure import ConfigError, hint, structure

DISTRIBUTIONS = ("uniform", "log_uniform_values", "int_uniform", "q_uniform", "q_log_uniform_values")
MOST_VALUES = 10_000
"""Of one parameter."""


@dataclass(frozen=True)
class Given:
    """A parameter as a file gives it."""

    value: Any = None
    """One value, or `${…}`: an expression over other fields."""
    values: Any = None
    """A list of such; the runs have each in turn (grid), or one drawn (random)."""
    min: float | None = None
    max: float | None = None
    num: int | None = None
    """Points from min to max, evenly spaced: on a log scale where the distribution is log_uniform_values."""
    distribution: str = ""
    """From min to max: uniform (the default), log_uniform_values, int_uniform, and q_… for multiples of q."""
    q: float | None = None


@dataclass(frozen=True)
class Range:
    """Where values are drawn from."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    q: float | None = None

    @property
    def step(self) -> float | None:
        """Values are multiples of it; None where they may be any."""
        return self.q or (1 if self.whole else None)

    def at(self, share: float) -> float:
        """The value that this share of the range, from 0 to 1, lies below."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = low + share * (high - low)
        value = math.exp(value) if self.log else value
        step = self.step
        value = min(max(round(value / step) * step if step else value, self.low), self.high)
        return round(value) if self.whole else float(f"{value:.6g}")

    def draw(self, rng: random.Random) -> float:
        """A value, each as likely as the distribution has it."""
        if self.step == 1 and not self.log:
            return rng.randint(int(self.low), int(self.high))
        return self.at(rng.random())


@dataclass(frozen=True)
class Parameter:
    """A field of the config, and what it takes in a sweep."""

    path: str
    values: Sequence[Any] = ()
    """Empty where they are drawn from a range."""
    range: Range | None = None
    fixed: bool = False
    """Given as `value`: the same in all runs, and no part of their names."""


def flat(given: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, what is given) of each parameter: nested, with or without W&B's `parameters:`, or by dotted path."""
    words = {f.name for f in fields(Given)}
    if isinstance(given, Mapping) and not words & given.keys():
        for name, inner in given.items():
            path = prefix if name == "parameters" else f"{prefix}.{name}" if prefix else str(name)
            yield from flat(inner, path)
    else:
        yield prefix, given


def parameter(path: str, given: Any, method: str, whole: bool) -> Parameter:
    """Raises ConfigError for what cannot be meant. `whole`: whether the field is a whole number."""
    place = f"parameters.{path}"
    if not isinstance(given, Mapping):
        raise ConfigError([f"{place} = {given!r}: must have value, values, or min and max"])
    try:
        found = structure(given, Given)
    except ConfigError as error:
        raise ConfigError([f"{place}.{line}" for line in error.lines]) from None
    kinds = [name for name in ("value", "values", "min") if name in given]
    if len(kinds) != 1:
        said = " and ".join(kinds) or "none of them"
        raise ConfigError([f"{place}: must have one of value, values, and min with max; it has {said}"])
    if kinds == ["min"]:
        return _ranged(path, found, method, whole)
    extra = sorted(given.keys() - {*kinds, "distribution"})
    if extra or found.distribution not in ("", "constant", "categorical"):
        raise ConfigError([f"{place}: {kinds[0]} goes with no {', '.join(extra) or 'distribution'}"])
    if kinds == ["value"]:
        return Parameter(path, (found.value,), fixed=True)
    if not isinstance(found.values, list | tuple) or not found.values:
        raise ConfigError([f"{place}.values = {found.values!r}: must be a list of at least one value"])
    return Parameter(path, _distinct(f"{place}.values", found.values))


def _ranged(path: str, found: Given, method: str, whole: bool) -> Parameter:
    place = f"parameters.{path}"
    name = found.distribution or ("int_uniform" if whole else "uniform")
    whole = whole or name == "int_uniform"
    lines = []
    if name not in DISTRIBUTIONS:
        lines.append(f"{place}.distribution = {name!r}: must be a known name{hint(name, DISTRIBUTIONS)}")
    if found.min is None or found.max is None or found.min > found.max:
        lines.append(f"{place}: needs min and max, min at most max")
    elif "log" in name and found.min <= 0:
        lines.append(f"{place}.min = {found.min:g}: must be above 0 for {name}")
    if (found.q is not None) is not name.startswith("q_") or (found.q is not None and found.q <= 0):
        lines.append(f"{place}.q = {found.q}: must be above 0 for a distribution q_…, and for no other")
    if whole and any(x is not None and x % 1 for x in (found.min, found.max, found.q)):
        lines.append(f"{place}: min, max and q must be whole numbers, as the field is")
    if found.num is not None and not 2 <= found.num <= MOST_VALUES:
        lines.append(f"{place}.num = {found.num}: must be from 2 to {MOST_VALUES:,}")
    if lines:
        raise ConfigError(lines)
    assert found.min is not None and found.max is not None
    drawn = Range(found.min, found.max, "log" in name, whole, found.q)
    if found.num is not None:
        points = [drawn.at(i / (found.num - 1)) for i in range(found.num)]
        return Parameter(path, _distinct(f"{place}.num = {found.num}", points))
    if method == "grid" and name == "int_uniform":
        return Parameter(path, range(int(found.min), int(found.max) + 1))
    if method == "grid":
        raise ConfigError([f"{place}: a grid needs values, or num with min and max"])
    return Parameter(path, range=drawn)


def _distinct(place: str, values: Sequence[Any]) -> Sequence[Any]:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ConfigError([f"{place}: has {twice!r} twice"])
    return tuple(values)
