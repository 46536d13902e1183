"""Fits of all forms together: what is fitted to what, and what the weights say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.curves import CURVES, LOG_LINEAR
from analysis.posterior import (
    BACK,
    KEPT,
    LEAST_PROMISE,
    MIN_POINTS,
    Posterior,
    chunks,
    cuts,
    origins,
    posteriors,
)
from analysis.series import FitError, Series, from_points


def grid(points: int, decades: float = 3.0) -> np.ndarray:
    return 10 ** np.linspace(9, 9 + decades, points)


def series(truth, points: int = 14, items: int = 2000, seed: int = 0, decades: float = 3.0, zero: bool = False):
    x = grid(points, decades)
    if zero:
        x = np.r_[0.0, x]
    with np.errstate(divide="ignore"):
        y = np.random.default_rng(seed).binomial(items, truth(np.log10(x / 1e9))) / items
    return from_points(x, y, "accuracy", np.full(len(x), float(items)), name=truth.__name__)


def bend(x):
    return 0.1 + 0.6 / (1 + 10 ** (-1.4 * (x - 1.2)))


def line(x):
    return 0.15 + 0.15 * x


def power(x):
    return 0.85 - 0.6 * 10 ** (-0.6 * x)


def twice(x):
    """Level for more than half of the range, then a rise: two regimes."""
    return 0.1 + 0.25 * np.clip(x - 1.6, 0, None)


@pytest.fixture(scope="module")
def fitted() -> list[Posterior]:
    found = [series(bend), series(line, seed=1), series(power, seed=2, points=9), series(bend, zero=True)]
    return posteriors(found, replicates=40)


# Which points ----------------------------------------------------------------------------------------------

curves_of_any_length = st.builds(
    lambda points, decades, zero: Series(
        np.r_[[0.0] * zero, grid(points, decades)],
        np.linspace(0.9, 0.3, points + zero),
        np.full(points + zero, 100.0),
    ),
    st.integers(4, 60),
    st.floats(0.3, 5.0),
    st.booleans(),
)


@given(curves_of_any_length)
def test_origins_lie_at_fixed_ratios_with_enough_points_before(s):
    found = origins(s)
    first = int((~s.inside).sum())
    assert found == sorted(set(found), reverse=True)
    for points in found:
        assert points - first >= MIN_POINTS and points < len(s.compute)
    for ratio in BACK:
        points = int((s.compute <= s.compute[-1] / ratio * (1 + 1e-9)).sum())
        assert (points in found) == (points - first >= MIN_POINTS)


@given(curves_of_any_length, st.data())
def test_cuts_leave_enough_and_begin_with_none(s, data):
    points = data.draw(st.sampled_from([len(s.compute), *origins(s)]))
    found = cuts(s, points)
    first = int((~s.inside).sum())
    assert found[0] == 0 and found == sorted(set(found)) and len(found) <= 3
    for cut in found[1:]:
        assert points - cut >= KEPT and cut > first
        whole = math.log(s.compute[points - 1] / s.compute[first])
        kept = math.log(s.compute[points - 1] / s.compute[cut])
        assert kept <= whole * 2 / 3 + 1e-9, "the points before a cut span a third of the range at the least"


@given(st.lists(st.integers(4, 60), min_size=1, max_size=40), st.integers(1, 9))
def test_chunks_hold_every_curve_once_by_length(lengths, size):
    many = [Series(grid(n), np.full(n, 0.5), np.full(n, 9.0)) for n in lengths]
    parts = list(chunks(many, size))
    assert sorted(i for part in parts for i in part) == list(range(len(many)))
    assert all(len(part) <= size for part in parts)
    order = [lengths[i] for part in parts for i in part]
    assert order == sorted(order)


def test_too_few_points_are_refused_by_name():
    with pytest.raises(FitError, match=r"short: 3 points with compute; a fit needs 4"):
        posteriors([Series(np.r_[0.0, grid(3)], np.full(4, 0.5), np.full(4, 9.0), name="short")])


# Fits ------------------------------------------------------------------------------------------------------


def test_weights_sum_to_one_and_are_in_order_of_the_forms(fitted):
    for p in fitted:
        assert p.weights.sum() == pytest.approx(1) and (p.weights >= 0).all()
        assert [f.curve for f in p.fits] == list(CURVES)
        for origin in p.origins:
            assert origin.weights.sum() == pytest.approx(1)


def test_weight_goes_to_the_forms_that_can_make_the_data(fitted):
    """An S-curve is no line, and no power law; on a line nothing beats the line, which is simplest."""
    bent = {f.curve.name: f.weight for f in fitted[0].fits}
    assert bent["sigmoid"] + bent["M4"] > 0.5 and bent["log-linear"] < 0.01, bent
    straight = {f.curve.name: f.weight for f in fitted[1].fits}
    assert max(straight, key=straight.__getitem__) == "log-linear", straight


def test_evidence_grows_with_items():
    """What tells two forms apart tells more of it with more items: log-odds of line and sigmoid."""
    odds = []
    for items in (100, 1000, 10_000):
        (p,) = posteriors([series(bend, items=items)], replicates=2)
        evidence = {f.curve.name: f.evidence for f in p.fits}
        odds.append(evidence["sigmoid"] - evidence["log-linear"])
    assert odds == sorted(odds) and odds[0] > 0


def test_the_form_that_made_the_data_gives_its_parameters_back():
    (p,) = posteriors([series(bend, points=20, items=20_000)], replicates=2)
    found = next(f for f in p.fits if f.curve.name == "sigmoid").parameters
    assert found["y∞"] == pytest.approx(0.7, abs=0.02) and found["y0"] == pytest.approx(0.1, abs=0.02)
    assert found["B"] == pytest.approx(1.4, rel=0.1)
    assert math.log10(found["C_mid"]) == pytest.approx(10.2, abs=0.05)
    (p,) = posteriors([series(line, points=20, items=20_000)], replicates=2)
    assert p.fits[0].parameters["b"] == pytest.approx(0.15, abs=0.01)
    (p,) = posteriors([series(power, points=20, items=20_000)], replicates=2)
    assert p.fits[1].parameters["c"] == pytest.approx(0.6, rel=0.15)
    assert p.fits[1].parameters["y∞"] == pytest.approx(0.85, abs=0.03)


def test_another_regime_at_the_left_is_left_out():
    (p,) = posteriors([series(twice, points=24, items=20_000)], replicates=2, curves=CURVES[:2])
    assert p.cut > 0 and p.cut_evidence > 0
    (q,) = posteriors([series(line, points=24, items=2000)], replicates=2)
    assert q.cut == 0 and q.cut_evidence == 0


def test_replicates_lie_about_the_best_fit_and_have_its_spread(fitted):
    """Of the log-linear form, whose spread is that of weighted least squares."""
    (p,) = posteriors([series(line, seed=1)], replicates=600, curves=[LOG_LINEAR])
    ends = p.levels(np.zeros(1))[0, :, 0]
    s = p.series
    weight = s.size / (s.level * (1 - s.level))
    design = np.stack([np.ones(len(weight)), s.folds], 1)
    sd = math.sqrt(np.linalg.inv(design.T @ (design * weight[:, None]))[0, 0])
    assert ends.std() == pytest.approx(sd, rel=0.15)
    assert ends.mean() == pytest.approx(float(p.best(np.zeros(1))[0, 0]), abs=sd / 3)


def test_levels_have_the_shape_that_is_documented(fitted):
    p = fitted[0]
    assert p.levels(np.array([-1.0, 0.0, 2.0])).shape == (5, 40, 3)
    best = p.best(np.array([-np.inf, 0.0]))
    assert best.shape == (5, 2) and np.isfinite(best).all()
    sigmoid = CURVES.index(next(c for c in CURVES if c.name == "sigmoid"))
    assert best[sigmoid, 0] == pytest.approx(1 - p.fits[sigmoid].parameters["y0"], abs=1e-6)


def test_origins_hold_what_came_and_what_was_forecast(fitted):
    p = fitted[0]
    assert [o.points for o in p.origins] == origins(p.series)
    for o in p.origins:
        rest = len(p.series.compute) - o.points
        assert o.levels.shape == (5, 1 + rest) and o.variances.shape == (5, rest)
        np.testing.assert_array_equal(o.seen, p.series.level[o.points :])
        assert (o.folds > 0).all() and (o.noise > 0).all()
        between = (o.weights @ (o.levels[:, 1:] - o.mean) ** 2).min()
        assert (o.variance >= between).all()
        # The near future of a smooth curve is no surprise.
    nearest = p.origins[0]
    gap = abs(nearest.seen[0] - nearest.mean[0])
    assert gap < 4 * math.sqrt(nearest.variance[0] + nearest.noise[0])


def test_an_origin_does_not_see_what_came_after_it():
    s = series(bend, points=12)
    later = s.level.copy()
    later[-2:] = 0.9
    other = Series(s.compute, later, s.size)
    one, two = posteriors([s, other], replicates=2)
    for a, b in zip(one.origins, two.origins, strict=True):
        if a.points <= 10:
            np.testing.assert_allclose(a.mean, b.mean, atol=1e-7)
            np.testing.assert_allclose(a.variances, b.variances, rtol=1e-4)


def test_curves_together_are_fitted_as_each_alone(fitted):
    for together in fitted[:3]:
        (alone,) = posteriors([together.series], replicates=40)
        assert alone.cut == together.cut
        np.testing.assert_allclose(alone.weights, together.weights, atol=1e-5)
        for one, other in zip(alone.fits, together.fits, strict=True):
            np.testing.assert_allclose(one.evidence, other.evidence, atol=1e-4)
        at = np.array([0.0, 2.0])
        np.testing.assert_allclose(alone.best(at), together.best(at), atol=1e-4)
        np.testing.assert_allclose(np.median(alone.levels(at), 1), np.median(together.levels(at), 1), atol=1e-3)


def test_the_state_before_compute_serves_the_forms_that_have_one(fitted):
    """Those that have none leave it out, and pay for it."""
    p = fitted[3]
    assert p.series.compute[0] == 0
    for fit in p.fits:
        assert np.isfinite(fit.replicates).all() and np.isfinite(fit.evidence)


def test_fits_of_plain_data_converge_and_starts_agree(fitted):
    p = fitted[0]
    for name in ("log-linear", "power law", "sigmoid", "M4"):
        fit = next(f for f in p.fits if f.curve.name == name)
        assert fit.converged, f"{name}: a step promises {LEAST_PROMISE}"
        assert fit.starts_agreeing > 0.2


def test_the_same_seed_gives_the_same_and_another_does_not():
    s = series(bend)
    one, two, three = (posteriors([s], 10, seed)[0].fits[2].replicates for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != three).any()
