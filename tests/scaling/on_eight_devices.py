"""Run by test_sharding.py in a process of eight devices: each mesh against one device, a line of what differs."""

import jax
import numpy as np
from toy import CONFIG, MODEL, TASK, VOCAB, model, one_device, problems

from scaling.batches import Batch
from scaling.config import MeshConfig
from scaling.learner import gradient, make_optimiser
from scaling.objectives import RECIPES
from scaling.sampling import left_pad, row_keys, sample
from scaling.sharding import make_mesh, place, place_batch
from scaling.tasks import PAD

MESHES = {
    "data=8": MeshConfig(),
    "fsdp=8": MeshConfig(fsdp=8),
    "data=2 fsdp=2 tensor=2": MeshConfig(fsdp=2, tensor=2),
}
GRAPHDEF, PARAMS = model()
WIDTH = 16


def batch() -> Batch:
    rng = np.random.default_rng(0)
    prompts, padding = left_pad([p.prompt for p in problems(8)], TASK.prompt_tokens)
    real = np.arange(WIDTH) < rng.integers(1, WIDTH + 1, 8)[:, None]
    tokens = np.where(real, rng.integers(1, len(VOCAB), real.shape), PAD).astype(np.int32)
    floats = real / real.sum(), rng.normal(size=real.shape), -rng.exponential(2.0, real.shape)
    return Batch(prompts, padding, tokens, *(x.astype(np.float32) for x in floats))


def run(mesh) -> tuple[list[np.ndarray], np.ndarray]:
    """The gradient's leaves, and tokens sampled at temperature 0."""
    params = place(PARAMS, mesh)
    grads, _ = gradient(GRAPHDEF, params, None, [batch()], mesh, recipe=RECIPES["cispo"])
    prompts, padding = batch()[:2]
    (rollout,) = sample(
        GRAPHDEF,
        params,
        *place_batch((prompts, padding, row_keys(0, 1, 0, np.arange(16))), mesh),
        group=2,
        budgets=(6,),
        answer_tokens=TASK.answer_tokens,
        temperature=0.0,
    )
    return [np.asarray(x) for x in jax.tree.leaves(grads)], np.asarray(rollout.tokens_BxT)


def held(x: jax.Array) -> float:
    """Share of an array on its first device."""
    return x.addressable_shards[0].data.size / x.size


assert len(jax.devices()) == 8 and MODEL.kv_heads % 2 == 0
expected, tokens = run(one_device())
for name, config in MESHES.items():
    mesh = make_mesh(config)
    grads, again = run(mesh)
    gap = max(float(np.abs(a - b).max()) for a, b in zip(expected, grads, strict=True))
    print(f"{name}: {gap:.2e} {'same' if (again == tokens).all() else 'other'}")
    state = place({"params": PARAMS, "opt_state": make_optimiser(CONFIG, "rl").init(PARAMS)}, mesh)
    matrix, moments = (held(t["blocks"][0]["up"][...]) for t in (state["params"], state["opt_state"][1].mu))
    rows = held(place_batch(batch(), mesh).tokens_BxT)
    print(f"{name} holds {matrix} of a matrix, {moments} of its moments, {rows} of a batch")
