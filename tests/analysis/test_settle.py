"""What would settle a verdict: more never hurts, the cheapest comes first, and the decided need nothing."""

import numpy as np
import pytest
from synthetic_series import COMPUTE, bend, draw, line

from analysis import settle
from analysis.fit import CurveFit, fit_series
from analysis.saturation import CERTAINTY, GAIN
from analysis.series import from_points

CHANCE = 3 * np.sqrt(2 * 0.25 / settle.TRUTHS)
"""Three standard errors of the difference between two shares of truths, at the most."""


def several_seeds():
    """Three seeds at the same computes."""
    compute, seed = np.tile(COMPUTE, 3), np.repeat([0, 1, 2], len(COMPUTE))
    y = 0.2 + 0.02 * np.log10(compute / 1e10) + 0.02 * (seed - 1)
    return from_points(compute, y, "accuracy", np.full(len(y), 300.0), seed, name="seeds")


@pytest.fixture(scope="module")
def fits() -> dict[str, CurveFit]:
    made = {
        "seeds": several_seeds(),
        "slow": draw(line(0.2, 0.02), problems=300),
        "bending": draw(bend(0.2, 0.6, 5e11, 0.8), problems=100),
        "flat": draw(bend(0.2, 0.6, 3e10, 1.5), problems=2000),
        "straight": draw(line(0.2, 0.08)),
    }
    return dict(zip(made, fit_series(list(made.values()), replicates=100), strict=True))


@pytest.mark.parametrize("name", ["slow", "bending", "seeds"])
@pytest.mark.parametrize("kind", ["problems", "seeds"])
def test_more_never_settles_less(fits, name, kind, monkeypatch):
    monkeypatch.setattr(settle, "ENOUGH", 2.0)  # keep all options
    found = settle.options(fits[name].forecast, GAIN, CERTAINTY)
    shares = [o.settles for o in sorted(found, key=lambda o: o.times) if o.kind == kind]
    assert len(shares) == 2 and shares[1] >= shares[0] - CHANCE


@pytest.mark.parametrize("name", ["slow", "bending"])
def test_options_come_by_cost_those_that_settle_first(fits, name, monkeypatch):
    for enough in (0.02, 0.3, settle.ENOUGH):
        monkeypatch.setattr(settle, "ENOUGH", enough)
        found = settle.options(fits[name].forecast, GAIN, CERTAINTY)
        settles = [o.settles >= enough for o in found]
        assert settles == sorted(settles, reverse=True)
        for those in ([o for o in found if o.settles >= enough], [o for o in found if o.settles < enough]):
            costs = [o.compute for o in those]
            assert costs == sorted(costs)
        kinds = [o.kind for o in found if o.settles >= enough]
        assert len(kinds) == len(set(kinds)), "of a kind, nothing beyond what settles"


def test_each_point_may_have_a_seed_of_its_own():
    y = 0.2 + 0.02 * np.log10(COMPUTE / 1e10)
    size = np.full(len(y), 300.0)
    alone, each = (
        from_points(COMPUTE, y, "accuracy", size, seed, name="one") for seed in (None, np.arange(len(y)))
    )
    (fitted,) = fit_series([each], replicates=100)
    assert settle.options(fitted.forecast, GAIN, CERTAINTY)
    spaced = settle._step(alone.compute, 1)
    assert settle._step(each.compute, len(y)) == pytest.approx(spaced, rel=1e-6)
    assert settle._step(several_seeds().compute, 3) == pytest.approx(spaced, rel=1e-6)


def test_shares_are_probabilities_and_options_read_as_sentences(fits):
    found = fits["slow"].answer.settles
    assert found and all(0 <= o.settles <= 1 for o in found)
    assert all(f"{o.times}" in str(o) and f"{o.settles:.2f}" in str(o) for o in found)


@pytest.mark.parametrize("name", ["flat", "straight"])
def test_the_decided_need_nothing(fits, name):
    assert fits[name].answer.verdict != "cannot tell" and fits[name].answer.settles == ()


def test_it_is_the_same_each_time(fits):
    one, two = (settle.options(fits["slow"].forecast, GAIN, CERTAINTY) for _ in range(2))
    assert one == two
