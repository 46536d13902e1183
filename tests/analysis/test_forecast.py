"""Where curves go: laws of the two views and of their mixture."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.calibration import NONE, Calibration
from analysis.forecast import (
    DAMPING,
    FURTHEST,
    GROWTH,
    PATHS,
    USUAL_DRIFT,
    Forecast,
    _guarded_at,
    drift,
    forecast,
    guarded_mean,
    log_ratio,
    refutation,
    trend_variance,
)
from analysis.posterior import Posterior, posteriors
from analysis.series import from_points

X = 10 ** np.linspace(9, 12, 14)
REACHES = 10 ** np.array([12.1, 12.3, 12.5, 13.0, 14.0])


def bend(x):
    return 0.1 + 0.6 / (1 + 10 ** (-1.4 * (x - 1.2)))


def line(x):
    return 0.15 + 0.12 * x


def surprise(x):
    """A plateau, then a rise that no form foresaw before it began."""
    return 0.2 + 0.35 * np.clip(x - 2.3, 0, None)


def made(truth, n=2000, counted=True, metric="accuracy", seed=0):
    y = np.random.default_rng(seed).binomial(n, truth(np.log10(X / 1e9))) / n
    y = y if metric == "accuracy" else 2 * (1 - y)
    return from_points(X, y, metric, np.full(len(X), float(n)) if counted else None)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Posterior]:
    every = {
        "bend": made(bend),
        "line": made(line),
        "surprise": made(surprise),
        "few": made(bend, n=50),
        "uncounted": made(bend, counted=False),
        "loss": made(bend, metric="loss", counted=False),
    }
    return dict(zip(every, posteriors(list(every.values()), 60), strict=True))


@pytest.fixture(scope="module")
def paths(fitted) -> dict[str, Forecast]:
    return {name: forecast(posterior, NONE) for name, posterior in fitted.items()}


def width(levels: np.ndarray) -> np.ndarray:
    low, high = np.quantile(levels, (0.05, 0.95), axis=0)
    return high - low


NAMES = ("bend", "line", "surprise", "few", "uncounted", "loss")


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_levels(paths, name):
    f = paths[name]
    for at in (X, REACHES, np.r_[0.0, X[:2]]):
        levels = f.paths(at)
        assert levels.shape == (PATHS, len(at))
        assert ((levels >= 0) & (levels <= 1)).all()
    limits = f.limits()
    assert limits.shape == (PATHS,) and ((limits >= 0) & (limits <= 1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_within_the_data_both_views_are_the_posterior_and_follow_the_points(paths, name):
    f = paths[name]
    levels = f.paths(X[:-1])
    folds = f.folds(X[:-1])
    drawn = f.posterior.levels(folds)[f.picks[:, 0], f.picks[:, 1]]
    # g and back; a calibration of 1 changes nothing.
    np.testing.assert_allclose(levels, np.clip(drawn, 0, 1), atol=1e-9)
    sd = np.sqrt(f.series.level * (1 - f.series.level) / f.series.size)[:-1]
    kept = slice(f.posterior.cut, None)
    gap = np.abs(np.median(levels, 0) - f.series.level[:-1])
    assert (gap[kept] < 4 * sd[kept] + 0.01).all()


@pytest.mark.parametrize("name", NAMES)
def test_quantiles_widen_with_reach(paths, name):
    """In g; in levels a curve near 0 may narrow as it falls."""
    f = paths[name]
    g = np.log(f.paths(REACHES) + (0.005 if name == "loss" else 0.02))
    wide = width(g)
    assert (np.diff(wide) > -0.05 * wide[:-1]).all() and wide[-1] > wide[0]


@pytest.mark.parametrize("name", ["uncounted", "loss"])
def test_a_factor_of_two_doubles_widths_of_curves_without_counts(fitted, name):
    assert not fitted[name].series.counted
    one, two = (forecast(fitted[name], Calibration(factors=(f,))) for f in (1.0, 2.0))
    offset = 0.005 if name == "loss" else 0.02
    at = REACHES[:3]
    a, b = (np.log(f.paths(at) + offset) for f in (one, two))
    inside = (two.paths(at) > 0).all(0) & (two.paths(at) < 1).all(0)
    assert inside.any()
    np.testing.assert_allclose(np.median(a, 0), np.median(b, 0), atol=1e-9)
    np.testing.assert_allclose(width(b)[inside], 2 * width(a)[inside], rtol=1e-9)


def test_counted_curves_are_widened_by_the_guarded_views_share(fitted):
    one, two = (forecast(fitted["bend"], Calibration(factors=(f,))) for f in (1.0, 2.0))
    belief = float(one.belief(one.folds(REACHES[:1]))[0])
    assert 0.5 < belief < 1
    a, b = (width(np.log(f.paths(REACHES[:1]) + 0.02))[0] for f in (one, two))
    assert b / a == pytest.approx(2 ** (1 - belief), rel=1e-6)


def test_belief_falls_when_the_past_was_misforecast(fitted, paths):
    assert log_ratio(fitted["surprise"]) < log_ratio(fitted["bend"])
    assert paths["surprise"].odds < paths["bend"].odds
    assert paths["surprise"].skill < paths["bend"].skill
    # The same curve, with a past that came otherwise than the forms had said.
    p = fitted["bend"]
    off = [replace(o, seen=np.exp(_guarded_at(p, o)) - 0.02) for o in p.origins]
    met = [replace(o, seen=o.mean) for o in p.origins]
    worse, better = replace(p, origins=tuple(off)), replace(p, origins=tuple(met))
    assert log_ratio(worse) < log_ratio(better)
    assert forecast(worse, NONE).odds < forecast(better, NONE).odds
    assert drift(worse) < drift(p), "the guarded view met all of it"


def test_misfits_beyond_chance_take_the_belief(fitted):
    """Points that counts of thousands cannot have strewn so: every form would take the noise for shape."""
    assert refutation(fitted["bend"]) > -3
    y = 0.4 + np.where(np.arange(14) % 2, 0.1, -0.1)
    strewn = replace(made(bend), level=1 - y, size=np.full(14, 2000.0))
    (p,) = posteriors([strewn], 10)
    assert refutation(p) < -50
    assert (forecast(p, NONE).belief(np.array([0.5, 2.0])) < 1e-6).all()


def test_shocks_are_as_wide_at_90_percent_as_normal_ones_and_wider_beyond(paths):
    low, high = np.quantile(np.concatenate([forecast(paths["bend"].posterior, NONE, s).shocks for s in range(20)]),
                            (0.05, 0.95))  # fmt: skip
    assert low == pytest.approx(-1.645, abs=0.08) and high == pytest.approx(1.645, abs=0.08)
    assert np.abs(paths["bend"].shocks).max() > 4


def test_belief_falls_with_reach_and_is_none_without_counts(paths):
    f = paths["bend"]
    belief = f.belief(np.array([0.0, 2.0, 5.0, 8.0, 30.0]))
    assert (np.diff(belief) < 0).all() and belief[-1] < 1e-6 and belief[0] > 0.8
    assert (paths["uncounted"].belief(np.array([0.0, 5.0])) < 1e-100).all()


def test_every_form_has_its_share_of_the_paths(paths):
    f = paths["bend"]
    share = np.bincount(f.picks[:, 0], minlength=5) / PATHS
    np.testing.assert_allclose(share, f.posterior.weights, atol=1.5 / PATHS)
    np.testing.assert_allclose(np.sort(f.turns), (np.arange(PATHS) + 0.5) / PATHS)
    # In each view, too: turns do not depend on forms.
    early = f.turns < 0.3
    np.testing.assert_allclose(np.bincount(f.picks[early, 0], minlength=5) / early.sum(), share, atol=0.08)


def test_without_a_past_the_drift_is_the_usual(fitted):
    assert drift(replace(fitted["bend"], origins=())) == pytest.approx(USUAL_DRIFT)
    assert log_ratio(replace(fitted["bend"], origins=())) == 0
    assert drift(fitted["surprise"]) > USUAL_DRIFT


def test_the_drift_grows_as_documented_and_stops(paths):
    f = paths["bend"]
    reach = np.array([-1.0, 0.0, 0.01, 0.2, 1.0, FURTHEST, 50.0])
    tau = f.drift
    expected = tau * np.array([0, 0, 0.2**GROWTH, 0.2**GROWTH, 1, FURTHEST**GROWTH, FURTHEST**GROWTH])
    np.testing.assert_allclose(f._drifted(reach), expected)


def test_the_guarded_mean_continues_the_data_and_does_not_run_away(fitted):
    for name in ("bend", "line", "surprise"):
        p = fitted[name]
        s = p.series
        at = np.array([0.0, 1.0, 2.3])
        g = guarded_mean(p, at)
        assert np.exp(g[0]) - 0.02 == pytest.approx(s.level[-3:].mean(), abs=0.06)
        u, logs = s.folds, np.log(s.level)
        slope = np.polyfit(u[u >= u[0] * 0.5], logs[u >= u[0] * 0.5], 1)[0]
        steepest = min(np.polyfit(u[u >= u[0] * w], logs[u >= u[0] * w], 1)[0] for w in (0.7, 0.5, 0.35))
        assert slope < 0
        fall = np.log(np.exp(g[2]) - 0.02) - np.log(np.exp(g[0]) - 0.02)
        assert 2.3 * 1.25 * steepest - 0.05 < fall < 0.02


def test_noise_of_a_trend_is_that_of_least_squares(fitted):
    """By simulation: slopes of lines through noise alone."""
    s = fitted["bend"].series
    u = s.folds[s.folds >= s.folds[0] * 0.5]
    noise = s.relative_noise
    at = np.array([0.0, 3.0])
    draws = np.random.default_rng(0).standard_normal((4000, len(u))) * noise
    lines = [np.polyfit(u, d, 1) for d in draws]
    simulated = np.array([[b + DAMPING * a * r for r in at] for a, b in lines]).var(0)
    level = s.level[-3:].mean()
    np.testing.assert_allclose(trend_variance(s, at), simulated * (level / (level + 0.02)) ** 2, rtol=0.1)


def test_an_observation_adds_its_noise(paths):
    f = paths["bend"]
    at = REACHES[:2]
    plain, few, many = f.paths(at), f.paths(at, np.full(2, 20.0)), f.paths(at, np.full(2, 1e9))
    assert (width(few) > width(plain)).all()
    np.testing.assert_allclose(width(many), width(plain), rtol=0.02)
    as_data = f.paths(at, np.full(2, np.nan))
    assert (width(as_data) > width(plain)).all() and (width(as_data) < width(few)).all()


def test_forecasts_are_repeatable(fitted):
    one, two, other = (forecast(fitted["bend"], NONE, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.paths(REACHES), two.paths(REACHES))
    assert (one.paths(REACHES) != other.paths(REACHES)).any()


def test_a_bend_is_foreseen_within_its_interval(paths):
    truth = 1 - bend(np.log10(REACHES / 1e9))
    low, high = np.quantile(paths["bend"].paths(REACHES), (0.01, 0.99), axis=0)
    assert ((low <= truth) & (truth <= high)).all()
