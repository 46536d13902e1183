"""Majority voting beyond the samples drawn, and its limit: is the right answer the mode of a problem's answers?

With more votes the most probable answer wins, so maj@k tends to 1 where the right answer is the mode of the
problem's answer distribution, and to 0 elsewhere (ties are split). Few samples leave open which answer that
is; each problem's answer distribution is therefore drawn from a posterior:
- the rate of right answers as in `analysis.coverage` (families of rates, fitted to the counts);
- the wrong answers as a Pitman–Yor process (Pitman & Yor 1997): an answer given x times weighs x − d, the
  ones never seen together θ + d·(number seen), so that a long tail of one-off answers is expected where one
  was seen. d and θ are shared by the problems, and drawn from their posterior on a grid;
- samples without an answer as a share of the samples that are not right.

Best-of-k with a verifier needs nothing from here: it is right where any sample is, which is pass@k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, logsumexp, ndtr

from analysis.arrays import QUANTILES, Floats
from analysis.coverage import coverage

SIMULATED_K = 24
"""Votes of up to this many samples are simulated; of more, counts are near normal after a square root."""
REPEATS = 1024
"""Simulated votes of one draw, over all problems: ceil(REPEATS / P) each."""
RIVALS = 8
"""Wrong answers that can still win a large vote: the most probable ones of each draw."""
KEPT, UNSEEN = 24, 12
"""Seen answers with a column of their own (right ones first, then by count), and unseen wrong ones."""
DISCOUNTS = np.linspace(0.0, 0.9, 19)
CONCENTRATIONS = np.logspace(-1.5, 2.5, 33)


@dataclass(frozen=True)
class Votes:
    """Draws of every problem's answer distribution: shares of named answers, of the dust, of no answer."""

    shares: Floats
    """[replicates, P, J]; the rest of the mass, up to 1 − dust − nulls, is 0."""
    right: NDArray[np.bool_]
    """[P, J]"""
    dust: Floats
    """[replicates, P]: wrong answers so rare that each is expected at most once."""
    nulls: Floats
    """[replicates, P]: samples without an answer, which never win."""
    seed: int

    def predict(self, ks: Sequence[int]) -> Floats:
        """Quantiles (`QUANTILES`) of these problems' maj@k, [len(ks), 5].

        Raises ValueError for k below 1.
        """
        if min(ks, default=1) < 1:
            raise ValueError(f"k: {min(ks)} votes asked for; at least 1 is right")
        curves = [self._simulated(k) if k <= SIMULATED_K else self._normal(k) for k in ks]
        return np.quantile(np.array(curves).reshape(len(ks), -1), QUANTILES, axis=1).T

    @property
    def modes(self) -> Floats:
        """P(the right answer is the mode) of each problem, [P]."""
        return self._wins().mean(0)

    @property
    def limit(self) -> Floats:
        """Quantiles of maj@k as k → ∞, [5]: the share of problems whose most probable answer is right."""
        return np.quantile(self._wins().mean(1), QUANTILES)

    def _wins(self) -> Floats:
        best = np.where(self.right, self.shares, 0.0).max(-1)
        return (best > np.where(self.right, 0.0, self.shares).max(-1)).astype(np.float64)

    def _simulated(self, k: int) -> Floats:
        """maj@k of each draw by voting. What the vote owes to the luck of the right answers' number, whose
        mean is known, is taken off (a control variate); it leaves nothing to chance at k = 1."""
        rng = np.random.default_rng([self.seed, k])
        repeats = -(-REPEATS // self.shares.shape[1])
        dust, nulls = self.dust[..., None], self.nulls[..., None]
        pvals = np.concatenate([self.shares, dust, nulls], -1)
        pvals /= pvals.sum(-1, keepdims=True)
        chance = (pvals[..., :-2] * self.right).sum(-1)
        outcome = np.zeros((2, repeats, *chance.shape))
        for repeat in range(repeats):
            drawn = rng.multinomial(k, pvals)
            named, specks = drawn[..., :-2], drawn[..., -2]
            most = np.maximum(named.max(-1), specks > 0)
            top = (named == most[..., None]) & (named > 0)
            tied = top.sum(-1) + np.where(most == 1, specks, 0)
            outcome[0, repeat] = (top & self.right).sum(-1) / np.maximum(tied, 1)
            outcome[1, repeat] = (named * self.right).sum(-1) / k - chance
        luck = outcome[1].ravel()
        slope = outcome[0].ravel() @ luck / max(luck @ luck, 1e-12)
        return (outcome[0] - slope * outcome[1]).mean(0).mean(-1)

    def _normal(self, k: int) -> Floats:
        """maj@k of each draw, votes as independent Poisson counts with means k·share, and their doubled
        square roots as normal with variance 1: exact near a tie, where it matters, up to O(1/√k)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(24)
        wrong = np.where(self.right, 0.0, self.shares)
        wrong = np.partition(wrong, -min(RIVALS, wrong.shape[-1]), axis=-1)[..., -RIVALS:]
        level = np.where(wrong > 0, 2 * np.sqrt(k * wrong), -np.inf)  # what has no share never wins
        best = np.where(self.right, self.shares, 0.0).max(-1)
        win = np.zeros(best.shape)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            win += weight * ndtr(2 * np.sqrt(k * best)[..., None] + node - level).prod(-1)
        return (win * -np.expm1(-k * best)).mean(-1)  # a right answer needs a vote, rivals or none


def votes(counts: ArrayLike, right: ArrayLike, nulls: ArrayLike, seed: int = 0, replicates: int = 200) -> Votes:
    """The posterior of every problem's answer distribution, from its votes.

    counts: int [P, A], how often each distinct answer was given, 0 where a problem has fewer answers;
    right: bool [P, A]; nulls: int [P], samples without an answer. Numbers of samples may differ. Answers count
    as open-ended: a task with a handful of possible answers has fewer unseen ones than is assumed.
    Raises ValueError for shapes that do not fit, negative counts, and a problem without samples.
    """
    counts, nulls = np.asarray(counts, dtype=np.int64), np.asarray(nulls, dtype=np.int64)
    right = np.asarray(right, dtype=bool)
    if counts.ndim != 2 or right.shape != counts.shape or nulls.shape != counts.shape[:1]:
        raise ValueError(f"votes: counts {counts.shape}, right {right.shape}, nulls {nulls.shape} do not fit")
    if (counts < 0).any() or (nulls < 0).any() or (counts.sum(1) + nulls < 1).any():
        raise ValueError("votes: counts must not be negative, and every problem needs a sample")
    right = right & (counts > 0)
    rng = np.random.default_rng(seed)
    correct = (counts * right).sum(1)
    rates = coverage(counts.sum(1) + nulls, correct, seed=seed, replicates=replicates).rates
    wrong = np.where(right, 0, counts)
    discount, concentration = _tail(wrong, rng, len(rates))

    order = np.argsort(-(counts + right * (counts.max() + 1)), axis=1, kind="stable")[:, :KEPT]
    kept, is_right = np.take_along_axis(counts, order, 1), np.take_along_axis(right, order, 1)
    kept_wrong, kept_right = np.where(is_right, 0, kept), np.where(is_right, kept, 0)
    others = wrong.sum(1) - kept_wrong.sum(1)  # votes of the rarest answers, whose weights are pooled
    seen = (wrong > 0).sum(1)
    rare = seen - (kept_wrong > 0).sum(1)

    d, theta = discount[:, None], concentration[:, None]
    gammas = _gamma(rng, np.where(kept_wrong > 0, kept_wrong - d[..., None], 0.0))
    pooled = _gamma(rng, np.where(rare > 0, others - d * rare, 0.0))
    rest = _gamma(rng, theta + d * seen)
    total = gammas.sum(-1) + pooled + rest
    missing = float(nulls.sum()) / max(float((nulls + wrong.sum(1)).sum()), 1.0)
    silent = _gamma(rng, np.broadcast_to(nulls + missing, rates.shape))
    spoken = _gamma(rng, np.broadcast_to(wrong.sum(1) + 1 - missing, rates.shape))
    silent = silent / np.maximum(silent + spoken, 1e-300)
    mass = (1 - rates) * (1 - silent)
    sticks, left = _sticks(rng, discount, theta + d * seen)

    none = np.asarray(~is_right.any(1))
    split = _gamma(rng, np.broadcast_to(kept_right, (len(rates), *kept_right.shape)).astype(np.float64))
    split /= np.maximum(split.sum(-1, keepdims=True), 1e-300)
    named = gammas / total[..., None] * mass[..., None] + split * rates[..., None]
    unseen_right = (rates * none)[..., None]
    unseen = sticks * (rest / total * mass)[..., None]
    flags = np.concatenate([is_right, none[:, None], np.zeros((len(none), UNSEEN), dtype=bool)], 1)
    dust = (pooled + rest * left) / total * mass
    return Votes(np.concatenate([named, unseen_right, unseen], -1), flags, dust, (1 - rates) * silent, seed)


def _gamma(rng: np.random.Generator, shape: NDArray) -> Floats:
    """Gamma variates, 0 where the shape is 0; never quite 0 elsewhere, so that sums can be divided by."""
    return np.where(shape > 0, np.maximum(rng.standard_gamma(np.maximum(shape, 1e-300)), 1e-300), 0.0)


def _tail(wrong: NDArray, rng: np.random.Generator, draws: int) -> tuple[Floats, Floats]:
    """Discount and concentration of the wrong answers [P, A]: draws of their posterior, flat on the grid.

    The likelihood is that of the partition of each problem's wrong samples into answers (Pitman 1995).
    """
    d, theta = (axis.ravel() for axis in np.meshgrid(DISCOUNTS, CONCENTRATIONS, indexing="ij"))
    sizes, how_often = np.unique(wrong[wrong > 0], return_counts=True)
    score = (gammaln(sizes - d[:, None]) - gammaln(1 - d[:, None])) @ how_often
    seen, n = (wrong > 0).sum(1), wrong.sum(1)
    steps = np.arange(1, int(seen.max(initial=0)) + 1)
    new = np.cumsum(np.log(theta[:, None] + d[:, None] * steps), 1)
    new = np.concatenate([np.zeros((len(d), 1)), new], 1)
    for answers, samples in zip(seen[n > 0], n[n > 0], strict=True):
        score += new[:, answers - 1] - gammaln(theta + samples) + gammaln(theta + 1)
    pick = rng.choice(len(d), draws, p=np.exp(score - logsumexp(score)))
    return d[pick], theta[pick]


def _sticks(rng: np.random.Generator, discount: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Shares of the first `UNSEEN` unseen answers, found by size-biased stick breaking, and what is left.

    discount [R], theta [R, P] → [R, P, UNSEEN], [R, P].
    """
    d = discount[:, None, None]
    broken = rng.beta(1 - d, theta[..., None] + d * np.arange(1, UNSEEN + 1))
    left = np.asarray(np.cumprod(1 - broken, -1), dtype=np.float64)
    before = np.concatenate([np.ones((*theta.shape, 1)), left[..., :-1]], -1)
    return broken * before, left[..., -1]
