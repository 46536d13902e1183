"""Arms compared: what is true of two curves is found, and what cannot be told is not told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_series import COMPUTE, bend, draw

from analysis.alignment import aligned, best, chance_ahead, log_grid
from analysis.arms import compare_series
from analysis.pairs import PAST, pairs
from analysis.saturation import certain
from analysis.series import from_points
from analysis.table import TableError

REPLICATES = 100
LOW, HIGH = bend(0.1, 0.5, 6e10, 1.2), bend(0.1, 0.75, 6e10, 1.2)


def arm(truth, name, **facts):
    return draw(truth, shared=7, name=name, problems=256, **facts)


@pytest.fixture(scope="module")
def compared():
    """Two arms of one truth, and one whose asymptote is .25 better."""
    series = [arm(LOW, "one", seed=1), arm(LOW, "twin", seed=2), arm(HIGH, "better", seed=3)]
    return compare_series(series, REPLICATES)


def ends(estimate) -> tuple[float, float, float]:
    return estimate.median, estimate.lo90, estimate.hi90


def pair(compared, *names):
    (found,) = (p for p in compared.pairs if {p.first, p.second} == set(names))
    return found


def test_of_one_truth_twice_nothing_is_told(compared):
    twins = pair(compared, "one", "twin")
    assert twins.asymptote.lo90 < 0 < twins.asymptote.hi90
    assert twins.efficiency.lo90 < 1 < (twins.efficiency.hi90 or np.inf)
    assert {twins.asymptote_verdict, twins.efficiency_verdict, twins.crossing_verdict} == {"cannot tell"}


@pytest.mark.parametrize("other", ["one", "twin"])
def test_a_better_asymptote_is_found(compared, other):
    found = pair(compared, "better", other)
    sign = 1 if found.first == "better" else -1
    lo, hi = sorted(sign * end for end in ends(found.asymptote)[1:])
    assert found.asymptote_verdict == found.efficiency_verdict == "better"
    assert 0 < lo < 0.25 < hi


def test_the_best_arm_is_told_over_ten_times_the_data_and_chances_add_up(compared):
    computes = np.array([w.compute for w in compared.wins])
    assert COMPUTE[0] <= computes[0] < 2 * COMPUTE[0]
    assert computes[-1] == pytest.approx(PAST * COMPUTE[-1])
    assert np.isclose(computes, COMPUTE[-1]).any(), "what stands now is said too"
    assert [w.extrapolated for w in compared.wins] == list(computes > 1.001 * COMPUTE[-1])
    assert {w.best for w in compared.wins if w.compute > 1e11} == {"better"}
    for win in compared.wins:
        assert sum(win.probability.values()) == pytest.approx(1)


def test_the_order_of_arms_does_not_matter(compared):
    again = compare_series([found.series for found in reversed(compared.arms)], REPLICATES)
    assert again.pairs == compared.pairs and again.wins == compared.wins


def test_numbers_in_names_are_in_order():
    series = [arm(LOW, f"width {width}", seed=width) for width in (128, 32)]
    assert [found.name for found in compare_series(series, REPLICATES).arms] == ["width 32", "width 128"]


def test_problems_redrawn_jointly_narrow_a_difference(compared):
    one, twin = (found.levels(COMPUTE[-1:])[:, 0] for found in compared.arms if found.name in ("one", "twin"))
    apart = np.random.default_rng(0).permutation(twin)
    assert np.std(one - twin) < 0.8 * np.std(one - apart)


def test_the_paths_of_arms_are_all_paths_of_their_forecasts(compared):
    for found in compared.arms:
        np.testing.assert_array_equal(np.sort(found.order), np.arange(len(found.order)))
        replicates = found.found.forecast.picks[found.order, 1]
        np.testing.assert_array_equal(replicates, compared.arms[0].found.forecast.picks[compared.arms[0].order, 1])


def test_an_arm_that_needs_four_times_the_compute_is_said_to():
    slow, fast = (arm(bend(0.1, 0.7, middle, 1.2), name, seed=i)
                  for i, (name, middle) in enumerate((("slow", 2e11), ("fast", 5e10))))  # fmt: skip
    (found,) = compare_series([slow, fast], REPLICATES).pairs
    assert (found.first, found.efficiency_verdict) == ("fast", "fast")
    median, lo, hi = ends(found.efficiency)
    assert lo < 4 < hi and 2 < median < 8


def test_curves_that_cross_are_said_to_cross_where_they_do():
    early, late = bend(0.1, 0.45, 2e10, 1.5), bend(0.1, 0.85, 3e11, 1.5)
    (found,) = compare_series([arm(early, "early", seed=1), arm(late, "late", seed=2)], REPLICATES).pairs
    grid = np.geomspace(5e10, 1e12, 500)
    truth = grid[np.argmax([late(c) > early(c) for c in grid])]
    assert found.crossing_verdict == "crosses"
    _, lo, hi = ends(found.crossing)
    assert lo / 1.3 < truth < hi * 1.3


def test_losses_are_compared_in_their_own_units():
    def loss(end, start, name):
        return from_points(COMPUTE, end + start * (COMPUTE / 1e10) ** -0.7, "loss", name=name)

    (found,) = pairs([aligned(s, REPLICATES) for s in (loss(1.0, 8.0, "spread"), loss(1.5, 2.0, "flat"))])
    assert found.asymptote.median == pytest.approx(0.5, abs=0.2)
    assert found.end_probability > 0.8, "the first ends lower, whatever share of its largest value that is"


def test_an_arm_of_too_few_points_is_left_out_and_one_alone_is_an_error():
    short = draw(LOW, COMPUTE[:3], name="short")
    found = compare_series([arm(LOW, "one"), arm(HIGH, "other"), short], REPLICATES)
    assert [a.name for a in found.arms] == ["one", "other"]
    assert any(note.startswith("short: left out, 3 points") for note in found.notes)
    with pytest.raises(TableError, match="1 arms can be fitted; two are needed"):
        compare_series([arm(LOW, "one"), short], REPLICATES)


# What chances are counted from -----------------------------------------------------------------------------

levels = st.lists(st.lists(st.sampled_from([0.0, 0.1, 0.2]), min_size=4, max_size=4), min_size=1, max_size=5)


@given(levels)
def test_chances_to_be_best_add_up_and_ties_are_shared(rows):
    table = np.array(rows)[:, :, None]
    chances = best(table)[:, 0]
    assert chances.sum() == pytest.approx(1)
    assert best(np.repeat(table[:1], 3, 0))[:, 0] == pytest.approx(1 / 3)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1))
def test_of_two_arms_one_is_ahead(lead):
    forth, back = chance_ahead(np.array(lead)), chance_ahead(-np.array(lead))
    assert forth + back == pytest.approx(1)
    assert {certain(forth, "a", "b"), certain(back, "b", "a")} in ({"a"}, {"b"}, {"cannot tell"})


@settings(max_examples=30)
@given(st.floats(1e8, 1e20), st.floats(1.5, 1e5), st.integers(1, 20))
def test_a_grid_has_both_ends_and_no_wide_step(low, times, a_decade):
    grid = log_grid(low, low * times, a_decade)
    np.testing.assert_allclose(grid[[0, -1]], [low, low * times], rtol=1e-9)
    assert np.diff(np.log10(grid)).max() <= 1 / a_decade + 1e-9
