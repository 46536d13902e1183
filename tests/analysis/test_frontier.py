"""The surface over both computes, its lines of equal accuracy, the exchange along them, and the best split."""

import functools
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from synthetic_runs import saturated, write_run

from analysis import load
from analysis.estimators import effective_size
from analysis.frontier import MIN_GAIN, best_split, exchange_rate
from analysis.frontier_plot import plot_frontier
from analysis.series import FitError
from analysis.surface import FORMS, PRIOR_DEVIATION, PRIOR_MEAN, Points, Surface, surface

TRAIN, TEST = 10 ** np.linspace(10, 12.8, 15), 10 ** np.linspace(6, 8, 6)


def hex_like(train, test, rate=15.0, top=0.9):
    """Jones's finding (arXiv 2104.03113): a sigmoid in one sum of logarithms, so `rate` holds everywhere."""
    place = np.log10(train) - 11.5 + (np.log10(test) - 7) / np.log10(rate)
    return 0.02 + (top - 0.02) / (1 + np.exp(-1.6 * place))


def straight(train, test):
    return 0.1 + 0.15 * np.log10(train / 1e10) + 0.1 * np.log10(test / 1e6)


def only_train(train, test):
    return 0.1 + 0.6 / (1 + np.exp(-2 * np.log10(train / 3e11))) + 0 * test


def grid():
    return tuple(a.ravel() for a in np.meshgrid(TRAIN, TEST, indexing="ij"))


def draw(truth, problems=400, samples=8, scatter=0.0, seed=0) -> Points:
    rng = np.random.default_rng(seed)
    train, test = grid()
    ease = rng.uniform(size=problems)
    moved = np.repeat(scatter * rng.standard_normal(len(TRAIN)), len(TEST))
    levels = np.clip(truth(train, test) + moved, 0.01, 0.99)[:, None]
    values = rng.binomial(samples, beta.ppf(ease, 1.5 * levels, 1.5 * (1 - levels))) / samples
    return Points(train, test, values.mean(1), np.array([effective_size(v, samples) for v in values]), values)


@functools.cache
def fitted(truth=hex_like) -> Surface:
    return surface(draw(truth))


def of(thetas: tuple[np.ndarray, ...], weights: tuple[float, ...]) -> Surface:
    """A surface whose every replicate is its best fit."""
    replicates = tuple(np.tile(theta, (3, 1)) for theta in thetas)
    return Surface((10.0, 6.0), (12.8, 8.0), thetas, weights, (True,) * 3, replicates, 0.0, 0.0)


def surfaces() -> st.SearchStrategy[Surface]:
    """Any parameters within three deviations of the prior, any weights."""
    unit = st.lists(st.floats(-3, 3), min_size=3 * 9, max_size=3 * 9)
    share = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)

    def build(z: list[float], w: list[float]) -> Surface:
        prior = [np.array([*a[:3], *a[3:] * 6]) for a in (PRIOR_MEAN, PRIOR_DEVIATION)]
        thetas = [prior[0] + prior[1] * row for row in np.reshape(z, (3, 9))]
        return of(tuple(t[:k] for t, k in zip(thetas, (7, 9, 7), strict=True)), tuple(np.array(w) / sum(w)))

    return st.builds(build, unit, share)


@settings(max_examples=60, deadline=None)
@given(surfaces())
def test_more_of_either_compute_is_never_worse_in_the_stated_range(any_surface):
    least, most = any_surface.reach()
    train, test = (np.geomspace(a, b, 25) for a, b in zip(least, most, strict=True))
    accuracy = any_surface.best(train[:, None], test[None])
    assert np.all((accuracy >= 0) & (accuracy <= 1))
    assert np.diff(accuracy, axis=0).min() >= -1e-12 and np.diff(accuracy, axis=1).min() >= -1e-12


@settings(max_examples=40, deadline=None)
@given(surfaces(), st.floats(0.05, 0.95))
def test_a_line_of_equal_accuracy_is_one_and_has_no_gaps(any_surface, level):
    least, most = any_surface.reach()
    test = np.geomspace(least[1], most[1], 30)
    train = any_surface.iso([level], test)[0]
    reached = (any_surface.best(least[0], test) <= level) & (level <= any_surface.best(most[0], test))
    assert np.array_equal(np.isfinite(train), reached)
    assert any_surface.best(train[reached], test[reached]) == pytest.approx(level, abs=1e-9)
    assert np.all(np.diff(train[reached]) <= 1e-6 * train[reached][1:])


def test_the_surface_is_recovered_within_what_the_problems_allow():
    found, (train, test) = fitted(), grid()
    assert all(found.converged)
    assert np.abs(found.best(train, test) - hex_like(train, test)).max() < 0.05
    lo, hi = np.quantile(found.predict(train, test), (0.005, 0.995), axis=0)
    truth = hex_like(train, test)
    assert np.mean((lo <= truth) & (truth <= hi)) > 0.9


