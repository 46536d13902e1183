"""Fits recover what made the data, know what they do not know, and leave JAX's settings alone."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_series import COMPUTE, bend, draw, line

from analysis.curves import CURVES, LOG_LINEAR, SIGMOID
from analysis.fit import FitError, Mixture, Series, evaluate, fit, scatter


def by_name(mixture: Mixture, name: str):
    return next(f for f in mixture.fits if f.curve.name == name)


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.name)
def test_a_form_equals_its_formula(curve):
    """`function` in θ and decades against the formula in `natural` parameters and FLOPs."""
    theta = np.array([0.3, 0.1]) if curve is LOG_LINEAR else np.array([-1.0, 0.5, -0.7, 0.2])
    compute = np.array([1e10, 1e11, 1e12])
    natural = curve.natural(theta, 12.0)
    if curve is LOG_LINEAR:
        wanted = natural[0] + natural[1] * np.log10(compute)
    else:
        low, high, middle, power = natural
        wanted = low + (high - low) / (1 + (middle / compute) ** power)
    assert np.allclose(evaluate(curve, theta[None], np.log10(compute / 1e12))[0], wanted, atol=1e-12)


def test_the_sigmoid_at_no_compute_is_its_lower_level():
    theta = np.array([[-1.0, 0.5, 1.0, np.log(0.15)]])
    at_zero = evaluate(SIGMOID, theta, np.array([-np.inf]))[0, 0]
    assert at_zero == pytest.approx(1 / (1 + np.e), abs=1e-6)


def test_the_sigmoid_is_recovered_where_the_data_hold_its_bend():
    found = by_name(fit(draw(bend(0.2, 0.6, 3e10, 1.5), problems=4000)), "sigmoid")
    assert found.converged and found.starts_agreeing > 0.5
    assert found.parameters["R0"] == pytest.approx(0.2, abs=0.02)
    assert found.parameters["A"] == pytest.approx(0.6, abs=0.02)
    assert found.parameters["C_mid"] == pytest.approx(3e10, rel=0.15)
    assert found.parameters["B"] == pytest.approx(1.5, abs=0.2)


def test_weights_go_to_the_form_that_predicted_the_held_out_points():
    straight, bent = fit(draw(line(0.2, 0.08))), fit(draw(bend(0.2, 0.6, 3e10, 1.5)))
    assert straight.weights[0] > 0.8 and bent.weights[1] > 0.99
    assert sum(straight.weights) == pytest.approx(1)


def test_intervals_of_the_level_cover_about_as_often_as_they_say():
    truth = bend(0.2, 0.7, 1e11, 1.0)
    at = 1e12
    hits = 0
    for seed in range(20):
        mixture = fit(draw(truth, COMPUTE, problems=200, scatter=0.01, seed=seed), replicates=200)
        lo, hi = mixture.quantiles(mixture.predict([at])[..., 0], (0.05, 0.95))
        hits += lo <= truth(at) <= hi
    assert hits >= 15


def test_no_asymptote_is_identified_from_the_lower_half_of_an_s():
    found = by_name(fit(draw(bend(0.1, 0.9, 1e13, 1.0))), "sigmoid")
    lo, hi = np.quantile(SIGMOID.asymptote(found.replicates), [0.05, 0.95])
    assert hi - lo > 0.25


def test_scatter_of_checkpoints_is_found_and_a_smooth_curve_has_none():
    def of(noise: float) -> list[float]:
        return [scatter(draw(line(0.2, 0.08), problems=2000, scatter=noise, seed=s)) for s in range(12)]

    assert np.median(of(0.0)) < 0.005
    assert 0.015 < np.median(of(0.03)) < 0.05


def test_quantiles_of_the_mixture_follow_the_weights():
    mixture = Mixture((), (0.25, 0.75), 0.0)
    values = np.stack([np.zeros(8), np.ones(8)])
    assert mixture.quantiles(values, (0.2, 0.3, 0.95)).tolist() == [0.0, 1.0, 1.0]
    assert mixture.share(values < 0.5) == 0.25
    ramp = np.tile(np.arange(8.0), (2, 1))
    assert mixture.quantiles(ramp[..., None] * [1.0, 2.0], (0.5,)).tolist() == [[3.0, 6.0]]


def test_problems_are_resampled_together():
    """Problems that differ, but move together, leave the gain certain: its interval is far narrower than
    the level's."""
    ease = np.random.default_rng(0).uniform(size=100) < 0.5
    compute = COMPUTE[::2]
    levels = np.linspace(0.2, 0.5, len(compute))
    values = np.clip(levels[:, None] + np.where(ease, 0.3, -0.2), 0, 1)
    mixture = fit(Series(compute, values, np.full(len(compute), 16.0)))
    ends = by_name(mixture, "log-linear").predict(compute[[0, -1]])
    assert np.std(ends[:, 1] - ends[:, 0]) < 0.3 * np.std(ends[:, 1])


def test_the_same_seed_gives_the_same_fit():
    series = draw(line(0.2, 0.05), problems=50)
    first, second = fit(series, seed=3), fit(series, seed=3)
    assert all(np.array_equal(a.replicates, b.replicates) for a, b in zip(first.fits, second.fits, strict=True))


def test_too_few_points_are_refused():
    with pytest.raises(FitError, match="3 points with compute; a fit needs 4"):
        fit(draw(line(0.2, 0.1), COMPUTE[:3]))


def test_degenerate_data_are_fitted_without_a_crash():
    for level in (0.0, 0.5, 1.0):
        series = Series(COMPUTE, np.full((13, 1), level), np.ones(13))
        assert np.isfinite(fit(series).predict([1e13])).all()


def test_training_code_keeps_its_precision():
    fit(draw(line(0.2, 0.05), problems=30))
    assert jnp.ones(1).dtype == jnp.float32 and not jax.config.jax_enable_x64


def test_a_warm_fit_of_all_forms_takes_about_a_second():
    series = draw(bend(0.2, 0.6, 3e10, 1.5))
    fit(series)
    start = time.process_time()
    fit(series, seed=1)
    assert time.process_time() - start < 4, "500 replicates of every form, compiled"
