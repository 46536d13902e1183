"""The learner: a gradient does not depend on how its batch is split, and the optimiser does what it says."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import CONFIG, TASK, VOCAB, model, one_device, problems, toy_experiment

from scaling.batches import Batch, microbatches
from scaling.learner import (
    SUPERVISED,
    abstract_state,
    forward,
    gradient,
    initial_state,
    make_optimiser,
    means,
    optimiser,
    step,
)
from scaling.objectives import kl_k3
from scaling.recipes import RECIPES
from scaling.sampling import left_pad
from scaling.tasks import PAD

ROWS, WIDTH, KL, TEMPERATURE = 12, 16, 0.2, 0.7


def sequences(seed: int = 0) -> Batch:
    """Random completions of random lengths; a third of the rows weigh nothing, and some tokens of the others."""
    rng = np.random.default_rng(seed)
    prompts, padding = left_pad([p.prompt for p in problems(ROWS)], TASK.prompt_tokens)
    real = np.arange(WIDTH) < rng.integers(1, WIDTH + 1, ROWS)[:, None]
    tokens = np.where(real, rng.integers(1, len(VOCAB), real.shape), PAD).astype(np.int32)
    weight = rng.random(real.shape) * real * (rng.random(real.shape) < 0.8) * (np.arange(ROWS) % 3 > 0)[:, None]
    floats = weight, rng.normal(size=real.shape), -rng.exponential(2.0, real.shape)
    return Batch(prompts, padding, tokens, *(x.astype(np.float32) for x in floats))


@cache
def scores(seed: int):
    """Log-probabilities, entropies and hits of `sequences` under the model of a seed."""
    return tuple(
        map(np.asarray, jax.jit(forward, static_argnums=(0, 3))(*model(seed=seed), sequences(), TEMPERATURE))
    )


@cache
def learnt(size: int):
    """Gradient and metrics with a reference policy, accumulated over microbatches of `size`."""
    grads, sums = gradient(
        *model(),
        model(seed=1)[1],
        microbatches(sequences(), size),
        one_device(),
        recipe=RECIPES["cispo"],
        temperature=TEMPERATURE,
        kl=KL,
    )
    return grads, means(sums)


@pytest.mark.slow
def test_the_gradient_does_not_depend_on_the_split():
    whole, parts = learnt(ROWS), learnt(3)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(whole[0])) > 0.1
    for a, b in zip(jax.tree.leaves(whole[0]), jax.tree.leaves(parts[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert whole[1] == pytest.approx(parts[1], rel=1e-4, abs=1e-5)


def test_metrics_are_means_over_the_tokens_that_weigh():
    batch, (logp, entropy, likeliest), (reference, _, _) = sequences(), scores(0), scores(1)
    used = batch.weight_BxT > 0
    ratio = np.exp(logp - batch.old_logp_BxT)
    kl = np.asarray(kl_k3(jnp.asarray(logp), jnp.asarray(reference)))
    term = np.minimum(ratio, 5.0) * batch.advantage_BxT * logp - KL * kl
    expected = {
        "tokens": used.sum(),
        "loss": -(batch.weight_BxT * term)[used].sum(),
        "entropy": entropy[used].mean(),
        "accuracy": likeliest[used].mean(),
        "mismatch": np.abs(logp - batch.old_logp_BxT)[used].mean(),
        "clip_fraction": (ratio > 5)[used].mean(),
        "kl": kl[used].mean(),
    }
    assert learnt(3)[1] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert 0 < expected["clip_fraction"] < 1 and expected["kl"] > 0.01


def test_forward_scores_each_token_given_those_before_it():
    """At a lower temperature the same distribution, sharper; a token's score ignores what comes later."""
    batch, (logp, entropy, _) = sequences(), scores(0)
    real = batch.tokens_BxT != PAD
    assert (logp[real] < 0).all() and (logp[~real] < -1e20).all(), "padding has no probability"
    assert (entropy >= 0).all() and (entropy <= np.log(len(VOCAB) - 1) + 1e-5).all()
    changed = batch.tokens_BxT.copy()
    changed[:, 6:] = np.where(changed[:, 6:] != PAD, 3, PAD)
    score = jax.jit(forward, static_argnums=(0, 3))
    again = np.asarray(score(*model(), batch._replace(tokens_BxT=changed), TEMPERATURE)[0])
    assert np.allclose(again[:, :6][real[:, :6]], logp[:, :6][real[:, :6]], atol=1e-5)


