"""From points to what is fitted."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.series import (
    LOSS_HEADROOM,
    WIDTH,
    Series,
    from_points,
    from_values,
    redrawn,
    relative_noise,
    scatter,
    series_of,
)
from analysis.table import CANONICAL

fractions = st.lists(st.floats(0.01, 0.99), min_size=5, max_size=30)


def grid(points: int, decades: float = 3.0) -> np.ndarray:
    return 10 ** np.linspace(9, 9 + decades, points)


@given(y=fractions, metric=st.sampled_from(["accuracy", "error", "loss"]), counted=st.booleans())
def test_levels_give_the_metric_back(y, metric, counted):
    y = np.array(y) * (3.0 if metric == "loss" else 1.0)
    s = from_points(grid(len(y)), y, metric, np.full(len(y), 50.0) if counted else None)
    np.testing.assert_allclose(s.y, y, atol=1e-12)
    np.testing.assert_allclose(s.to_y(s.level), y, atol=1e-12)
    assert ((s.level >= 0) & (s.level <= 1)).all() and (s.size > 0).all()
    assert s.counted == counted
    better = -1 if metric == "accuracy" else 1
    assert np.sign(s.factor) == better, "a level falls where the model gets better"


def test_a_loss_is_a_share_of_four_times_its_largest():
    s = from_points(grid(6), np.array([4.0, 3, 2.5, 2.2, 2.1, 2.0]), "loss")
    assert s.level[0] == 1 / LOSS_HEADROOM and s.offset == 0


def test_points_are_sorted_and_equal_computes_averaged():
    s = from_points(np.array([4e9, 1e9, 2e9, 2e9, 8e9]), np.array([0.5, 0.1, 0.2, 0.4, 0.6]), "accuracy",
                    np.array([10.0, 20, 30, 50, 40]))  # fmt: skip
    np.testing.assert_allclose(s.compute, [1e9, 2e9, 4e9, 8e9])
    np.testing.assert_allclose(s.y, [0.1, 0.3, 0.5, 0.6])
    assert s.folds[-1] == 0 and s.folds[0] == pytest.approx(-math.log(8))


@settings(deadline=None, max_examples=30)
@given(points=st.integers(WIDTH + 1, 400), zero=st.booleans(), seed=st.integers(0, 99))
def test_thinning_keeps_means_and_adds_no_items(points, zero, seed):
    rng = np.random.default_rng(seed)
    compute = np.sort(10 ** rng.uniform(8, 12, points))
    if zero:
        compute[0] = 0.0
    y = 0.2 + 0.15 * np.log10(np.maximum(compute, 1e8) / 1e8)
    s = from_points(compute, y, "accuracy", np.full(points, 100.0))
    assert len(s.compute) <= WIDTH + zero and (np.diff(s.compute) > 0).all()
    assert (s.compute[0] == 0) == zero
    # A straight line stays one: means of value and of log compute go together.
    np.testing.assert_allclose(s.y[s.inside], 0.2 + 0.15 * np.log10(s.compute[s.inside] / 1e8), atol=1e-9)
    smooth = (s.level * 100 + 1) / 102
    ideal = smooth * (1 - smooth) / (smooth * (1 - smooth) / 100 + s.scatter**2)
    np.testing.assert_allclose(s.size, ideal, rtol=1e-9)


def test_counts_are_sizes():
    n = np.array([30.0, 60, 120, 240, 480])
    s = from_points(grid(5), np.array([0.1, 0.2, 0.4, 0.5, 0.6]), "accuracy", n)
    np.testing.assert_allclose(s.size, n)
    assert s.scatter == 0 and s.counted


def test_without_counts_size_follows_from_scatter_about_neighbours():
    rng = np.random.default_rng(0)
    x = grid(40)
    smooth = 0.7 - 0.1 * np.log10(x / 1e9)
    calm, wild = (from_points(x, smooth * np.exp(s * rng.standard_normal(40)), "error") for s in (0.01, 0.08))
    assert not calm.counted and np.median(calm.size) > 10 * np.median(wild.size)
    assert wild.relative_noise == pytest.approx(0.08, rel=0.5)


def test_noise_is_read_off_and_one_cliff_is_none():
    rng = np.random.default_rng(1)
    x = grid(400)
    level = (0.6 - 0.1 * np.log10(x / 1e9)) * np.exp(0.05 * rng.standard_normal(400))
    assert relative_noise(x, level) == pytest.approx(0.05, rel=0.15)
    cliff = np.where(x > 1e10, 0.2, 0.6)
    assert relative_noise(x, cliff) < 0.05
    assert relative_noise(x[:3], level[:3]) == 0.03


def test_scatter_beyond_the_counts_is_found_and_chance_is_not():
    x, n = grid(40), 4000.0
    truth = 0.7 - 0.4 / (1 + (3e10 / x) ** 1.0)
    found = {}
    for extra in (0.0, 0.03):
        each = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            p = np.clip(truth + extra * rng.standard_normal(40), 0.01, 0.99)
            each.append(scatter(x, rng.binomial(int(n), p) / n, truth * (1 - truth) / n))
        found[extra] = np.array(each)
    assert np.mean(found[0.0] == 0) >= 0.9 and found[0.0].max() < 0.01
    assert np.median(found[0.03]) == pytest.approx(0.03, rel=0.3)
    assert scatter(x[:7], truth[:7], np.full(7, 1e-9)) == 0.0, "seven points do not tell scatter from shape"


def test_problems_that_stand_at_every_point_do_not_pass_for_scatter():
    """Between problems there is much variance, along the curve none of it shows."""
    rng = np.random.default_rng(0)
    ease = rng.beta(0.5, 0.5, size=300)
    values = np.clip(ease + np.linspace(0, 0.1, 14)[:, None], 0, 1)
    s = from_values(grid(14), values, np.full(14, 8.0))
    assert s.scatter == 0.0
    np.testing.assert_allclose(s.y, values.mean(1))
    assert (s.size <= 300 * 8).all() and (s.size >= 300 * 0.9).all()


def test_values_are_sorted_with_their_points():
    values = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    s = from_values(np.array([2e9, 1e9]), values, np.ones(2))
    np.testing.assert_allclose(s.y, [0, 2 / 3])
    assert s.values is not None
    np.testing.assert_array_equal(s.values, 1 - values[::-1])


# Replicates ------------------------------------------------------------------------------------------------


def moments(series: Series, replicates: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    levels, sizes = redrawn(series, replicates, np.random.default_rng(0))
    assert levels.shape == sizes.shape == (replicates, len(series.compute))
    return levels.mean(0), levels.std(0), sizes


@settings(deadline=None, max_examples=20)
@given(n=st.sampled_from([100.0, 1000.0]), y=st.lists(st.floats(0.2, 0.8), min_size=4, max_size=6))
def test_replicates_vary_as_counts_do(n, y):
    s = from_points(grid(len(y)), np.array(y), "accuracy", np.full(len(y), n))
    mean, sd, sizes = moments(s)
    expected = np.sqrt(s.level * (1 - s.level) / n)
    np.testing.assert_allclose(mean, s.level, atol=5 * expected.max() / np.sqrt(4000))
    np.testing.assert_allclose(sd, expected, rtol=0.1)
    np.testing.assert_array_equal(sizes[0], s.size)


def test_replicates_of_problems_move_all_points_together():
    rng = np.random.default_rng(2)
    values = np.repeat(rng.uniform(size=(1, 200)), 5, 0)
    s = from_values(grid(5), values, np.full(5, 64.0))
    levels, _ = redrawn(s, 2000, np.random.default_rng(0))
    np.testing.assert_allclose(levels - levels[:, :1], 0, atol=1e-9)
    np.testing.assert_allclose(levels[:, 0].std(), values[0].std() / np.sqrt(200), rtol=0.1)


def test_seeds_are_redrawn_whole():
    compute, seed = np.tile(grid(4), 3), np.repeat([5, 6, 7], 4)
    s = from_points(compute, np.linspace(0.2, 0.5, 12), "accuracy", np.full(12, 100.0), seed)
    assert s.seed is not None and len(s.compute) == 12
    _, sizes = redrawn(s, 500, np.random.default_rng(0))
    times = sizes / s.size
    np.testing.assert_allclose(times, np.round(times), atol=1e-9)
    for one in (5, 6, 7):
        mine = times[:, s.seed == one]
        np.testing.assert_array_equal(mine, np.repeat(mine[:, :1], 4, 1))
    np.testing.assert_allclose(times.sum(1), 12)


# Canonical frames ------------------------------------------------------------------------------------------


def frame(rows: list[dict]) -> pl.DataFrame:
    usual = {"source": "lab", "group": None, "curve": "run", "seed": None, "problem": None, "unit": "FLOPs",
             "metric": "accuracy", "n": None, "successes": None, "split": "fit"}  # fmt: skip
    return pl.DataFrame([usual | row for row in rows], schema=CANONICAL)


def test_curves_come_in_order_and_names_are_kept():
    rows = [{"curve": c, "source": s, "compute": x, "value": v}
            for s, c in (("b", "z"), ("a", "z"), ("a", "y")) for x, v in ((1e9, 0.1), (2e9, 0.3))]  # fmt: skip
    found = series_of(frame(rows))
    assert [(s.source, s.name) for s in found] == [("b", "z"), ("a", "z"), ("a", "y")]
    assert found[0].unit == "FLOPs" and found[0].metric == "accuracy" and not found[0].counted


def test_holdouts_are_not_seen():
    rows = [{"compute": 10.0**i, "value": 0.1 * i, "n": 100, "split": "holdout" if i > 4 else "fit"}
            for i in range(1, 9)]  # fmt: skip
    (s,) = series_of(frame(rows))
    np.testing.assert_allclose(s.compute, [10, 100, 1000, 10000])
    assert s.counted and s.size[0] == pytest.approx(100)


@pytest.mark.parametrize("metric", ["accuracy", "error"])
def test_problems_are_kept_where_every_point_has_all(metric):
    points = {1e9: {"a": 0.0, "b": 0.25, "c": 0.5}, 4e9: {"a": 0.25, "b": 0.5, "c": 1.0}}
    rows = [{"compute": x, "problem": p, "value": v, "n": 8.0, "metric": metric}
            for x, values in points.items() for p, v in values.items()]  # fmt: skip
    (s,) = series_of(frame(rows))
    assert s.values is not None and s.values.shape == (2, 3)
    np.testing.assert_allclose(s.y, [0.25, 1.75 / 3])
    (short,) = series_of(frame(rows[:-1]))
    assert short.values is None, "a problem is missing at a point"
    np.testing.assert_allclose(short.y, [0.25, 0.375])


def test_problems_without_counts_are_one_draw_each_and_add_up():
    rows = [{"compute": x, "problem": p, "value": float(i % 2), "seed": s}
            for s, names in ((0, "abcd"), (1, "efgh")) for x in (1e9, 2e9, 3e9, 4e9)
            for i, p in enumerate(names)]  # fmt: skip
    (s,) = series_of(frame(rows))
    assert s.values is None and s.seed is not None
    np.testing.assert_array_equal(np.unique(s.seed), [0, 1])
    np.testing.assert_allclose(s.size, 4)
    np.testing.assert_allclose(s.y, 0.5)


def test_seeds_that_answered_the_same_problems_keep_them_in_one_order():
    rows = [{"compute": x + s, "problem": p, "value": 0.1 * i + 0.4 * s, "n": 8.0, "seed": s}
            for s, names in ((0, "abc"), (1, "cba")) for x in (1e9, 2e9) for p in names
            for i in ["abc".index(p)]]  # fmt: skip
    (s,) = series_of(frame(rows))
    assert s.values is not None and s.seed is not None
    np.testing.assert_array_equal(s.seed, [0, 1, 0, 1])
    np.testing.assert_allclose(1 - s.values, [[0, 0.1, 0.2], [0.4, 0.5, 0.6]] * 2)
    np.testing.assert_allclose(s.y, [0.1, 0.5] * 2)


def test_curves_that_the_same_problems_answered_have_them_redrawn_alike():
    rng = np.random.default_rng(3)
    values = rng.uniform(size=(9, 50))
    long, short = (from_values(grid(9)[at:], values[at:], np.full(9 - at, 64.0)) for at in (0, 4))
    assert long.scatter == short.scatter == 0
    one, other = (redrawn(s, 100, np.random.default_rng(i))[0] for i, s in enumerate((long, short)))
    np.testing.assert_allclose(one[:, 4:], other)


def test_seeds_are_kept_apart():
    rows = [{"compute": x, "value": 0.1 * i + 0.02 * (s - 3), "seed": s, "n": 200}
            for s in (3, 4) for i, x in enumerate((1e9, 2e9, 4e9, 8e9))]  # fmt: skip
    (s,) = series_of(frame(rows))
    assert s.seed is not None and len(s.compute) == 8 and (np.diff(s.compute) >= 0).all()
    np.testing.assert_allclose(s.y[np.asarray(s.seed) == 4], [0.02, 0.12, 0.22, 0.32])
    (one,) = series_of(frame([row for row in rows if row["seed"] == 3]))
    assert one.seed is None


def test_losses_have_no_counts():
    rows = [{"compute": 10.0**i, "value": 4.0 / i, "metric": "loss", "n": 1000} for i in range(1, 6)]
    (s,) = series_of(frame(rows))
    assert not s.counted and s.metric == "loss"
    np.testing.assert_allclose(s.y, [4.0 / i for i in range(1, 6)])
