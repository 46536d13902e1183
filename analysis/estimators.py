"""Estimates from counts: pass@k, majority voting, intervals (NumPy).

A problem was answered n times, c of them correct. The k-sample settings are averages over all k-subsets of
those n samples, drawn without replacement, so one sampling pass at the largest n feeds every k.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXACT_K = 16
"""Votes of up to this many samples are computed exactly; larger ones (short of all n) by Monte Carlo."""
PERMUTATIONS = 64
"""Random orders of a problem's samples in the Monte Carlo part; with 512 problems, standard error < .003."""
Z95 = 1.959963984540054


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> NDArray[np.float64]:
    """Probability that at least one of k samples drawn without replacement is correct.

    1 − C(n−c, k)/C(n, k), as a sum of logarithms, so that nothing overflows or cancels; `n`, `c` broadcast.
    Raises ValueError unless 1 ≤ k ≤ n and 0 ≤ c ≤ n. Source: Chen et al. 2021, arXiv 2107.03374.
    """
    n, c = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.asarray(c, dtype=np.float64))
    if k < 1 or np.any(n < k):
        raise ValueError(f"k: {k} samples asked for, {n.min():.0f} drawn; 1 ≤ k ≤ n is right")
    if np.any(c < 0) or np.any(c > n):
        raise ValueError("c: the correct count must lie between 0 and n")
    drawn = np.arange(k)
    wrong = np.maximum(n[..., None] - c[..., None] - drawn, 0.0)
    with np.errstate(divide="ignore"):
        return -np.expm1(np.log(wrong / (n[..., None] - drawn)).sum(-1))


def maj_at_k(counts: ArrayLike, correct: ArrayLike, nulls: ArrayLike, ks: Sequence[int]) -> NDArray[np.float64]:
    """Probability that a majority vote over k samples is right, for every problem and every k.

    counts: int [P, A], how often each distinct answer was given, 0 where a problem has fewer answers;
    correct: bool [P, A]; nulls: int [P], samples without an answer, which never win; → float [P, len(ks)].
    Ties are split evenly among the tied answers; a vote of nulls only is wrong. The expectation over
    k-subsets drawn without replacement: exact for k ≤ `EXACT_K` and k = n, else the mean over `PERMUTATIONS`
    orders with a fixed seed (unbiased). Raises ValueError where k is above a problem's number of samples.
    """
    counts = np.asarray(counts, dtype=np.int64)
    correct = np.asarray(correct, dtype=bool) & (counts > 0)
    nulls = np.asarray(nulls, dtype=np.int64)
    n = counts.sum(-1) + nulls
    if min(ks, default=1) < 1 or (n.size and max(ks, default=1) > n.min()):
        raise ValueError(f"k: {min(ks)} to {max(ks)} samples asked for, {n.min()} drawn; 1 ≤ k ≤ n is right")
    order = np.argsort(-counts, axis=-1, kind="stable")
    votes = np.take_along_axis(counts, order, -1) * 2 + np.take_along_axis(correct, order, -1)
    table = np.concatenate([votes, nulls[:, None]], -1)
    # Problems with the same votes have the same answer: most of a grid is all right or all wrong.
    table, inverse = np.unique(table, axis=0, return_inverse=True)
    counts, correct, nulls = table[:, :-1] // 2, (table[:, :-1] % 2).astype(bool), table[:, -1]
    values = np.empty((len(table), len(ks)))
    split = np.any(correct, -1) & np.any((counts > 0) & ~correct, -1)
    for column, k in enumerate(ks):
        # Where every answer is right (or wrong) the vote is lost to nulls alone.
        answered = pass_at_k(counts.sum(-1) + nulls, counts.sum(-1), k)
        values[:, column] = np.where(np.any(correct, -1), answered, 0.0)
    exact = [i for i, k in enumerate(ks) if k <= EXACT_K]
    drawn = [i for i, k in enumerate(ks) if k > EXACT_K]
    if split.any():
        args = counts[split], correct[split], nulls[split]
        values[np.ix_(split, exact)] = _vote_exact(*args, [ks[i] for i in exact])
        values[np.ix_(split, drawn)] = _vote_drawn(*args, [ks[i] for i in drawn])
    return values[inverse.reshape(-1)]


@cache
def _binomials(n: int, k: int) -> NDArray[np.float64]:
    """C(row, column), float [n+1, k+1]."""
    table = np.zeros((n + 1, k + 1))
    table[:, 0] = 1.0
    for row in range(1, n + 1):
        table[row, 1:] = table[row - 1, 1:] + table[row - 1, :-1]
    return table


