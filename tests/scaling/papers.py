"""The published policy-gradient losses, written out as loops over prompts, samples and tokens, in float64.

`reward[p][g]`, `logp[p][g][t]` and so on are nested lists; a completion is as long as its list. What a paper takes
the gradient through is `logp`; what it holds fixed is `fixed`, the same numbers.
"""

from __future__ import annotations

from math import exp, sqrt

EPSILON = 1e-6


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def std(values) -> float:
    values = list(values)
    centre = mean(values)
    return sqrt(mean((v - centre) ** 2 for v in values))


def clip(x: float, low: float, high: float) -> float:
    return max(low, min(high, x))


def k3(logp: float, reference: float) -> float:
    return exp(reference - logp) - (reference - logp) - 1


def surrogate(logp: float, old: float, advantage: float, low: float, high: float) -> float:
    ratio = exp(logp - old)
    return min(ratio * advantage, clip(ratio, 1 - low, 1 + high) * advantage)


def rloo(reward, logp, fixed, old, longest, k=None) -> float:
    """Ahmadian et al. 2024, arXiv 2402.14740, eq. 7 and 8: (r_i − mean of the others) · log π(y_i), averaged."""
    total, samples = 0.0, 0
    for p, group in enumerate(reward):
        for i, r in enumerate(group):
            others = mean(q for j, q in enumerate(group) if j != i)
            total += (r - others) * sum(logp[p][i])
            samples += 1
    return -total / samples


def grpo(reward, logp, fixed, old, longest, k=None) -> float:
    """Shao et al. 2024, arXiv 2402.03300, eq. 3 and 4; `k` = (β, log π_ref)."""
    total = 0.0
    for p, group in enumerate(reward):
        for i, r in enumerate(group):
            advantage = (r - mean(group)) / (std(group) + EPSILON)
            tokens = [surrogate(x, o, advantage, 0.2, 0.2) for x, o in zip(logp[p][i], old[p][i], strict=True)]
            if k is not None:
                beta, reference = k
                penalties = [k3(x, q) for x, q in zip(logp[p][i], reference[p][i], strict=True)]
                tokens = [t - beta * q for t, q in zip(tokens, penalties, strict=True)]
            total += mean(tokens) / len(group)
    return -total / len(reward)


def dr_grpo(reward, logp, fixed, old, longest, k=None) -> float:
    """Liu et al. 2025, arXiv 2503.20783: no standard deviation, and one constant instead of each length."""
    total = 0.0
    for p, group in enumerate(reward):
        for i, r in enumerate(group):
            advantage = r - mean(group)
            for x, o in zip(logp[p][i], old[p][i], strict=True):
                total += surrogate(x, o, advantage, 0.2, 0.2) / longest / len(group)
    return -total / len(reward)


def dapo(reward, logp, fixed, old, longest, k=None) -> float:
    """Yu et al. 2025, arXiv 2503.14476, eq. 8 to 12: groups without variance left out, mean over all tokens."""
    total, tokens = 0.0, 0
    for p, group in enumerate(reward):
        if max(group) == min(group):
            continue
        for i, r in enumerate(group):
            advantage = (r - mean(group)) / (std(group) + EPSILON)
            for x, o in zip(logp[p][i], old[p][i], strict=True):
                total += surrogate(x, o, advantage, 0.2, 0.28)
                tokens += 1
    return -total / tokens


def cispo(reward, logp, fixed, old, longest, k=None) -> float:
    """MiniMax 2025, arXiv 2506.13585, eq. 4, with ScaleRL's choices (Khatri et al. 2025, arXiv 2510.13786).

    Groups without variance left out, advantages normalised over the batch, mean over each prompt's tokens.
    """
    kept = [p for p, group in enumerate(reward) if max(group) > min(group)]
    scale = std(r - mean(reward[p]) for p in kept for r in reward[p]) + EPSILON
    total = 0.0
    for p in kept:
        prompt = [
            min(exp(f - o), 5.0) * (r - mean(reward[p])) / scale * x
            for i, r in enumerate(reward[p])
            for x, f, o in zip(logp[p][i], fixed[p][i], old[p][i], strict=True)
        ]
        total += mean(prompt)
    return -total / len(kept)


LOSSES = {"rloo": rloo, "grpo": grpo, "dr_grpo": dr_grpo, "dapo": dapo, "cispo": cispo}


def overlong(thinking: int, budget: float, cache: float) -> float:
    """DAPO's soft overlong punishment, eq. 13; `cache` is the ramp's length."""
    if thinking <= budget - cache:
        return 0.0
    return (budget - cache - thinking) / cache if thinking <= budget else -1.0
