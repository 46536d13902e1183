"""Peers are fitted well: each finds what its own form made."""

import jax
import numpy as np
import pytest

from analysis.peers import PEERS, REPLICATES, peer_paths
from analysis.series import Series, from_points

COMPUTE = 10 ** np.linspace(9, 12, 24)
U = np.log(COMPUTE / COMPUTE[-1])
AHEAD = np.log([2.0, 5.0, 10.0])
TRUTHS = {
    "log-linear": [0.4, -0.06],
    "power law (M2)": [-0.6, -1.2, np.log(0.35)],
    "M4": [1.5, -1.5, -3.0, np.log(0.9), 0.5],
    "broken power law": [-0.5, -3.0, 0.02, 0.3, -3.5, np.log(0.5)],
    "sigmoid (ScaleRL)": [2.0, -1.0, -3.0, np.log(0.9)],
}


def level(name: str, u: np.ndarray) -> np.ndarray:
    curve = PEERS[name]
    assert curve is not None
    with jax.enable_x64(True):
        return np.asarray(curve.function(np.array(TRUTHS[name]), u))


def series(level_: np.ndarray, noise: float = 0.0, seed: int = 0) -> Series:
    drawn = level_ * np.exp(noise * np.random.default_rng(seed).standard_normal(len(level_)))
    return from_points(COMPUTE, drawn, "error")


def test_every_form_is_somebodys():
    assert TRUTHS.keys() | {"last value"} == PEERS.keys()


@pytest.mark.parametrize("name", TRUTHS)
def test_a_peer_recovers_its_own_forms_truth(name):
    truth = level(name, AHEAD)
    now = level(name, U)
    (exact,) = peer_paths(name, [series(now)], [AHEAD])
    np.testing.assert_allclose(exact.middle, truth, atol=0.005)
    (noisy,) = peer_paths(name, [series(now, 0.01)], [AHEAD])
    np.testing.assert_allclose(noisy.middle, truth, atol=0.04)
    assert noisy.drawn.shape == (REPLICATES, 3)
    assert ((noisy.drawn >= 0) & (noisy.drawn <= 1)).all()
    low, high = np.quantile(noisy.drawn, (0.02, 0.98), axis=0)
    assert (low < noisy.middle).all() and (noisy.middle < high).all()


@pytest.mark.parametrize("name", ["last value", "power law (M2)", "M4"])
def test_noisier_data_have_wider_intervals(name):
    now = level("power law (M2)", U)
    calm, wild = peer_paths(name, [series(now, 0.005), series(now, 0.05)], [AHEAD, AHEAD])
    assert np.ptp(wild.drawn, 0).mean() > 2 * np.ptp(calm.drawn, 0).mean()


def test_the_last_value_stays():
    s = series(level("log-linear", U), 0.02)
    (found,) = peer_paths("last value", [s], [AHEAD])
    np.testing.assert_array_equal(found.middle, np.full(3, s.level[-1]))
    assert (found.drawn.std(0) > 0).all()


@pytest.mark.parametrize("name", ["power law (M2)", "sigmoid (ScaleRL)"])
def test_curves_of_other_lengths_beside_it_change_no_forecast(name):
    s = series(level(name, U), 0.01)
    short = from_points(COMPUTE[-7:], s.y[-7:], "error")
    (alone,) = peer_paths(name, [s], [AHEAD])
    beside, _ = peer_paths(name, [s, short], [AHEAD, AHEAD[:1]])
    np.testing.assert_allclose(alone.middle, beside.middle, atol=1e-6)


def test_no_compute_is_no_point():
    s = series(level("power law (M2)", U))
    zero = Series(np.r_[0.0, s.compute], np.r_[0.9, s.level], np.r_[s.size[:1], s.size], 0.0, 1.0, "error",
                  counted=False)  # fmt: skip
    one, two = peer_paths("power law (M2)", [s, zero], [AHEAD, AHEAD])
    np.testing.assert_allclose(one.middle, two.middle, atol=1e-6)


def test_an_unknown_peer_is_refused():
    with pytest.raises(KeyError, match="nobody"):
        peer_paths("nobody", [], [])