def _vote_exact(counts: NDArray, correct: NDArray, nulls: NDArray, ks: Sequence[int]) -> NDArray[np.float64]:
    """By generating functions: counts [P, A] (falling), correct [P, A], nulls [P] → [P, len(ks)].

    With x marking samples drawn and y marking ties, the subsets in which answer j wins with m votes number
    C(n_j, m) x^m (1+x)^nulls Π_{i≠j} (Σ_{s<m} C(n_i, s) x^s + y C(n_i, m) x^m), and a win among t ties counts
    1/(t+1) = ∫₀¹ y^t dy, which Gauss–Legendre nodes give exactly, the degree in y being below K/m.
    """
    top = max(ks, default=0)
    answers = int((counts > 0).any(0).sum())
    ways = _binomials(int(max(counts.max(initial=0), nulls.max(initial=0))), top)
    total = np.zeros((len(counts), top + 1))
    for m in range(1, min(top, int(counts.max(initial=0))) + 1):
        nodes, weights = np.polynomial.legendre.leggauss(top // m // 2 + 1)
        for y, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            loses, wins = ways[nulls], np.zeros_like(total)  # polynomials in x of the answers so far
            for i in range(answers):
                chosen = ways[counts[:, i]]
                votes = min(m, int(counts[:, i].max()))
                new_loses, new_wins = loses.copy(), wins.copy()
                for s in range(1, votes + 1):
                    factor = chosen[:, s, None] * (y if s == m else 1.0)
                    new_loses[:, s:] += factor * loses[:, : top + 1 - s]
                    new_wins[:, s:] += factor * wins[:, : top + 1 - s]
                if votes == m:
                    new_wins[:, m:] += (chosen[:, m] * correct[:, i])[:, None] * loses[:, : top + 1 - m]
                loses, wins = new_loses, new_wins
            total += weight * wins
    n = counts.sum(-1) + nulls
    subsets = _binomials(int(n.max(initial=0)), top)[n]
    return total[:, list(ks)] / subsets[:, list(ks)]


def _vote_drawn(counts: NDArray, correct: NDArray, nulls: NDArray, ks: Sequence[int]) -> NDArray[np.float64]:
    """The expectation by Monte Carlo: prefixes of `PERMUTATIONS` random orders of each problem's samples.

    k = n needs no draw and is exact: all samples vote. Shapes as in `_vote_exact`.
    """
    if not ks:
        return np.zeros((len(counts), 0))
    out = np.empty((len(counts), len(ks)))
    n = counts.sum(-1) + nulls
    rng = np.random.default_rng(0)
    rights = np.concatenate([correct, np.zeros((len(counts), 1), dtype=bool)], -1)  # the last one: null
    for size in np.unique(n):
        rows = np.flatnonzero(n == size)
        votes = np.concatenate([counts[rows], nulls[rows, None]], -1)
        labels = np.repeat(np.tile(np.arange(votes.shape[1]), len(rows)), votes.reshape(-1))
        labels = labels.reshape(len(rows), size)
        everyone = _prefix_votes(labels, rights[rows], [int(size)])
        orders = rng.permuted(np.repeat(labels, PERMUTATIONS, axis=0), axis=1)
        prefix = [k for k in ks if k < size]
        some = _prefix_votes(orders, np.repeat(rights[rows], PERMUTATIONS, axis=0), prefix)
        some = some.reshape(len(rows), PERMUTATIONS, len(prefix)).mean(1)
        for column, k in enumerate(ks):
            out[rows, column] = some[:, prefix.index(k)] if k < size else everyone[:, 0]
    return out


def _prefix_votes(labels: NDArray, rights: NDArray, ks: Sequence[int]) -> NDArray[np.float64]:
    """Share of the winning vote that is right after the first k labels: [R, n], [R, A+1] → [R, len(ks)].

    The last label is null. The most votes so far, and how many answers (and right ones) have them, are kept
    as the labels come in, so every k of `ks` costs nothing more.
    """
    rows = np.arange(len(labels))
    null = rights.shape[1] - 1
    votes = np.zeros(rights.shape, dtype=np.int32)
    most = np.zeros(len(labels), dtype=np.int32)
    tied, right = np.zeros(len(labels)), np.zeros(len(labels))
    out = np.zeros((len(labels), len(ks)))
    for step in range(max(ks, default=0)):
        label = labels[:, step]
        count = votes[rows, label] + (label != null)
        votes[rows, label] = count
        ahead, level = count > most, (count == most) & (label != null)
        is_right = rights[rows, label]
        tied = np.where(ahead, 1, tied + level)
        right = np.where(ahead, is_right, right + (level & is_right))
        most = np.maximum(most, count)
        for column, k in enumerate(ks):
            if k == step + 1:
                out[:, column] = right / np.maximum(tied, 1)
    return out


def effective_size(values: ArrayLike, draws: float = 1.0) -> float:
    """How many coin flips tell as much about the mean as these values of problems [P], each in [0, 1].

    p(1−p) over the variance of the mean between problems: P where each problem was answered once, more where
    samples average a problem's luck away (Kish's design effect; clustered errors of evaluations: Miller,
    arXiv 2411.00640). At most P × `draws`, what independent samples would give.
    """
    values = np.asarray(values, dtype=np.float64)
    size, mean = len(values), float(values.mean())
    between = float(values.var(ddof=1)) if size > 1 else 0.0
    ceiling = size * max(draws, 1.0)
    if mean * (1 - mean) <= 0:
        return float(size)
    return min(mean * (1 - mean) * size / between, ceiling) if between > 0 else ceiling


def wilson(p: float, size: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion at an effective sample size (Wilson 1927)."""
    centre = (p + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * np.sqrt(p * (1 - p) / size + z * z / (4 * size * size))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
