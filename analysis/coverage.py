"""Coverage (pass@k) beyond the samples drawn, from counts: which rates do the problems have, and what follows.

Problem i is solved by one sample with rate p_i; it was sampled n_i times, c_i of them right. Coverage at k is
the mean over problems of 1 − (1 − p_i)^k, so all of its tail is the density of the rates near 0: a density
like p^(b−1) there makes the power law −log c(k) ≈ a·k^(−b) (arXiv 2502.17578).

The families are densities of rates, and their parameters are judged by the likelihood of the counts, so n_i
may differ and may have been chosen on the way. Beta rates make c(k) = 1 − B(α, β+k)/B(α, β) (arXiv
2510.05197); its rivals here have a thinner tail (logit-normal), a share of problems that are never solved, or
a group of hard problems apart from the others: few samples cannot tell the last two, and the average says so.
Each problem's rate has a posterior (prior: the density; data: its own counts). **What is predicted is the
coverage of these problems**, not of new ones like them.

Uncertainty is a posterior, not a bootstrap over problems: where nothing was right yet, every bootstrap sample
says the same, and the likelihood still says how large the rates can be. The power law, as it is usually fitted,
is kept as `power_law` to compare with; it has no rates, so it takes no part in the average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, betaln, expit, gammaln, log_expit, logsumexp

from analysis.arrays import QUANTILES, Floats
from analysis.estimators import pass_at_k

HELD_OUT = 8
"""Families are weighed by how well they predict all samples from one in HELD_OUT of them."""
THINNINGS = 4
STEP = 0.2
EDGES = np.arange(-32.0, 16.0 + STEP / 2, STEP)
"""Cells of logit p. The first stands for everything below it too: 1e-14, which no sampling reaches."""
CENTRES = (EDGES[:-1] + EDGES[1:]) / 2
PROPOSALS, ROUNDS = 768, 6
POWER_KS = 20
"""Values of k, log-spaced, at which the power law is fitted."""


@dataclass(frozen=True)
class Family:
    """A density of rates with parameters θ, each with a normal prior, wide on the scale where it acts."""

    name: str
    prior_mean: tuple[float, ...]
    prior_sd: tuple[float, ...]
    log_cells: Callable[[Floats], Floats]
    """θ [T, dim] → log probability of each cell and, last, of a rate of exactly 0: [T, cells + 1]."""


def _normalised(log_density: Floats, log_zero: Floats) -> Floats:
    """Unnormalised log density at cell centres [T, cells], log of the share at 0 [T] → [T, cells + 1]."""
    log_rest = np.log(-np.expm1(np.minimum(log_zero, -1e-12)))
    inside = log_density - logsumexp(log_density, axis=1, keepdims=True) + log_rest[:, None]
    return np.concatenate([inside, log_zero[:, None]], axis=1)


def _beta_density(theta: Floats) -> Floats:
    """θ = (logit of the mean, log α) → log density in logit p, the first cell with all that lies below it."""
    alpha = np.exp(theta[:, 1:2])
    beta = alpha * np.exp(-theta[:, 0:1])
    density = alpha * log_expit(CENTRES) + beta * log_expit(-CENTRES)
    density[:, 0] = alpha[:, 0] * EDGES[1] - np.log(alpha[:, 0] * STEP)
    return density


def _normal_density(theta: Floats) -> Floats:
    """θ = (mean, log sd) of logit p."""
    return -0.5 * ((CENTRES - theta[:, 0:1]) / np.exp(theta[:, 1:2])) ** 2


def _two_groups_density(theta: Floats) -> Floats:
    """θ = (mean, log sd, logit of the lower group's share, log of how much lower, its log sd) of logit p.

    What a share of exact zeros cannot say: that problems not solved yet may be hard, and not out of reach.
    """
    lower = np.column_stack([theta[:, 0] - np.exp(theta[:, 3]), theta[:, 4]])
    groups = (_normal_density(t) for t in (theta, lower))
    upper, lower = (g - logsumexp(g, axis=1, keepdims=True) for g in groups)
    return np.logaddexp(upper + log_expit(-theta[:, 2:3]), lower + log_expit(theta[:, 2:3]))


def _never(theta: Floats) -> Floats:
    return np.full(len(theta), -np.inf)


# The priors matter where few samples were right. They leave room for problem sets whose rates lie orders of
# magnitude below what was sampled, and for nearly all problems being out of reach.
FAMILIES = (
    Family("beta", (-6.0, -0.7), (6.0, 1.0), lambda t: _normalised(_beta_density(t), _never(t))),
    Family(
        "beta with zeros",
        (-6.0, -0.7, -1.0),
        (6.0, 1.0, 3.0),
        lambda t: _normalised(_beta_density(t), log_expit(t[:, 2])),
    ),
    Family("logit-normal", (-6.0, 0.9), (6.0, 0.6), lambda t: _normalised(_normal_density(t), _never(t))),
    Family(
        "logit-normal with zeros",
        (-6.0, 0.9, -1.0),
        (6.0, 0.6, 3.0),
        lambda t: _normalised(_normal_density(t), log_expit(t[:, 2])),
    ),
    Family(
        "two groups",
        (-3.0, 0.4, -0.5, 1.6, 0.4),
        (4.0, 0.6, 1.5, 0.6, 0.6),
        lambda t: _normalised(_two_groups_density(t), _never(t)),
    ),
)


@dataclass(frozen=True)
class _Counts:
    """Distinct (samples, correct) pairs, how many problems have each, and their likelihood by cell."""

    samples: Floats
    correct: Floats
    problems: Floats
    inverse: NDArray[np.int64]
    log_likelihood: Floats
    """[distinct, cells + 1]; mean over each cell, so that counts sharper than a cell lose nothing."""


def _counts(samples: NDArray, correct: NDArray) -> _Counts:
    pairs, inverse, problems = np.unique(
        np.stack([samples, correct], 1), axis=0, return_inverse=True, return_counts=True
    )
    n, c = pairs[:, :1].astype(np.float64), pairs[:, 1:].astype(np.float64)
    table = np.empty((len(pairs), len(CENTRES) + 1))
    table[:, :-1] = c * log_expit(CENTRES) + (n - c) * log_expit(-CENTRES)
    inner = ((c > 0) & (c < n))[:, 0]
    if inner.any():
        below, above = _cell_masses(n[inner], c[inner])
        with np.errstate(divide="ignore"):
            mass = np.log(above - below)
        table[inner, :-1] = mass + betaln(c[inner], n[inner] - c[inner]) - np.log(STEP)
    table[:, 0] = c[:, 0] * EDGES[0]  # (1 − p)^n is 1 there
    table[:, -1] = np.where(c[:, 0] > 0, -np.inf, 0.0)
    return _Counts(n[:, 0], c[:, 0], problems.astype(np.float64), inverse.reshape(-1), table)


def _cell_masses(n: Floats, c: Floats) -> tuple[Floats, Floats]:
    """P(logit p ≤ edge) under Beta(c, n − c), the likelihood in logit p, at the lower and upper edges."""
    cdf = betainc(c, n - c, expit(EDGES))
    return cdf[:, :-1], cdf[:, 1:]


def _evidence(counts: _Counts, cells: Floats) -> Floats:
    """log P(counts | θ) but for a constant: cells [T, cells + 1] → [T]."""
    top = counts.log_likelihood.max(1)
    likelihood = np.exp(counts.log_likelihood - top[:, None])
    with np.errstate(divide="ignore"):
        log_marginal = np.log(np.exp(cells) @ likelihood.T) + top
    return np.maximum(log_marginal, -1e6) @ counts.problems


@dataclass(frozen=True)
class _Fit:
    theta: Floats
    """[PROPOSALS, dim], importance sample of the posterior of θ."""
    weights: Floats
    log_evidence: float


def _fit(family: Family, counts: _Counts, rng: np.random.Generator) -> _Fit:
    """Adaptive importance sampling of θ: the prior first, then Student's t about what had weight.

    Early rounds are tempered until a tenth of the sample counts; a tenth of every sample stays with the prior.
    """
    mean, sd = np.array(family.prior_mean), np.array(family.prior_sd)
    dim, centre, root = len(mean), mean, np.diag(sd)
    theta, log_weight = np.zeros((PROPOSALS, dim)), np.zeros(PROPOSALS)
    for step in range(ROUNDS):
        spread = rng.standard_normal((PROPOSALS, dim))
        spread /= np.sqrt(rng.chisquare(5, (PROPOSALS, 1)) / 5)
        theta = centre + spread @ root.T
        prior = rng.random(PROPOSALS) < 0.1
        theta[prior] = mean + sd * rng.standard_normal((int(prior.sum()), dim))
        log_prior = -0.5 * (((theta - mean) / sd) ** 2 + np.log(2 * np.pi * sd**2)).sum(1)
        inside = np.linalg.solve(root, (theta - centre).T)
        log_t = gammaln((5 + dim) / 2) - gammaln(2.5) - dim / 2 * np.log(5 * np.pi)
        log_t = log_t - np.linalg.slogdet(root)[1] - (5 + dim) / 2 * np.log1p((inside**2).sum(0) / 5)
        proposal = np.logaddexp(log_t + np.log(0.9), log_prior + np.log(0.1))
        log_weight = log_prior + _evidence(counts, family.log_cells(theta)) - proposal
        if step < ROUNDS - 1:
            weights = _tempered(log_weight, PROPOSALS / 10)
            centre = weights @ theta
            covariance = (weights[:, None] * (theta - centre)).T @ (theta - centre)
            root = np.linalg.cholesky(covariance * 1.2 + 1e-8 * np.diag(sd**2))
    total = logsumexp(log_weight)
    return _Fit(theta, np.exp(log_weight - total), float(total - np.log(PROPOSALS)))


def _tempered(log_weight: Floats, enough: float) -> Floats:
    """Normalised weights to the largest power (at most 1) that leaves `enough` effective draws."""
    power = 1.0
    while True:
        weights = np.exp(power * (log_weight - log_weight.max()))
        weights /= weights.sum()
        if 1 / (weights**2).sum() >= enough or power < 1e-4:
            return weights
        power *= 0.7


def _rates(family: Family, theta: Floats, counts: _Counts, rng: np.random.Generator) -> Floats:
    """A draw of every problem's rate for each θ [T, dim] → [T, P]: a cell by its posterior, then inside it."""
    cells = family.log_cells(theta)
    n, c = counts.samples[:, None], counts.correct[:, None]
    inner = (c > 0) & (c < n)
    with np.errstate(invalid="ignore"):
        below, above = _cell_masses(np.where(inner, n, 2.0), np.where(inner, c, 1.0))
    rows = counts.inverse
    out = np.empty((len(theta), len(rows)))
    for draw, log_prior in enumerate(cells):
        posterior = np.exp(counts.log_likelihood + log_prior - (counts.log_likelihood + log_prior).max(1)[:, None])
        cumulative = np.cumsum(posterior, 1)[rows]
        u = rng.random((len(rows), 2))
        cell = (cumulative < u[:, :1] * cumulative[:, -1:]).sum(1)
        zero = cell == len(CENTRES)
        cell = np.minimum(cell, len(CENTRES) - 1)
        p = expit(EDGES[cell] + STEP * u[:, 1])
        sharp = inner[rows, 0] & (cell > 0)
        at = rows[sharp], cell[sharp]
        level = below[at] + u[sharp, 1] * (above[at] - below[at])
        p[sharp] = betaincinv(c[rows[sharp], 0], (n - c)[rows[sharp], 0], level)
        out[draw] = np.where(zero, 0.0, p)
    return out


@dataclass(frozen=True)
class Coverage:
    """What the counts say of coverage: draws of every problem's rate, pooled over the weighted families."""

    families: tuple[str, ...]
    weights: tuple[float, ...]
    rates: Floats
    """[replicates, P]; a rate of exactly 0 is a problem that no number of samples solves."""

    def predict(self, ks: Sequence[float]) -> Floats:
        """Quantiles `QUANTILES` of the coverage of these problems with k samples each, [len(ks), 5].

        It is the expected coverage, given the rates; a measured one has its own sampling error on top.
        Raises ValueError for k below 0.
        """
        if min(ks, default=0) < 0:
            raise ValueError(f"k: {min(ks)} samples asked for; 0 or more is right")
        log_wrong = np.log1p(-np.minimum(self.rates, 1 - 1e-16))
        curves = [-np.expm1(k * log_wrong).mean(1) for k in ks]
        return np.quantile(np.array(curves).reshape(len(ks), -1), QUANTILES, axis=1).T

    @property
    def limit(self) -> Floats:
        """Quantiles of coverage as k → ∞, [5]: the share of problems whose rate is not 0."""
        return np.quantile((self.rates > 0).mean(1), QUANTILES)


def coverage(samples: ArrayLike, correct: ArrayLike, seed: int = 0, replicates: int = 400) -> Coverage:
    """Coverage of problems from their counts: samples [P] ≥ 1 and, of those, correct [P].

    The weight of a family is its predictive probability of all counts given those of a random part of the
    samples (one in `HELD_OUT`, drawn without replacement, the geometric mean over `THINNINGS`): a ratio of
    marginal likelihoods, so a family pays for its parameters and hardly for its prior. About a second where
    all n_i are equal; grows with the number of distinct (n, c). Raises ValueError for counts out of range.
    """
    samples, correct = _checked(samples, correct)
    rng = np.random.default_rng(seed)
    counts = _counts(samples, correct)
    fits = [_fit(family, counts, rng) for family in FAMILIES]
    scores = np.array([[f.log_evidence for f in fits]] * THINNINGS)
    few = np.maximum(samples // HELD_OUT, 1)
    for row in range(THINNINGS):
        thin = _counts(few, rng.hypergeometric(correct, samples - correct, few))
        scores[row] -= [_fit(family, thin, rng).log_evidence for family in FAMILIES]
    score = scores.mean(0)
    weights = np.exp(score - score.max())
    weights /= weights.sum()
    chosen = rng.choice(len(FAMILIES), replicates, p=weights)
    parts = []
    for index, (family, fit) in enumerate(zip(FAMILIES, fits, strict=True)):
        theta = fit.theta[rng.choice(PROPOSALS, int((chosen == index).sum()), p=fit.weights)]
        if len(theta):
            parts.append(_rates(family, theta, counts, rng))
    return Coverage(tuple(f.name for f in FAMILIES), tuple(map(float, weights)), np.concatenate(parts))


def power_law(
    samples: ArrayLike, correct: ArrayLike, ks: Sequence[int], seed: int = 0, replicates: int = 400
) -> Floats:
    """The power law's coverage at each k, the rival: estimate, then 5% and 95% of a bootstrap, [len(ks), 3].

    log(−log c) is fitted as a line in log k to the unbiased pass@k for k up to the least n_i, by least squares
    as its users do (Brown et al. 2024, arXiv 2407.21787); problems are resampled. Coverages of 0 and 1 have no
    such logarithm and are left out; where fewer than two are left, the last one stands for all larger k.
    Raises ValueError for counts out of range.
    """
    samples, correct = _checked(samples, correct)
    fitted = np.unique(np.round(np.geomspace(1, samples.min(), POWER_KS)).astype(int))
    table = np.stack([pass_at_k(samples, correct, int(k)) for k in fitted], 1)
    size = len(samples)
    resampled = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=replicates)
    curves = np.concatenate([np.ones((1, size)), resampled]) @ table / size
    usable = ((curves > 0) & (curves < 1)).astype(np.float64)
    x, total = np.log(fitted), np.maximum(usable.sum(1, keepdims=True), 1)
    y = np.log(-np.log(np.where(usable > 0, curves, 0.5)))
    x_mean, y_mean = (usable * x).sum(1, keepdims=True) / total, (usable * y).sum(1, keepdims=True) / total
    spread = (usable * (x - x_mean) ** 2).sum(1)
    slope = (usable * (x - x_mean) * (y - y_mean)).sum(1) / np.where(spread > 0, spread, 1.0)
    level = y_mean[:, 0] + slope * (np.log(np.asarray(ks, dtype=np.float64))[:, None] - x_mean[:, 0])
    at = np.where(usable.sum(1) >= 2, np.exp(-np.exp(level)), curves[:, -1])
    return np.column_stack([at[:, 0], *np.quantile(at[:, 1:], (0.05, 0.95), axis=1)])


def _checked(samples: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    samples, correct = np.asarray(samples, dtype=np.int64), np.asarray(correct, dtype=np.int64)
    if samples.ndim != 1 or samples.shape != correct.shape or not samples.size:
        raise ValueError(f"coverage: samples {samples.shape} and correct {correct.shape} must be one row each")
    if (samples < 1).any() or (correct < 0).any() or (correct > samples).any():
        raise ValueError("coverage: every problem needs a sample, and 0 ≤ correct ≤ samples")
    return samples, correct
