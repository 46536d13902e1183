"""Fits recover what made the data, know what they do not know, and leave JAX's settings alone."""

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_series import COMPUTE, bend, draw, line

from analysis.arrays import QUANTILES
from analysis.curves import BROKEN, CURVES, EDGE, FAR_LEFT, LOG_LINEAR, M4, POWER, SIGMOID, Shape
from analysis.fit import CurveFit, Fit, FitError, fit_series
from analysis.posterior import FormFit
from analysis.search import levels
from analysis.series import Series, from_points, from_values

LAST = np.log(1e12)
FORMS = pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.name)
LONG = 10 ** np.linspace(10, 13, 25)


def bounded(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high)


THETAS = {
    LOG_LINEAR: st.tuples(bounded(0.3, 0.7), bounded(-0.05, 0.05)),
    POWER: st.tuples(bounded(-1, 2), bounded(-3, -1), bounded(-3, 0)),
    SIGMOID: st.tuples(bounded(0, 2), bounded(-3, 0), bounded(-4, 2), bounded(-2, 1)),
    M4: st.tuples(bounded(0, 2), bounded(-3, 0), bounded(-4, 2), bounded(-2, 0.5), bounded(-1.5, 1.5)),
    BROKEN: st.tuples(
        bounded(-1, 1), bounded(-3, -1), bounded(0.02, 0.3), bounded(-0.2, 0.3), bounded(-5, 0), bounded(-2, 1)
    ),
}
"""θ at which no form is at its edges within the computes that are looked at."""


def formula(curve, p, compute, y):
    """The formula as `Curve.formula` has it, in accuracy; for M4, which is implicit, what must be 0 at y."""
    if curve is LOG_LINEAR:
        return p[0] + p[1] * np.log10(compute)
    if curve is POWER:
        return p[0] - p[1] * compute ** -p[2]
    if curve is SIGMOID:
        return p[0] + (p[1] - p[0]) / (1 + (p[2] / compute) ** p[3])
    if curve is BROKEN:
        return p[0] - p[1] * compute ** -p[2] * (1 + (compute / p[4]) ** (1 / p[5])) ** (-p[3] * p[5])
    y0, end, beta, c, alpha = p
    left = np.log(abs(y - end)) - alpha * np.log(abs(y0 - y))
    return y + left - (np.log(beta) - c * np.log(compute))


@FORMS
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_form_equals_its_formula(curve, data):
    """`function` in θ and e-folds, against the formula in `natural` parameters, FLOPs and accuracy."""
    theta = np.array(data.draw(THETAS[curve]))
    compute = np.array([1e11, 2e11, 5e11, 1e12, 2e12])
    y = 1 - levels(curve, theta[None], np.log(compute) - LAST)[0]
    if curve is M4:  # where an end is met to the last digits, its logarithm says nothing
        y0, end, *_ = curve.natural(theta, LAST, 1.0, -1.0)
        compute, y = (a[(np.abs(y - end) > 1e-4) & (np.abs(y - y0) > 1e-4)] for a in (compute, y))
    wanted = formula(curve, curve.natural(theta, LAST, 1.0, -1.0), compute, y)
    inside = (y > 2 * EDGE) & (y < 1 - 2 * EDGE)
    assert wanted[inside] == pytest.approx(y[inside], abs=1e-5 if curve is M4 else 1e-8)


@pytest.mark.parametrize("curve", [c for c in CURVES if c.limit is not None], ids=lambda c: c.name)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_limit_is_the_value_far_out(curve, data):
    theta = np.array(data.draw(THETAS[curve]))
    if curve is BROKEN:
        theta[3] = max(theta[3], 0.02 - theta[2])  # a net exponent of next to 0 takes forever
    far = levels(curve, theta[None], np.array([2000.0]))[0, 0]
    assert far == pytest.approx(float(curve.limit(theta)), abs=1e-4)


@pytest.mark.parametrize("curve", [c for c in CURVES if c.at_zero], ids=lambda c: c.name)
def test_at_no_compute_a_form_is_at_its_start(curve):
    theta = curve.starts(Shape(np.array([0.8]), np.array([0.4]), np.array([6.0])))[0, :1]
    assert levels(curve, theta, np.array([FAR_LEFT]))[0, 0] == pytest.approx(0.8, abs=1e-4)


def scaled(series: Series, factor: float) -> Series:
    return from_points(series.compute, factor * series.y, "loss", name="scaled")


