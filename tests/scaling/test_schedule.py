"""The threshold grid is absolute: it knows neither how long a run is nor how large its steps are."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.schedule import crossed, grid, next_threshold, threshold

densities = st.integers(1, 30)
firsts = st.floats(1.0, 1e12)
computes = st.integers(0, 10**24)


@given(st.integers(-20, 25), densities)
def test_whole_decades_are_exact(decade, points_per_decade):
    assert threshold(decade * points_per_decade, points_per_decade) == float(f"1e{decade}")


@given(st.integers(0, 200), densities)
def test_grid_includes_both_ends_however_they_were_computed(i, points_per_decade):
    low, high = 10 ** (i / points_per_decade), 10 ** ((i + 7) / points_per_decade)
    points = grid(low, high, points_per_decade)
    assert len(points) == 8
    assert points == pytest.approx([10 ** ((i + j) / points_per_decade) for j in range(8)], rel=1e-12)


@given(densities, firsts, st.lists(computes, min_size=2, max_size=20))
def test_union_over_steps_equals_one_jump(points_per_decade, first, ends):
    ends = sorted(ends)
    steps = [
        target for before, after in pairwise(ends) for target in crossed(before, after, points_per_decade, first)
    ]
    assert steps == crossed(ends[0], ends[-1], points_per_decade, first)


@given(densities, firsts, computes, computes)
def test_a_longer_run_keeps_its_earlier_points(points_per_decade, first, a, b):
    short, long = (crossed(0, end, points_per_decade, first) for end in sorted((a, b)))
    assert long[: len(short)] == short


@given(densities, firsts, computes, computes)
def test_targets_lie_where_they_should(points_per_decade, first, a, b):
    before, after = sorted((a, b))
    targets = crossed(before, after, points_per_decade, first)
    assert all(before < target <= after and target >= first * (1 - 1e-9) for target in targets)
    assert targets == sorted(set(targets))
    ratio = 10 ** (1 / points_per_decade)
    if targets:
        assert targets[-1] * ratio > after * (1 - 1e-9)
        assert targets[0] <= max(before, first) * ratio * (1 + 1e-9)
        assert targets[-1] / targets[0] == pytest.approx(ratio ** (len(targets) - 1))


@given(densities, firsts, computes)
def test_next_threshold_is_the_first_one_still_to_be_crossed(points_per_decade, first, compute):
    target = next_threshold(compute, points_per_decade, first)
    assert target > compute
    assert crossed(compute, math.ceil(target), points_per_decade, first)[0] == target
    assert crossed(compute, math.ceil(target) - 1, points_per_decade, first) == []


def test_a_step_that_lands_on_a_threshold_has_crossed_it_once():
    assert crossed(10**10 - 1, 10**10, 5, 1e10) == [1e10]
    assert crossed(10**10, 10**10 + 1, 5, 1e10) == []
    assert crossed(0, 10**12, 2, 1e10) == pytest.approx([1e10, 10**10.5, 1e11, 10**11.5, 1e12])


@pytest.mark.parametrize(("low", "points_per_decade"), [(0, 5), (-1.0, 5), (math.inf, 5), (1e10, 0)])
def test_a_grid_that_cannot_be_is_an_error(low, points_per_decade):
    with pytest.raises(ValueError, match="must be"):
        grid(low, 1e12, points_per_decade)
    with pytest.raises(ValueError, match="must be"):
        crossed(0, 10, points_per_decade, low)
