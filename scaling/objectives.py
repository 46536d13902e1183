"""Supervised and policy-gradient losses: one objective, whose options are those of `scaling.recipes`.

A loss is Σ_it weight_it · term_it over the tokens of a batch. The weights carry the aggregation and are computed
once for the whole batch, so the loss does not change with gradient accumulation.

Shapes: P problems, G samples a problem (the group), B = P × G completions (row p·G + g), T tokens.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from scaling.recipes import Recipe

EPSILON = 1e-6


def informative(rewards_PxG: np.ndarray) -> np.ndarray:
    """bool[P]: groups whose rewards differ."""
    return rewards_PxG.max(axis=1) > rewards_PxG.min(axis=1)


def learned_from(rewards_PxG: np.ndarray, recipe: Recipe) -> np.ndarray:
    """bool[P]: groups that the recipe does not drop."""
    return informative(rewards_PxG) if recipe.zero_variance != "keep" else np.ones(len(rewards_PxG), bool)


def advantages(rewards_PxG: np.ndarray, recipe: Recipe) -> np.ndarray:
    """float64[P, G] advantages. Raises ValueError for groups of one, which have no baseline."""
    group = rewards_PxG.shape[1]
    if group < 2:
        raise ValueError(f"rl.samples: {group} a problem leaves no baseline; at least 2")
    centred = rewards_PxG - rewards_PxG.mean(axis=1, keepdims=True)
    if recipe.baseline == "leave_one_out":
        centred = centred * group / (group - 1)
    if recipe.scale == "group_std":
        return centred / (rewards_PxG.std(axis=1, keepdims=True) + EPSILON)
    if recipe.scale == "batch_std":
        kept_P = learned_from(rewards_PxG, recipe)
        return centred / (centred[kept_P].std() + EPSILON) if kept_P.any() else centred
    return centred


def overlong_penalty(thinking_B: np.ndarray, budget: int, recipe: Recipe) -> np.ndarray:
    """float64[B] in [−1, 0]: linear over the last `overlong` share of the budget (DAPO, eq. 13)."""
    ramp = recipe.overlong * budget
    return -np.clip((thinking_B - (budget - ramp)) / ramp, 0.0, 1.0) if ramp > 0 else np.zeros(len(thinking_B))


def weights(mask_BxT: np.ndarray, kept_P: np.ndarray, recipe: Recipe, longest: int) -> np.ndarray:
    """float64[B, T] weight of each token's term; 0 where masked or where the group was dropped.

    sequence_sum: 1/B. sequence_mean: 1/(B · tokens of the sequence). constant: 1/(B · longest).
    token_mean: 1/tokens of the batch. prompt_mean: 1/(P · tokens of the prompt's group).
    """
    group = len(mask_BxT) // len(kept_P)
    mask = mask_BxT * np.repeat(kept_P, group)[:, None].astype(float)
    length_B = mask.sum(axis=1)
    batch = max(kept_P.sum() * group, 1)
    divisor_B = {
        "sequence_sum": lambda: np.full(len(mask), float(batch)),
        "sequence_mean": lambda: batch * np.maximum(length_B, 1),
        "constant": lambda: np.full(len(mask), float(batch * longest)),
        "token_mean": lambda: np.full(len(mask), max(mask.sum(), 1)),
        "prompt_mean": lambda: (
            max(kept_P.sum(), 1) * np.maximum(np.repeat(length_B.reshape(-1, group).sum(axis=1), group), 1)
        ),
    }[recipe.aggregate]()
    return mask / divisor_B[:, None]


def step_credit(tokens_BxT: np.ndarray, step_tokens: tuple[int, ...], discount: float) -> np.ndarray:
    """float64[B, T]: discount^(steps of thinking that end from the token on); 1 at discount 1.

    Scaling an advantage so gives the choices near the outcome most of the credit, as a discounted return does. It
    is not part of the published recipes.
    """
    ends_BxT = np.isin(tokens_BxT, step_tokens)
    return float(discount) ** ends_BxT[:, ::-1].cumsum(axis=1)[:, ::-1]


def policy_term(
    logp_BxT: jax.Array, old_logp_BxT: ArrayLike, advantage_BxT: ArrayLike, recipe: Recipe
) -> tuple[jax.Array, jax.Array]:
    """The term to be maximised, a token, and whether clipping acted there."""
    advantage_BxT = jnp.asarray(advantage_BxT)
    ratio = jnp.exp(logp_BxT - jax.lax.stop_gradient(old_logp_BxT))
    high = 1 + recipe.clip_high
    if recipe.term == "reinforce":
        return advantage_BxT * logp_BxT, jnp.zeros_like(ratio, bool)
    if recipe.term == "cispo":
        weight = jax.lax.stop_gradient(jnp.minimum(ratio, high))
        return weight * advantage_BxT * logp_BxT, ratio > high
    clipped = jnp.clip(ratio, 1 - recipe.clip_low, high) * advantage_BxT
    return jnp.minimum(ratio * advantage_BxT, clipped), clipped < ratio * advantage_BxT


def kl_k3(logp_BxT: jax.Array, reference_BxT: jax.Array) -> jax.Array:
    """k3 estimate of KL(π ‖ π_ref) a token: exp(Δ) − Δ − 1, Δ = log π_ref − log π (Schulman's note on KL)."""
    delta = reference_BxT - logp_BxT
    return jnp.exp(delta) - delta - 1


def token_logp(logits_BxTxV: jax.Array, targets_BxT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each target and entropy of each distribution, nats, float32 B×T."""
    logp_BxTxV = jax.nn.log_softmax(logits_BxTxV)
    picked = jnp.take_along_axis(logp_BxTxV, targets_BxT[..., None], axis=-1)[..., 0]
    return picked, -(jnp.exp(logp_BxTxV) * logp_BxTxV).sum(axis=-1)