def test_a_straight_truth_is_given_to_the_form_without_a_ceiling():
    weights = dict(zip((form.name for form in FORMS), fitted(straight).weights, strict=True))
    assert weights["log-linear"] > 0.7
    assert dict(zip(weights, fitted().weights, strict=True))["log-linear"] < 0.05


def test_outside_ten_times_the_data_nothing_is_stated():
    found = fitted()
    far = found.best([1e8, 1e11, 1e11, 1e15], [1e7, 1e4, 1e10, 1e7])
    assert np.isnan(far).all() and np.isnan(found.predict(1e15, 1e7)).all()
    least, most = found.reach()
    assert np.isfinite(found.best([least[0], most[0]], [least[1], most[1]])).all()
    assert np.isnan(found.iso([0.999], [1e7])).all()


@pytest.mark.parametrize(("rate", "seed"), [(3.0, 0), (15.0, 1), (200.0, 2)])
def test_the_exchange_rate_is_recovered(rate, seed):
    points = draw(functools.partial(hex_like, rate=rate), scatter=0.01, seed=seed)
    found = exchange_rate(surface(points)).rate
    assert found is not None
    assert found.lo90 / 1.1 <= rate <= found.hi90 * 1.1
    assert found.lo90 < found.median < found.hi90 and found.median == pytest.approx(rate, rel=0.35)


def test_the_rate_of_a_straight_surface_is_its_ratio_of_slopes():
    found = exchange_rate(fitted(straight)).rate
    assert found is not None and found.median == pytest.approx(10**1.5, rel=0.15)


@pytest.mark.slow
def test_an_interval_of_the_rate_covers_about_as_often_as_it_says():
    hits = 0
    for seed in range(20):
        points = draw(hex_like, problems=150, scatter=0.01, seed=seed)
        rate = exchange_rate(surface(points, replicates=100)).rate
        hits += rate is not None and rate.lo90 <= 15 <= rate.hi90
    assert hits >= 15, f"the 90% interval held the true rate {hits} times of 20"


def test_rates_are_measured_on_lines_inside_the_data():
    found = fitted()
    for line in exchange_rate(found).lines:
        for train, test in (line.start, line.end):
            assert found.best(train, test) == pytest.approx(line.accuracy, abs=1e-3)
            assert TRAIN[0] * (1 - 1e-9) <= train <= TRAIN[-1] * (1 + 1e-9)
            assert TEST[0] * (1 - 1e-9) <= test <= TEST[-1] * (1 + 1e-9)
        down, right = line.start[1] / line.end[1], line.end[0] / line.start[0]
        assert line.rate == pytest.approx(10 ** (np.log10(down) / np.log10(right)))


@pytest.mark.parametrize("flat", ["test", "train"])
def test_no_rate_where_an_axis_adds_nothing(flat):
    truth = only_train if flat == "test" else lambda train, test: only_train(test * 1e4, train)
    found = exchange_rate(surface(draw(truth, scatter=0.005)))
    assert found.rate is None
    assert found.reason.startswith(f"P({flat} compute adds {100 * MIN_GAIN:.0f} points across the data) is")


@settings(max_examples=15, deadline=None)
@given(st.floats(2, 8), st.floats(9, 16))
def test_the_best_split_spends_the_total_and_beats_every_other(answers, total):
    answers, total, found = 10**answers, 10**total, fitted()
    row = best_split(found, answers, total).row(0, named=True)
    least, most = found.reach()
    test = np.unique(np.concatenate([np.geomspace(least[1], most[1], 999), (total - np.geomspace(
        least[0], most[0], 999)) / answers]))  # fmt: skip
    train = total - answers * test
    allowed = (train >= least[0]) & (train <= most[0]) & (test >= least[1]) & (test <= most[1])
    if row["train"] is None:
        assert not allowed.any()
        return
    assert row["train"] + answers * row["test"] == pytest.approx(total, rel=1e-9)
    assert row["test_share"] == pytest.approx(answers * row["test"] / total)
    assert row["lo90"] <= row["hi90"] and row["share_lo90"] <= row["share_hi90"]
    if allowed.any():
        assert row["accuracy"] >= np.nanmax(found.best(train[allowed], test[allowed])) - 1e-9


def test_the_best_split_is_where_calculus_puts_it():
    """Of a sigmoid in log C + log c / log10(rate), the share of test compute is 1/(1 + log10(rate))."""
    table = best_split(fitted(), 1e5, [1e12, 3e12, 1e13])
    assert table["test_share"].to_numpy() == pytest.approx(1 / (1 + np.log10(15)), abs=0.04)
    assert not table["at_border"].any() and table["extrapolated"].to_list() == [False] * 3
    assert table["accuracy"].is_sorted()
    inside = table.filter(pl.col("test_share").is_between("share_lo90", "share_hi90"))
    assert len(inside) >= 2


def test_an_optimum_at_the_end_of_the_stated_range_is_marked():
    table = best_split(fitted(only_train), 1e6, [1e12, 1e30])
    # Thinking adds nothing there, so it is given as little as it can be.
    assert table["at_border"].to_list() == [True, None]
    assert table["test"][0] == pytest.approx(TEST[0] / 10) and table["train"][1] is None