def loss() -> Series:
    noise = np.random.default_rng(0).standard_normal(len(COMPUTE))
    return from_points(COMPUTE, 2.1 + 900 * COMPUTE**-0.28 * np.exp(0.01 * noise), "loss", name="loss")


def flat(level: float) -> Series:
    return from_points(COMPUTE, np.full(13, level), "accuracy", np.full(13, 50.0), name=f"all {level}")


def late_rise(c: float) -> float:
    x = np.log10(c) - 10
    return 0.3 + 0.05 * x if x < 2 else 0.4 + 0.3 * (x - 2)


def two_regimes(c: float) -> float:
    """Falls by a quarter in the first decade, then rises slowly from there on."""
    x = np.log10(c) - 10
    return 0.9 - 0.25 * x if x < 1 else 0.65 + 0.1 * (x - 1)


def seeds(spread: float) -> Series:
    """Three seeds, whose curves lie `spread` apart."""
    compute, seed = np.tile(COMPUTE, 3), np.repeat([0, 1, 2], len(COMPUTE))
    y = 0.2 + 0.08 * (np.log10(compute) - 9.5) + spread * (seed - 1)
    return from_points(compute, y, "accuracy", np.full(len(y), 5000.0), seed, name=f"seeds {spread}")


def together(joint: bool) -> Series:
    """Problems that differ and move together, known one by one or only in the mean."""
    ease = np.random.default_rng(0).uniform(size=100) < 0.5
    values = np.clip(np.linspace(0.2, 0.5, 7)[:, None] + np.where(ease, 0.3, -0.19), 0, 1)
    if joint:
        return from_values(COMPUTE[::2], values, np.full(7, 16.0), name="together")
    return from_points(COMPUTE[::2], values.mean(1), "accuracy", np.full(7, 100.0), name="apart")


@pytest.fixture(scope="module")
def fits() -> dict[str, CurveFit]:
    made = {
        "sigmoid": draw(bend(0.2, 0.6, 3e10, 1.5), problems=4000),
        "steady": draw(line(0.2, 0.08), LONG, zero=False, problems=1000),
        "late": draw(late_rise, LONG, zero=False, problems=1000),
        "regimes": draw(two_regimes, LONG, zero=False, problems=2000),
        "lower half": draw(bend(0.1, 0.9, 1e13, 1.0)),
        "loss": loss(),
        "seven": scaled(loss(), 7.0),
        "joint": together(True),
        "apart": together(False),
        "same seeds": seeds(0.0),
        "unlike seeds": seeds(0.04),
        "short": draw(line(0.2, 0.1), COMPUTE[:3]),
        "none": flat(0.0),
        "half": flat(0.5),
        "all": flat(1.0),
    }
    return dict(zip(made, fit_series(list(made.values()), replicates=100), strict=True))


def form(found: CurveFit, name: str) -> FormFit:
    assert found.forecast is not None
    return next(f for f in found.forecast.posterior.fits if f.curve.name == name)


def test_the_sigmoid_is_recovered_where_the_data_hold_its_bend(fits):
    found = form(fits["sigmoid"], "sigmoid")
    assert found.converged and found.starts_agreeing >= 0.5 and found.weight > 0.5
    assert found.parameters["y0"] == pytest.approx(0.2, abs=0.02)
    assert found.parameters["y∞"] == pytest.approx(0.6, abs=0.02)
    assert found.parameters["C_mid"] == pytest.approx(3e10, rel=0.15)
    assert found.parameters["B"] == pytest.approx(1.5, abs=0.2)


def test_no_asymptote_is_identified_from_the_lower_half_of_an_s(fits):
    lo, hi = np.quantile(SIGMOID.limit(form(fits["lower half"], "sigmoid").replicates), [0.05, 0.95])
    assert hi - lo > 0.25


def test_a_late_second_rise_lowers_the_belief_in_the_forms_and_widens_what_is_forecast(fits):
    """Forecasts from before the rise missed it, so the guarded view drifts further than on a steady curve."""
    late, steady = fits["late"].forecast, fits["steady"].forecast
    assert late.drift > 2 * steady.drift
    surprised, usual = (
        sum(float(np.mean(((o.seen - o.mean) ** 2) / (o.variance + o.noise))) for o in f.posterior.origins)
        for f in (late, steady)
    )
    assert surprised > 3 * usual


def test_an_earlier_regime_is_left_out_and_named(fits):
    found = fits["regimes"]
    cut = found.forecast.posterior.cut
    assert 0 < LONG[cut] <= 10**11.1 and found.forecast.posterior.cut_evidence > 0
    assert found.answer.regime_from == pytest.approx(LONG[cut])
    assert fits["steady"].forecast.posterior.cut == 0 and fits["steady"].answer.regime_from is None


