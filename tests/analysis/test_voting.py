"""Votes beyond the samples: the laws they keep, and known answer distributions that are recovered."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.estimators import maj_at_k, pass_at_k
from analysis.voting import SIMULATED_K, votes


def synthetic(rng, problems: int, samples: int):
    """Counts, right, nulls of problems with Beta rates and Pitman–Yor wrong answers; shares, right first."""
    right_rate, none = rng.beta(0.8, 1.5, size=problems), rng.beta(0.5, 5, size=problems)
    broken = rng.beta(0.6, 2 + 0.4 * np.arange(1, 41), size=(problems, 40))
    left = np.cumprod(1 - broken, 1)
    wrong = broken * np.concatenate([np.ones((problems, 1)), left[:, :-1]], 1)
    shares = np.concatenate([right_rate[:, None], wrong * ((1 - right_rate) * (1 - none))[:, None]], 1)
    drawn = rng.multinomial(samples, np.concatenate([shares, 1 - shares.sum(1, keepdims=True)], 1))
    right = np.zeros(shares.shape, dtype=bool)
    right[:, 0] = True
    return drawn[:, :-1], right, drawn[:, -1], shares


def voted(rng, shares, k: int, repeats: int = 200) -> float:
    """maj@k of known shares [P, A], right first, by voting."""
    rest = np.maximum(1 - shares.sum(1, keepdims=True), 0)
    drawn = rng.multinomial(k, np.concatenate([shares, rest], 1), size=(repeats, len(shares)))[..., :-1]
    most = drawn.max(-1)
    tied = (drawn == most[..., None]).sum(-1)
    return float(np.where((drawn[..., 0] == most) & (most > 0), 1 / tied, 0.0).mean())


problems = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=3, max_size=3), st.integers(0, 4)),
    min_size=1,
    max_size=6,
)


@pytest.mark.slow
@given(problems)
@settings(max_examples=5, deadline=None)
def test_it_stays_between_zero_and_coverage(table):
    counts = np.array([[c for c, _ in answers] for answers, _ in table])
    right = np.array([[r for _, r in answers] for answers, _ in table])
    nulls = np.array([n for _, n in table]) + (counts.sum(1) == 0)
    got = votes(counts, right, nulls, replicates=30)
    total = got.shares.sum(-1) + got.dust + got.nulls
    assert np.allclose(total, 1, atol=1e-9) and got.shares.min() >= 0
    values = got.predict([1, 5, 100, 10**6])
    assert np.all((values >= -0.05) & (values <= 1.05)) and np.all(np.diff(values, axis=1) >= 0)
    assert np.all((got.limit >= 0) & (got.limit <= 1))
    assert np.all((got.modes >= 0) & (got.modes <= 1))


def test_it_agrees_with_the_unbiased_estimate_within_the_samples():
    rng = np.random.default_rng(1)
    counts, right, nulls, _ = synthetic(rng, 128, 64)
    ks = [1, 4, 16, 32, 64]
    got = votes(counts, right, nulls).predict(ks)
    for row, k in zip(got, ks, strict=True):
        seen = maj_at_k(counts, right, nulls, [k]).mean()
        assert row[0] - 0.01 <= seen <= row[4] + 0.01
    assert got[0, 2] == pytest.approx(pass_at_k(64, (counts * right).sum(1), 1).mean(), abs=0.005)


def test_simulated_and_normal_votes_meet():
    got = votes(*synthetic(np.random.default_rng(2), 100, 32)[:3])
    assert np.abs(got._simulated(SIMULATED_K) - got._normal(SIMULATED_K)).mean() < 0.01
    assert got._simulated(SIMULATED_K).mean() == pytest.approx(got._normal(SIMULATED_K).mean(), abs=0.005)


@pytest.mark.slow
def test_its_intervals_hold_the_truth_as_often_as_they_say():
    """24 sets, 16 samples a problem; under a true 90%, fewer than 18 happens in 1% of cases."""
    limits, further, errors = 0, 0, []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        counts, right, nulls, shares = synthetic(rng, 80, 16)
        got = votes(counts, right, nulls, seed=seed, replicates=120)
        truth = (shares[:, 0] > shares[:, 1:].max(1)).mean()
        limits += got.limit[0] <= truth <= got.limit[4]
        low, _, _, _, high = got.predict([256])[0]
        further += low <= voted(rng, shares, 256) <= high
        errors.append(got.limit[2] - truth)
    assert limits >= 18 and further >= 18
    assert abs(np.mean(errors)) < 0.02


def test_votes_without_end_are_the_limit():
    got = votes(*synthetic(np.random.default_rng(3), 60, 16)[:3])
    assert np.allclose(got.predict([10**12])[0], got.limit, atol=0.01)


def test_the_limit_is_one_where_the_right_answer_is_the_mode():
    counts = np.tile([[600, 300, 100]], (30, 1))
    first, second = np.zeros((2, 30, 3), dtype=bool)
    first[:, 0], second[:, 1] = True, True
    nulls = np.zeros(30, dtype=int)
    assert np.all(votes(counts, first, nulls).limit == 1)
    assert np.all(votes(counts, second, nulls).limit == 0)


def test_a_tie_is_split_and_few_samples_leave_the_mode_open():
    right = np.tile([[True, False]], (200, 1))
    nulls = np.zeros(200, dtype=int)
    assert votes(np.full((200, 2), 50), right, nulls).limit[2] == pytest.approx(0.5, abs=0.1)
    modes = votes(np.tile([[3, 2], [2, 3], [5, 0], [0, 5]], (50, 1)), right, nulls).modes.reshape(50, 4).mean(0)
    assert 0.1 < modes[1] < 0.55 < modes[0] < 0.9 and modes[2] > 0.95 and modes[3] < 0.05


def test_samples_without_an_answer_never_win():
    counts, right = np.tile([[12, 3]], (40, 1)), np.tile([[True, False]], (40, 1))
    assert votes(counts, right, np.full(40, 60)).limit[0] > 0.9


def test_the_order_of_problems_and_answers_does_not_matter():
    rng = np.random.default_rng(4)
    counts, right, nulls, _ = synthetic(rng, 80, 24)
    rows, columns = rng.permutation(80), rng.permutation(counts.shape[1])
    first = votes(counts, right, nulls)
    second = votes(counts[rows][:, columns], right[rows][:, columns], nulls[rows])
    assert np.allclose(first.limit, second.limit, atol=0.04)
    assert np.allclose(first.predict([8, 1_000]), second.predict([8, 1_000]), atol=0.04)


def test_the_same_seed_gives_the_same_answer():
    args = synthetic(np.random.default_rng(5), 20, 12)[:3]
    first, second = (votes(*args, seed=3, replicates=20) for _ in range(2))
    assert np.array_equal(first.predict([4, 100]), second.predict([4, 100]))


def test_impossible_input_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        votes([[1, 2]], [[True]], [0])
    with pytest.raises(ValueError, match="needs a sample"):
        votes([[0, 0]], [[True, False]], [0])
    with pytest.raises(ValueError, match="negative"):
        votes([[3, -1]], [[True, False]], [0])
    with pytest.raises(ValueError, match="k: "):
        votes([[3, 1]], [[True, False]], [0], replicates=5).predict([0])
