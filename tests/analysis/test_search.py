"""The search against SciPy, against finite differences, and against its own batches."""

from dataclasses import astuple

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from analysis import search as module
from analysis.curves import CURVES, LOG_LINEAR, SIGMOID, Curve, Shape
from analysis.search import Found, levels, search

COLUMNS = 16
U = np.linspace(-6.0, 0.0, COLUMNS)
TRUTH = 0.9 - 0.6 / (1 + np.exp(-1.3 * (U + 3.5)))
ITEMS = 400.0


def observed(seed: int) -> np.ndarray:
    """[C] levels of a bend."""
    return np.random.default_rng(seed).binomial(int(ITEMS), TRUTH) / ITEMS


def problems(curve: Curve, levels_: np.ndarray) -> tuple[np.ndarray, ...]:
    """u, e, size, mean, sd, start: every start on each of levels [R, C]; row r·starts + s."""
    shape = Shape(levels_[:, 0], levels_[:, -3:].mean(1), np.full(len(levels_), 6.0))
    mean, sd = curve.prior(shape)
    start = curve.starts(shape)
    n, s, k = start.shape
    u, size = np.tile(U, (n * s, 1)), np.full((n * s, COLUMNS), ITEMS)
    return u, np.repeat(levels_, s, 0), size, np.repeat(mean, s, 0), np.repeat(sd, s, 0), start.reshape(n * s, k)


def loss(curve: Curve, theta: np.ndarray, row: tuple[np.ndarray, ...]) -> float:
    """Minus the log-posterior, less its bound by the data, as the module's docstring defines it."""
    u, e, size, mean, sd = row
    level = np.asarray(curve.function(theta, u))
    with np.errstate(divide="ignore", invalid="ignore"):
        right = np.where(e < 1, (1 - e) * np.log((1 - e) / (1 - level)), 0)
        terms = np.where(e > 0, e * np.log(e / level), 0) + right
    return float((size * terms).sum() + 0.5 * (((theta - mean) / sd) ** 2).sum())


@pytest.fixture(params=CURVES, ids=lambda curve: curve.name)
def curve(request) -> Curve:
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_best_start_reaches_the_optimum_that_scipy_finds(curve, seed):
    args = problems(curve, observed(seed)[None])
    found = search(curve, *args)
    row = tuple(a[0] for a in args[:5])
    best = int(found.loss.argmin())
    with jax.enable_x64(True):
        fun = jax.jit(lambda theta: _jax_loss(curve, theta, row))
        gradient = jax.jit(jax.grad(lambda theta: _jax_loss(curve, theta, row)))
        starts = [found.theta[best], *args[5]]
        its = [minimize(lambda t: float(fun(t)), s, jac=lambda t: np.asarray(gradient(t)), method="BFGS").fun
               for s in starts]  # fmt: skip
        own = loss(curve, found.theta[best], row)
    assert own == pytest.approx(found.loss[best], abs=1e-9)
    assert found.loss[best] == pytest.approx(min(its), abs=1e-3), f"{found.loss} beside SciPy's {its}"


def _jax_loss(curve: Curve, theta, row):
    u, e, size, mean, sd = row
    level = curve.function(theta, u)
    e = np.clip(e, 1e-12, 1 - 1e-12)
    terms = e * jax.numpy.log(e / level) + (1 - e) * jax.numpy.log((1 - e) / (1 - level))
    return (size * terms).sum() + 0.5 * (((theta - mean) / sd) ** 2).sum()


def chosen(found: Found, rows) -> Found:
    return Found(*(column[rows] for column in astuple(found)))


def same(one: Found, two: Found) -> None:
    for name in Found.__dataclass_fields__:
        a, b = getattr(one, name), getattr(two, name)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8, err_msg=name)


def test_problems_do_not_see_one_another(curve):
    """Alone (padded with copies), among strangers, and in a call of several batches, a problem ends the same."""
    many = problems(curve, np.stack([observed(seed) for seed in range(30)]))
    together = search(curve, *many)
    for row in (0, 7, len(many[0]) - 1):
        same(search(curve, *(a[row : row + 1] for a in many)), chosen(together, slice(row, row + 1)))
    order = np.random.default_rng(0).permutation(len(many[0]))
    same(search(curve, *(a[order] for a in many)), chosen(together, order))


