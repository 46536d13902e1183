"""Gradients accumulated over microbatches, and the optimiser's step."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from scaling.batches import Batch, microbatches
from scaling.config import Config
from scaling.experiment import Experiment
from scaling.model import abstract, build
from scaling.objectives import kl_k3, policy_term, token_logp
from scaling.recipes import RECIPES, Recipe
from scaling.sharding import keep, place, place_batch, shardings

SUPERVISED = Recipe("maximum likelihood", "group_mean", "none", "reinforce", "token_mean")
"""The supervised loss is the policy gradient with an advantage of 1 everywhere."""


def forward(graphdef: nnx.GraphDef, params: nnx.State, batch: Batch, temperature: float):
    """Log-probability and entropy of each generated token (float32 B×T), and whether it was the likeliest."""
    prompt, tokens = batch.prompts_BxN.shape[1], jnp.asarray(batch.tokens_BxT)
    fed = jnp.concatenate([jnp.asarray(batch.prompts_BxN), tokens[:, :-1]], axis=1)
    logits, _ = nnx.merge(graphdef, params)(fed, jnp.asarray(batch.padding_B))
    logits_BxTxV = logits[:, prompt - 1 :] / temperature
    return *token_logp(logits_BxTxV, tokens), logits_BxTxV.argmax(axis=-1) == tokens


@partial(jax.jit, static_argnames=("graphdef", "mesh", "recipe", "temperature", "kl"), donate_argnames=("total",))
def accumulate(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    reference: nnx.State | None,
    total: Any,
    batch: Batch,
    *,
    mesh: Mesh,
    recipe: Recipe,
    temperature: float,
    kl: float,
) -> Any:
    """`total` (gradients, sums of metrics) with those of one microbatch added."""

    def loss(params: nnx.State):
        logp_BxT, entropy_BxT, likeliest_BxT = forward(graphdef, params, batch, temperature)
        term_BxT, clipped_BxT = policy_term(logp_BxT, batch.old_logp_BxT, batch.advantage_BxT, recipe)
        used_BxT = batch.weight_BxT > 0
        sums = {
            "tokens": used_BxT.sum(),
            "entropy": jnp.where(used_BxT, entropy_BxT, 0).sum(),
            "clip_fraction": (used_BxT & clipped_BxT).sum(),
            "mismatch": jnp.where(used_BxT, jnp.abs(logp_BxT - batch.old_logp_BxT), 0).sum(),
            "accuracy": (used_BxT & likeliest_BxT).sum(),
            "kl": jnp.zeros(()),
        }
        if reference is not None:
            reference_BxT, _, _ = forward(graphdef, reference, batch, temperature)
            kl_BxT = kl_k3(logp_BxT, reference_BxT)
            term_BxT = term_BxT - kl * kl_BxT
            sums["kl"] = jnp.where(used_BxT, kl_BxT, 0).sum()
        value = -jnp.where(used_BxT, batch.weight_BxT * term_BxT, 0).sum()
        return value, sums | {"loss": value}

    grads, sums = jax.grad(loss, has_aux=True)(params)
    sums = jax.tree.map(lambda x: x.astype(jnp.float32), sums)
    return jax.tree.map(jnp.add, total, (keep(grads, mesh), sums))


METRICS = ("tokens", "entropy", "clip_fraction", "mismatch", "accuracy", "kl", "loss")


@partial(jax.jit, static_argnames=("mesh",))
def nothing(params: nnx.State, *, mesh: Mesh) -> tuple[nnx.State, dict[str, jax.Array]]:
    """The total before the first microbatch, placed as the others will be."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return keep(zeros, mesh), keep({name: jnp.zeros(()) for name in METRICS}, mesh)


def gradient(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    reference: nnx.State | None,
    parts: Iterable[Batch],
    mesh: Mesh,
    *,
    recipe: Recipe = SUPERVISED,
    temperature: float = 1.0,
    kl: float = 0.0,
) -> tuple[nnx.State, dict[str, jax.Array]]:
    """The gradient of the loss over all parts, and sums of its metrics over tokens (`means` divides them)."""
    total = nothing(params, mesh=mesh)
    for part in parts:
        total = accumulate(
            graphdef,
            params,
            reference,
            total,
            place_batch(part, mesh),
            mesh=mesh,
            recipe=recipe,
            temperature=temperature,
            kl=kl,
        )
    return total


def means(sums: dict[str, jax.Array]) -> dict[str, float]:
    """Metrics on the host: means over tokens, but for `loss` and `tokens`. Waits for the devices."""
    found = {name: float(value) for name, value in jax.device_get(sums).items()}
    tokens = max(found["tokens"], 1.0)
    return {name: value if name in ("tokens", "loss") else value / tokens for name, value in found.items()}


@cache
def optimiser(*, b2: float, weight_decay: float, clip_norm: float) -> optax.GradientTransformation:
    """AdamW without its learning rate, which `step` takes, so that a schedule needs no state of its own."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.scale_by_adam(b2=b2),
        optax.add_decayed_weights(weight_decay, mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params)),
    )


@partial(jax.jit, static_argnames=("tx",), donate_argnames=("params", "opt_state"))
def step(tx: optax.GradientTransformation, params, opt_state, grads, learning_rate):
    """Parameters and optimiser state after one update, and the gradient's global norm before clipping."""
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, jax.tree.map(lambda u: -learning_rate * u, updates))
    return params, opt_state, optax.tree.norm(grads)


def make_optimiser(config: Config, phase: str) -> optax.GradientTransformation:
    """The phase's optimiser; the state has one structure in both phases."""
    decay = config.warm_start.weight_decay if phase == "warm_start" else 0.0
    return optimiser(b2=config.rl.b2, weight_decay=decay, clip_norm=config.rl.clip_norm)


def objective(config: Config, phase: str) -> dict[str, Any]:
    """What a phase learns by, as `gradient` takes it: recipe, temperature and weight of the KL penalty."""
    if phase == "warm_start":
        return {"recipe": SUPERVISED, "temperature": 1.0, "kl": 0.0}
    return {"recipe": RECIPES[config.rl.recipe], "temperature": config.rl.temperature, "kl": config.rl.kl}


def learn(
    experiment: Experiment,
    phase: str,
    state: dict[str, Any],
    reference: nnx.State | None,
    batch: Batch,
    learning_rate: float,
) -> tuple[dict[str, Any], dict[str, jax.Array], jax.Array]:
    """The state after one update from a batch, sums of its metrics (`means`), and the gradient's norm (`step`)."""
    config, graphdef, mesh = experiment.config, experiment.graphdef, experiment.mesh
    parts = microbatches(batch, config.microbatch)
    grads, sums = gradient(graphdef, state["params"], reference, parts, mesh, **objective(config, phase))
    tx = make_optimiser(config, phase)
    params, opt_state, norm = step(tx, state["params"], state["opt_state"], grads, learning_rate)
    return {"params": params, "opt_state": opt_state}, sums, norm


def initial_state(experiment: Experiment) -> dict[str, Any]:
    """The state before the first step: params and opt_state."""
    config = experiment.config
    _, params = build(config.model, experiment.vocab, config.seed)
    opt_state = make_optimiser(config, "warm_start").init(params)
    return place({"params": params, "opt_state": opt_state}, experiment.mesh)


def abstract_state(experiment: Experiment) -> dict[str, Any]:
    """Shapes, types and places of the state, nothing computed."""
    _, params = abstract(experiment.config.model, experiment.vocab)
    opt_state = jax.eval_shape(make_optimiser(experiment.config, "warm_start").init, params)
    state = {"params": params, "opt_state": opt_state}
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings(state, experiment.mesh)
    )
