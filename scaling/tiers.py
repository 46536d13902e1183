"""The grid of test compute, thinking budgets × numbers of samples, and the few samples that serve all of it.

This module starts without JAX and NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from scaling.config import Config


@dataclass(frozen=True)
class Tier:
    """Samples first … last − 1 of every problem, drawn at the largest of these budgets and cut at the others."""

    first: int
    last: int
    budgets: tuple[int, ...]
    """Rising."""

    @property
    def samples(self) -> int:
        return self.last - self.first


def samples_at(config: Config, budget: int) -> list[int]:
    """The numbers of samples evaluated at a budget: those within the cap on tokens, and always the least."""
    least, *more = config.evaluation.samples
    return [least, *(k for k in more if budget * k <= config.evaluation.tokens)]


def tiers(config: Config) -> list[Tier]:
    """The samples of a problem by the budgets that they serve; every budget gets its largest number."""
    counts = {budget: samples_at(config, budget)[-1] for budget in config.evaluation.budgets}
    edges = [0, *sorted(set(counts.values()))]
    return [Tier(first, last, tuple(b for b, n in counts.items() if n >= last)) for first, last in pairwise(edges)]