@pytest.mark.slow
def test_the_size_of_a_batch_does_not_matter(curve, monkeypatch):
    many = problems(curve, np.stack([observed(seed) for seed in range(5)]))
    whole = search(curve, *many)
    monkeypatch.setattr(module, "BATCH", 7)
    same(search(curve, *many), whole)


def test_columns_without_weight_do_not_matter_but_have_a_level():
    args = problems(SIGMOID, observed(0)[None])
    rng = np.random.default_rng(1)
    other = args[1].copy()
    other[:, 12:] = rng.uniform(size=other[:, 12:].shape)
    size = args[2].copy()
    size[:, 12:] = 0
    one = search(SIGMOID, args[0], args[1], size, *args[3:])
    two = search(SIGMOID, args[0], other, size, *args[3:])
    same(one, two)
    best = int(one.loss.argmin())
    np.testing.assert_allclose(one.level[best], levels(SIGMOID, one.theta[best][None], U)[0], atol=1e-9)
    assert (one.variance[best, 12:] > one.variance[best, 8]).all(), "what is not seen is known less well"


def test_the_variance_is_that_of_the_numerical_hessian(curve):
    """Levels that lie on the curve: there the expected curvature is the observed one."""
    args = problems(curve, TRUTH[None])
    found = search(curve, *args)
    theta = found.theta[int(found.loss.argmin())]
    with jax.enable_x64(True):
        exact = np.asarray(curve.function(theta, U))
        # On its own curve, and at its prior's centre, theta is the optimum.
        args = (args[0][:1], exact[None], args[2][:1], theta[None], args[4][:1], theta[None])
        found = search(curve, *args)
        row = tuple(a[0] for a in args[:5])
        k, step = len(theta), 1e-4
        steps = np.eye(k) * step
        hessian = np.array([
            [(loss(curve, theta + a + b, row) - loss(curve, theta + a - b, row) - loss(curve, theta - a + b, row)
              + loss(curve, theta - a - b, row)) / (4 * step**2) for b in steps] for a in steps
        ])  # fmt: skip
        slopes = np.array([(np.asarray(curve.function(theta + a, U)) - np.asarray(curve.function(theta - a, U)))
                           / (2 * step) for a in steps])  # fmt: skip
    np.testing.assert_allclose(found.theta[0], theta, atol=1e-6)
    variance = np.einsum("kc,kl,lc->c", slopes, np.linalg.inv(hessian), slopes)
    np.testing.assert_allclose(found.variance[0], variance, rtol=0.02)
    sd = args[4][0]
    log_determinant = np.linalg.slogdet(hessian * sd[:, None] * sd)[1]
    assert found.log_determinant[0] == pytest.approx(log_determinant, abs=0.1)
    assert found.promise[0] < 1e-6 and found.loss[0] < 1e-9


@settings(deadline=None, max_examples=25)
@given(level=st.floats(0.1, 0.9), slope=st.floats(-0.05, 0.05), items=st.sampled_from([30.0, 1000.0, 1e5]))
def test_exact_data_give_their_parameters_back_as_items_grow(level, slope, items):
    e = np.clip(level + slope * U, 0.02, 0.98)
    if not np.allclose(e, level + slope * U):
        return
    sd = np.array([[0.5, 0.15]])
    found = search(LOG_LINEAR, U[None], e[None], np.full((1, COLUMNS), items), np.array([[level, 0.0]]), sd,
                   np.array([[level, -0.02]]))  # fmt: skip
    np.testing.assert_allclose(found.theta[0], [level, slope], atol=0.02 / np.sqrt(items / 30))


def test_levels_are_the_forms_at_any_number_of_places(curve):
    shape = Shape(TRUTH[:1], TRUTH[-1:], np.array([6.0]))
    theta = curve.starts(shape)[0]
    for width in (1, 63, 65):
        u = np.linspace(-4, 4, width)
        with jax.enable_x64(True):
            expected = [np.asarray(curve.function(row, u)) for row in theta]
        np.testing.assert_allclose(levels(curve, theta, u), expected, atol=1e-12)


def test_a_search_is_repeatable(curve):
    args = problems(curve, observed(3)[None])
    one, two = search(curve, *args), search(curve, *args)
    for a, b in zip(astuple(one), astuple(two), strict=True):
        np.testing.assert_array_equal(a, b)
