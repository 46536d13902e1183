"""The estimators against brute force over every subset, and the laws that they must keep."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import estimators
from analysis.estimators import effective_size, maj_at_k, pass_at_k, wilson


def vote(labels: tuple[int, ...], correct: list[bool]) -> float:
    """One vote by the definition; label −1 is null."""
    votes = [sum(label == a for label in labels) for a in range(len(correct))]
    most = max(votes)
    winners = [a for a, v in enumerate(votes) if v == most]
    return sum(correct[a] for a in winners) / len(winners) if most else 0.0


def brute(counts: list[int], correct: list[bool], nulls: int, k: int) -> float:
    labels = [a for a, c in enumerate(counts) for _ in range(c)] + [-1] * nulls
    return float(np.mean([vote(subset, correct) for subset in combinations(labels, k)]))


problems = st.tuples(
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=4), st.integers(0, 3)
)


@pytest.mark.slow
@given(problems)
@settings(max_examples=60, deadline=None)
def test_majority_equals_the_mean_over_every_subset(problem):
    answers, nulls = problem
    counts, correct = [c for c, _ in answers], [r for _, r in answers]
    ks = list(range(1, min(sum(counts) + nulls, 9) + 1))
    got = maj_at_k([counts], [correct], [nulls], ks)[0]
    assert np.allclose(got, [brute(counts, correct, nulls, k) for k in ks], atol=1e-12)


@given(st.integers(1, 12), st.data())
@settings(max_examples=60, deadline=None)
def test_pass_equals_the_mean_over_every_subset(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    samples = [True] * c + [False] * (n - c)
    assert pass_at_k(n, c, k) == pytest.approx(np.mean([any(s) for s in combinations(samples, k)]), abs=1e-12)


def test_pass_at_one_is_the_mean_and_at_n_is_any():
    c = np.arange(6)
    assert np.allclose(pass_at_k(5, c, 1), c / 5)
    assert np.allclose(pass_at_k(5, c, 5), c > 0)


def test_pass_is_stable_where_binomials_overflow():
    assert pass_at_k(100_000, 1, 1_000) == pytest.approx(0.01, rel=1e-9)
    assert pass_at_k(10**9, 1, 1) == pytest.approx(1e-9, rel=1e-6)


def test_pass_is_unbiased():
    """The mean of pass@3 from 8 samples is 1 − (1 − p)³, for samples that are right with probability p."""
    rng = np.random.default_rng(1)
    c = rng.binomial(8, 0.2, size=200_000)
    assert pass_at_k(8, c, 3).mean() == pytest.approx(1 - 0.8**3, abs=0.003)


def test_one_vote_is_the_mean_and_all_votes_are_the_mode():
    counts, correct, nulls = [[5, 3, 0], [2, 2, 4]], [[False, True, True], [True, False, False]], [2, 0]
    got = maj_at_k(counts, correct, nulls, [1, 8])
    assert np.allclose(got[:, 0], [0.3, 0.25])
    assert np.allclose(maj_at_k(counts[:1], correct[:1], nulls[:1], [10]), 0.0)
    assert got[1, 1] == 0.0


def test_drawn_votes_agree_with_exact_ones(monkeypatch):
    rng = np.random.default_rng(2)
    counts = rng.multinomial(32, [0.3, 0.25, 0.2, 0.15, 0.1], size=200)
    correct = np.zeros((200, 4), dtype=bool)
    correct[:, 1] = True
    args = counts[:, :4], correct, counts[:, 4], [2, 8, 16, 32]
    exact = maj_at_k(*args)
    monkeypatch.setattr(estimators, "EXACT_K", 1)
    drawn = maj_at_k(*args)
    assert np.allclose(drawn[:, 3], exact[:, 3]), "all samples vote: nothing is drawn"
    assert np.abs(drawn.mean(0) - exact.mean(0)).max() < 0.01
    assert np.abs(drawn - exact).max() < 0.25


def test_the_drawn_part_is_the_same_every_time():
    counts, correct = np.array([[20, 15, 5]]), np.array([[False, True, False]])
    first, second = (maj_at_k(counts, correct, [0], [24]) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("k", [0, 6])
def test_impossible_k_is_refused(k):
    with pytest.raises(ValueError, match="k: "):
        pass_at_k(5, 2, k)
    with pytest.raises(ValueError, match="k: "):
        maj_at_k([[5]], [[True]], [0], [k])


def test_effective_size_counts_problems_when_each_was_answered_once():
    values = np.repeat([0.0, 1.0], [60, 40])
    assert effective_size(values) == pytest.approx(100, rel=0.02)


def test_effective_size_grows_with_samples_only_as_far_as_problems_differ():
    rng = np.random.default_rng(3)
    same = rng.binomial(16, 0.4, size=500) / 16
    mixed = rng.binomial(16, rng.beta(0.5, 0.8, size=500)) / 16
    assert 0.75 * 500 * 16 < effective_size(same, 16) <= 500 * 16
    assert 500 < effective_size(mixed, 16) < 500 * 4


def test_wilson_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    p = rng.beta(1, 2, size=(400, 200))
    hits = 0
    for row in p:
        values = rng.binomial(8, row) / 8
        lo, hi = wilson(values.mean(), effective_size(values, 8))
        hits += lo <= 1 / 3 <= hi
    assert 0.91 < hits / 400 < 0.98


@given(st.floats(0, 1), st.floats(1, 1e6))
def test_wilson_contains_the_estimate_and_stays_inside(p, size):
    lo, hi = wilson(p, size)
    assert 0 <= lo <= p + 1e-12 and p - 1e-12 <= hi <= 1