def test_problems_that_move_together_leave_the_gain_certain(fits):
    """Redrawn jointly, the gain's spread is a small part of what redrawing every point gives."""

    def spread(found: CurveFit) -> float:
        ends = levels(LOG_LINEAR, form(found, "log-linear").replicates, np.log(COMPUTE[[0, -1]] / COMPUTE[-1]))
        return float(np.std(ends[:, 1] - ends[:, 0]))

    assert spread(fits["joint"]) < 0.4 * spread(fits["apart"])


def test_seeds_that_differ_widen_what_is_known(fits):
    def spread(found: CurveFit) -> float:
        lo, _, _, _, hi = found.quantiles(COMPUTE[-1:])
        return float(hi[0] - lo[0])

    assert spread(fits["unlike seeds"]) > 2 * spread(fits["same seeds"])


@pytest.mark.parametrize("name", ["none", "half", "all"])
def test_degenerate_data_are_fitted_without_a_crash(fits, name):
    found = fits[name].quantiles([1e12, 1e13, 1e14])
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
    assert found[2] == pytest.approx({"none": 0.0, "half": 0.5, "all": 1.0}[name], abs=0.15)


def test_too_few_points_have_no_forecast_and_say_why(fits):
    found = fits["short"]
    assert found.forecast is None and found.answer.verdict == "cannot tell"
    assert found.answer.reason == "3 points with compute; a fit needs 4"
    with pytest.raises(FitError, match="3 points with compute; a fit needs 4"):
        found.quantiles([1e13])


def test_a_loss_is_free_of_its_scale(fits):
    at = [1e11, 1e12, 1e13]
    assert fits["seven"].quantiles(at) == pytest.approx(7 * fits["loss"].quantiles(at), rel=1e-6)
    one, seven = fits["loss"].answer, fits["seven"].answer
    assert (seven.verdict, seven.probability) == (one.verdict, one.probability)
    assert seven.gain_10x.median == pytest.approx(7 * one.gain_10x.median, rel=1e-6)


def test_quantiles_are_in_order_and_of_the_metric(fits):
    for name in ("sigmoid", "loss"):
        found = fits[name].quantiles(np.geomspace(1e10, 2e13, 100))
        assert found.shape == (len(QUANTILES), 100) and (np.diff(found, axis=0) >= 0).all()
    assert fits["sigmoid"].quantiles([1e10])[2, 0] < 0.4 < fits["sigmoid"].quantiles([1e12])[2, 0]
    assert fits["loss"].quantiles([1e10])[2, 0] > 3 > fits["loss"].quantiles([1e12])[2, 0]


def test_an_observation_is_less_certain_than_its_level(fits):
    at = [3e12]
    level, many, few = (fits["sigmoid"].quantiles(at, n)[:, 0] for n in (None, [1000], [20]))
    assert level[-1] - level[0] < many[-1] - many[0] < few[-1] - few[0]


def test_the_past_is_the_data_and_order_does_not_matter(fits):
    found = fits["sigmoid"]
    assert found.quantiles(COMPUTE)[2] == pytest.approx(found.series.y[1:], abs=0.02)
    assert found.quantiles([1e13, 1e11, 1e12])[:, 0] == pytest.approx(found.quantiles([1e13])[:, 0])


def test_tables_have_a_row_a_curve_and_compute(fits):
    found = Fit((fits["sigmoid"], fits["short"], fits["loss"]))
    table = found.predict([1e12, 1e13])
    assert table.shape == (4, 8) and table["lo90"].le(table["hi90"]).all()
    answers = found.saturation()
    assert len(answers) == 3 and answers["gain_10x"].is_null().to_list() == [False, True, False]
    assert answers.schema["gain_10x_lo90"] == pl.Float64


def test_the_same_seed_gives_the_same_fit_and_another_does_not():
    series = [draw(line(0.2, 0.05), problems=50)]
    first, second, other = (fit_series(series, replicates=20, seed=s)[0].forecast for s in (3, 3, 4))
    assert np.array_equal(first.paths([1e13]), second.paths([1e13]))
    assert not np.array_equal(first.paths([1e13]), other.paths([1e13]))


def test_training_code_keeps_its_precision(fits):
    assert jnp.ones(1).dtype == jnp.float32 and not jax.config.jax_enable_x64