def test_problems_are_redrawn_together():
    """The same problems stand at every point: a gain is far more certain than a level."""
    top, low = fitted().predict([TRAIN[10], TRAIN[7]], [TEST[3], TEST[3]]).T
    assert np.std(top - low) < 0.5 * np.std(top)


def test_scatter_of_checkpoints_is_found_and_widens_intervals():
    calm, shaken = (surface(draw(hex_like, seed=3, scatter=s)) for s in (0.0, 0.03))
    assert calm.scatter < 0.01 < shaken.scatter < 0.06
    widths = [np.log(r.hi90 / r.lo90) for s in (calm, shaken) if (r := exchange_rate(s).rate)]
    assert widths[1] > 1.5 * widths[0]


def test_a_plain_table_of_items_answered_once_is_enough():
    train, test = grid()
    n = np.full(len(train), 500)
    accuracy = np.random.default_rng(0).binomial(n, hex_like(train, test)) / n
    order = np.random.default_rng(1).permutation(len(train))
    rate = exchange_rate(surface(Points(train[order], test[order], accuracy[order], n[order]))).rate
    assert rate is not None and rate.median == pytest.approx(15, rel=0.3)


@pytest.fixture(scope="module")
def estimates(tmp_path_factory) -> pl.DataFrame:
    return load.estimates(write_run(tmp_path_factory.mktemp("runs") / "run", saturated, problems=100).path)


def test_a_run_is_read_from_its_estimates(estimates):
    frame = estimates.filter(estimator="mean", phase="rl")
    points = Points.from_estimates(frame)
    assert points.values is not None and points.values.shape == (len(frame), 100)
    assert np.allclose(points.values.mean(1), points.accuracy)
    assert exchange_rate(surface(points, replicates=50)).lines


def test_the_same_seed_gives_the_same_surface():
    points = draw(hex_like, problems=60)
    first, again, other = (surface(points, seed=s, replicates=20) for s in (3, 3, 4))
    for a, b, c in zip(first.replicates, again.replicates, other.replicates, strict=True):
        assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert all(np.array_equal(a, b) for a, b in zip(first.thetas, other.thetas, strict=True))


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_degenerate_data_are_fitted_without_a_crash(level):
    train, test = grid()
    points = Points(train, test, np.full(len(train), level), np.full(len(train), 50.0))
    found = surface(points, replicates=10)
    assert np.abs(found.best(train, test) - level).max() < 0.05
    assert exchange_rate(found).rate is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": [0.0]}, "a logarithm has no place"),
        ({"test": [np.nan]}, "finite"),
        ({"n": [0.0]}, "above 0"),
        ({"accuracy": [1.2]}, "between 0 and 1"),
        ({"accuracy": [np.nan]}, "between 0 and 1"),
        ({"train": [1e10, 1e11]}, "one number a point each"),
        ({"values": np.ones((2, 5))}, r"values must be \[1, problems\], not \[2, 5\]"),
    ],
)
def test_bad_points_are_refused_by_name(change, message):
    right = {"train": [1e10], "test": [1e6], "accuracy": [0.5], "n": [100.0]}
    with pytest.raises(FitError, match=message):
        Points(**{name: np.asarray(value) for name, value in (right | change).items()})


def test_bad_tables_are_refused(estimates):
    with pytest.raises(FitError, match="one estimator at a time, not maj, mean, pass"):
        Points.from_estimates(estimates)
    few = [1e10, 1e11], [1e6, 1e7], [0.1, 0.2], [9.0, 9.0]
    with pytest.raises(FitError, match="2 points; a surface needs 8"):
        surface(Points(*map(np.array, few)))
    train, test = grid()
    with pytest.raises(FitError, match="the same test compute"):
        surface(Points(train, 0 * test + 1e6, 0 * test + 0.5, 0 * test + 9))
    for answers, total in ((0, 1e12), (1e5, -1.0), (np.nan, 1e12)):
        with pytest.raises(ValueError, match="finite and above 0"):
            best_split(fitted(), answers, total)


def test_the_map_says_the_rate_and_marks_what_is_extrapolated():
    spec = plot_frontier(fitted(), draw(hex_like)).to_dict()
    text = json.dumps(spec, ensure_ascii=False)
    assert "10× train compute is worth 1" in text and "paler: extrapolated" in text
    assert len(text) < 600_000
    lines = [row for table in spec["datasets"].values() for row in table if "level" in row]
    assert {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8} <= {round(row["level"], 6) for row in lines}
    at = np.array([[row["x"], row["y"], row["level"]] for row in lines]).T
    assert fitted().best(10 ** at[0], 10 ** at[1]) == pytest.approx(at[2], abs=1e-9)


def test_the_map_of_a_flat_axis_says_why_there_is_no_rate():
    text = json.dumps(plot_frontier(fitted(only_train), draw(only_train)).to_dict())
    assert "no exchange rate is identified" in text and "P(test compute adds 2 points" in text