def test_the_supervised_loss_is_the_mean_negative_log_likelihood():
    batch = sequences()
    mask = (batch.tokens_BxT != PAD).astype(np.float32)
    batch = batch._replace(
        weight_BxT=mask / mask.sum(), advantage_BxT=np.ones_like(mask), old_logp_BxT=np.zeros_like(mask)
    )
    metrics = means(gradient(*model(), None, microbatches(batch, ROWS), one_device(), recipe=SUPERVISED)[1])
    logp = jax.jit(forward, static_argnums=(0, 3))(*model(), batch, 1.0)[0]
    assert metrics["loss"] == pytest.approx(-float(np.asarray(logp)[mask > 0].mean()), rel=1e-4)
    assert metrics["kl"] == 0


def tree() -> tuple[dict, dict]:
    """Parameters and gradients: a matrix and a scale."""
    rng = np.random.default_rng(0)
    params = {"up": rng.normal(size=(3, 4)), "norm": np.ones(4)}
    grads = {"up": rng.normal(size=(3, 4)), "norm": rng.normal(size=4)}
    return tuple(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), t) for t in (params, grads))


def test_the_first_update_is_adams_and_decays_matrices_only():
    tx = optimiser(b2=0.98, weight_decay=0.1, clip_norm=1e9)
    (before, grads), rate = tree(), 0.01
    params, _, norm = step(tx, *jax.tree.map(jnp.copy, (before, tx.init(before))), grads, rate)
    assert np.allclose(params["up"], before["up"] - rate * (np.sign(grads["up"]) + 0.1 * before["up"]), atol=1e-6)
    assert np.allclose(params["norm"], before["norm"] - rate * np.sign(grads["norm"]), atol=1e-6)
    squares = sum(float((x**2).sum()) for x in jax.tree.leaves(grads))
    assert float(norm) == pytest.approx(squares**0.5, rel=1e-5)


def test_the_norm_is_reported_before_clipping_and_its_excess_has_no_effect():
    tx = optimiser(b2=0.9, weight_decay=0.0, clip_norm=0.5)
    (params, small), size = tree(), 100.0
    state = tx.init(params)
    outcomes = []
    for scale in (1.0, size):
        grads = jax.tree.map(lambda x, scale=scale: scale * x, small)
        moved, after, norm = step(tx, *jax.tree.map(jnp.copy, (params, state)), grads, 0.1)
        outcomes.append((moved, after, float(norm)))
    assert outcomes[1][2] == pytest.approx(size * outcomes[0][2], rel=1e-5)
    for a, b in zip(jax.tree.leaves(outcomes[0][:2]), jax.tree.leaves(outcomes[1][:2]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_is_that_of_the_call():
    tx = optimiser(b2=0.9, weight_decay=0.1, clip_norm=1.0)
    params, grads = tree()
    moves = []
    for rate in (0.0, 0.01, 0.02):
        moved, _, _ = step(tx, *jax.tree.map(jnp.copy, (params, tx.init(params))), grads, rate)
        moves.append(jax.tree.map(lambda a, b: a - b, moved, params))
    assert all((x == 0).all() for x in jax.tree.leaves(moves[0]))
    for a, b in zip(jax.tree.leaves(moves[1]), jax.tree.leaves(moves[2]), strict=True):
        np.testing.assert_allclose(2 * a, b, atol=1e-6)


def test_the_abstract_state_is_the_shape_of_the_initial_one_in_both_phases():
    experiment = toy_experiment()
    state, abstract = initial_state(experiment), abstract_state(experiment)
    assert jax.tree.structure(state) == jax.tree.structure(abstract)
    for x, shape in zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True):
        assert (x.shape, x.dtype, x.sharding) == (shape.shape, shape.dtype, shape.sharding)
    in_rl = make_optimiser(CONFIG, "rl").init(state["params"])
    assert jax.tree.structure(in_rl) == jax.tree.structure(state["opt_state"])
    again = initial_state(experiment)
    other = initial_state(toy_experiment(replace(CONFIG, seed=1)))
    same = [
        [bool((a == b).all()) for a, b in zip(*map(jax.tree.leaves, (state, x)), strict=True)]
        for x in (again, other)
    ]
    assert all(same[0]) and not all(same[1])
