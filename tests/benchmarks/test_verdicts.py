import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.verdicts import ITEMS, KINDS, POINTS, Draw, Judged, cells, judged, simulated, summary, table


@settings(deadline=None, max_examples=60)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 999))
def test_truths_rise_between_0_and_1(kind, seed):
    rng = np.random.default_rng(seed)
    truth = kind.make(Draw(rng, 2.5, 0.1, 0.8), kind.reached)
    y = truth(np.linspace(0, 3.5, 50))
    assert ((y >= 0) & (y <= 1)).all() and (np.diff(y) >= -1e-12).all()


@settings(deadline=None, max_examples=60)
@given(kind=st.sampled_from([k for k in KINDS if k.reached]), number=st.integers(0, 999))
def test_where_the_bend_is_in_the_data_most_of_the_rise_is(kind, number):
    curve = simulated(kind, 8000, 24, number)
    rise = curve.series.y[-1] - curve.series.y[0]
    assert curve.gain < rise / 5


def test_a_curve_is_a_pure_function_of_its_cell_and_number():
    one, two = (simulated(KINDS[0], 200, 12, 3) for _ in range(2))
    np.testing.assert_array_equal(one.series.y, two.series.y)
    assert one.gain == two.gain
    assert (simulated(KINDS[0], 200, 12, 4).series.y != one.series.y).any()


@pytest.mark.parametrize("items", ITEMS)
def test_counts_are_whole(items):
    curve = simulated(KINDS[2], items, POINTS[0], 0)
    right = curve.series.y * items
    np.testing.assert_allclose(right, np.round(right), atol=1e-6)
    assert len(curve.series.compute) == 6 and curve.series.counted


def test_easy_curves_are_judged_right():
    straight, flat = (next(k for k in KINDS if k.name == name) for name in ("log-linear", "Gompertz, reached"))
    curves = [simulated(kind, 8000, 24, number) for kind in (straight, flat) for number in range(3)]
    found = judged(curves)
    assert [j.kind for j in found] == ["log-linear"] * 3 + ["Gompertz, reached"] * 3
    for curve, j in zip(curves, found, strict=True):
        assert not j.wrong and j.gain == curve.gain
        assert 0 <= j.probability <= 1
    assert found[0].verdict == "not saturated"


def made(verdict: str, wrong: bool = False, kind: str = "sigmoid, reached", items: int = 2000) -> Judged:
    return Judged(kind, items, 6, 0.0, 0.5, verdict, wrong)


def test_cells_and_summary_count():
    found = [made("saturated")] * 6 + [made("saturated", True)] * 2 + [made("cannot tell")] * 2
    found += [made("cannot tell", kind="log-linear")] * 10
    first, second = cells(found)
    assert (first.curves, first.wrong, first.cannot_tell, first.wrong_given) == (10, 0.2, 0.2, 0.25)
    assert (second.wrong, second.cannot_tell, second.wrong_given) == (0.0, 1.0, None)
    whole = summary(found)
    assert whole.curves == 20 and whole.wrong == 0.1 and whole.wrong_given == 0.25
    assert whole.worst == ("sigmoid, reached", 2000, 6) and whole.worst_interval[0] < 0.2 < whole.worst_interval[1]
    assert whole.cannot_tell == 0.2  # Of curves whose bend is in the data.
    # 2 of 8 where 1 in 20 is allowed: 1 − .95^8 − 8·.05·.95^7 = .057.
    assert whole.cells_above == 1 and whole.cells_surely_above == 0
    assert summary([*found, *[made("saturated", True)] * 2]).cells_surely_above == 1
    assert table(cells(found)).row_count == 2


def test_a_summary_without_easy_curves_has_no_share_of_them():
    assert math.isnan(summary([made("saturated", items=30)]).cannot_tell)
