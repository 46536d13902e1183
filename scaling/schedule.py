"""Log-spaced grids of compute, and which thresholds a step crossed.

The grid is absolute: c_i = 10^(i / points_per_decade) FLOPs for integer i. So a longer run keeps its earlier
points, runs of every size share them, and the thresholds do not depend on how large a step is.
"""

from __future__ import annotations

from math import ceil, floor, isfinite, log10

SLACK = 1e-9
"""A bound that misses a grid point by less than this share of a grid interval is taken to mean the point."""


def threshold(i: int, points_per_decade: int) -> float:
    """c_i; whole decades are exact, and c_(i + points_per_decade) is ten times c_i."""
    decade, part = divmod(i, points_per_decade)
    return float(f"1e{decade}") * 10 ** (part / points_per_decade)


def grid(low: float, high: float, points_per_decade: int) -> list[float]:
    """The grid points from `low` to `high`, both included. Raises ValueError unless 0 < low and finite."""
    first = _index_from(low, points_per_decade)
    last = floor(points_per_decade * log10(high) + SLACK) if high > 0 else first - 1
    return [threshold(i, points_per_decade) for i in range(first, last + 1)]


def crossed(before: int, after: int, points_per_decade: int, first: float) -> list[float]:
    """The targets with before < c_i <= after and c_i >= first, rising.

    Compared exactly (Python compares integers of any size with floats without rounding), so the union over
    the steps of a run equals one jump over all of it.
    """
    i = max(_index_from(first, points_per_decade), _index_after(before, points_per_decade))
    targets = []
    while (target := threshold(i, points_per_decade)) <= after:
        targets.append(target)
        i += 1
    return targets


def next_threshold(compute: int, points_per_decade: int, first: float) -> float:
    """The least target above `compute`."""
    i = max(_index_from(first, points_per_decade), _index_after(compute, points_per_decade))
    return threshold(i, points_per_decade)


def _index_from(low: float, points_per_decade: int) -> int:
    """Least i with c_i at or above `low`."""
    if points_per_decade < 1:
        raise ValueError(f"points_per_decade: {points_per_decade} must be at least 1")
    if not (isfinite(low) and low > 0):
        raise ValueError(f"first threshold: {low} FLOPs must be above 0 and finite")
    return ceil(points_per_decade * log10(low) - SLACK)


def _index_after(compute: int, points_per_decade: int) -> int:
    """Least i with c_i > compute, exactly; 0 where nothing has been spent, for a count is at least 1."""
    if compute < 1:
        return 0
    i = floor(points_per_decade * log10(compute))
    while threshold(i, points_per_decade) > compute:
        i -= 1
    while threshold(i, points_per_decade) <= compute:
        i += 1
    return i
