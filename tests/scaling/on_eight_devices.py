"""Run by test_sharding.py in a process of eight devices: each mesh against one device, a line of JSON each."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from toy import CONFIG, MODEL, TASK, VOCAB, model, one_device, problems, toy_experiment

from scaling.batches import Batch
from scaling.checkpoints import leaf_hash, leaf_paths, restore, save
from scaling.config import MeshConfig
from scaling.learner import abstract_state, gradient, make_optimiser, means, step
from scaling.recipes import RECIPES
from scaling.records import Run
from scaling.sampling import decode, left_pad, prefill, row_keys, sample
from scaling.sharding import make_mesh, place, place_batch, shardings
from scaling.tasks import PAD

MESHES = {
    "data=8": MeshConfig(),
    "fsdp=8": MeshConfig(fsdp=8),
    "tensor=8": MeshConfig(tensor=8),
    "data=2 fsdp=2 tensor=2": MeshConfig(fsdp=2, tensor=2),
}
CONFIG = replace(CONFIG, model=replace(MODEL, heads=8, kv_heads=8))
GRAPHDEF, PARAMS = model(CONFIG.model)
WIDTH = 16
TX = make_optimiser(CONFIG, "rl")


def batch() -> Batch:
    rng = np.random.default_rng(0)
    prompts, padding = left_pad([p.prompt for p in problems(8)], TASK.prompt_tokens)
    real = np.arange(WIDTH) < rng.integers(1, WIDTH + 1, 8)[:, None]
    tokens = np.where(real, rng.integers(1, len(VOCAB), real.shape), PAD).astype(np.int32)
    floats = real / real.sum(), rng.normal(size=real.shape), -rng.exponential(2.0, real.shape)
    return Batch(prompts, padding, tokens, *(x.astype(np.float32) for x in floats))


def initial(mesh):
    params = jax.tree.map(jnp.copy, PARAMS)  # a step consumes its state
    return place({"params": params, "opt_state": TX.init(params)}, mesh)


def learn(mesh) -> tuple[float, list[np.ndarray], dict]:
    """The loss, the gradient's leaves, and the state after a step."""
    state = initial(mesh)
    grads, sums = gradient(GRAPHDEF, state["params"], None, [batch()], mesh, recipe=RECIPES["cispo"])
    leaves = [np.asarray(x) for x in jax.tree.leaves(grads)]
    params, opt_state, _ = step(TX, state["params"], state["opt_state"], grads, 1e-2)
    return means(sums)["loss"], leaves, {"params": params, "opt_state": opt_state}


def greedy(mesh) -> tuple[np.ndarray, list[str]]:
    """Tokens at temperature 0, and the shapes that one device has of a layer's keys and values in the loop."""
    prompts, padding = batch()[:2]
    params, answer = place(PARAMS, mesh), dict(answer_tokens=TASK.answer_tokens, temperature=0.0, mesh=mesh)
    keys = row_keys(0, 1, 0, np.arange(16))
    (rollout,) = sample(GRAPHDEF, params, prompts, padding, keys, group=2, budgets=(6,), chunk=16, **answer)
    placed = place_batch((prompts, padding, np.zeros((16, WIDTH), np.float32)), mesh)
    rows = prefill(GRAPHDEF, params, *placed[:2], group=2, batch=16, span=WIDTH, mesh=mesh)
    lowered = decode.lower(
        GRAPHDEF, params, rows, placed[2], *np.int32((0, 9, 6, 0)), prompt=prompts.shape[1], **answer
    )
    loops = [line for line in lowered.compile().as_text().splitlines() if " while(" in line]
    shapes = re.findall(rf"f32\[(\d+,\d+,{prompts.shape[1] + WIDTH},\d+)\]", "".join(loops))
    return rollout.tokens_BxT, sorted(set(shapes))


def held(x: jax.Array) -> float:
    """Share of an array on its first device."""
    return x.addressable_shards[0].data.size / x.size


def hashes(state) -> dict[str, str]:
    return {path: leaf_hash(leaf) for path, leaf in leaf_paths(state).items()}


def ruled(state, mesh) -> bool:
    """Whether every leaf is where its rule wants it."""
    same = jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), state, shardings(state, mesh))
    return all(jax.tree.leaves(same))


assert len(jax.devices()) == 8
run = Run.create(Path(sys.argv[1]), "", "abc", {})
loss, grads, state = learn(one_device())
tokens, _ = greedy(one_device())
written = {save(run, state, {"step": 0, "kind": "threshold"}): hashes(state)}
for i, (name, config) in enumerate(MESHES.items()):
    mesh = make_mesh(config)
    loss_here, grads_here, state = learn(mesh)
    tokens_here, cache = greedy(mesh)
    written[save(run, state, {"step": i + 1, "kind": "threshold"})] = hashes(state)
    whole = initial(mesh)
    said = {
        "loss": abs(loss - loss_here),
        "gradient": max(float(np.abs(a - b).max()) for a, b in zip(grads, grads_here, strict=True)),
        "tokens": bool((tokens == tokens_here).all()),
        "cache": cache,
        "ruled": [ruled(whole, mesh), ruled(state, mesh)],
        "matrix": held(whole["params"]["blocks"][0]["up"][...]),
        "moments": held(whole["opt_state"][1].mu["blocks"][0]["up"][...]),
        "batch": held(place_batch(batch(), mesh).tokens_BxT),
    }
    print(json.dumps({"mesh": name, **said}))
for name, config in {"one device": None, **MESHES}.items():
    mesh = make_mesh(config) if config else one_device()
    abstract = abstract_state(toy_experiment(CONFIG, mesh=mesh))
    for checkpoint, expected in written.items():
        restored, _ = restore(run, abstract, checkpoint, warn=sys.exit) or ({}, None)
        assert hashes(restored) == expected and ruled(restored, mesh), f"{checkpoint} on {name}"
