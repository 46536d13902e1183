"""The mesh, and where each array lives.

Axes: `data` splits the batch; `fsdp` splits the batch too, and parameters and optimiser state along their first
free dimension; `tensor` splits heads and feed-forward. XLA inserts the collectives (GSPMD, arXiv 2105.04663).
"""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.config import MeshConfig

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")
RULES = {
    "embedding": P("fsdp", None),  # split along the width, the look-up would undo the batch's split
    "unembedding": P("fsdp", "tensor"),
    "query": P("fsdp", "tensor"),
    "key": P("fsdp", "tensor"),
    "value": P("fsdp", "tensor"),
    "out": P("tensor", "fsdp"),
    "up": P("fsdp", "tensor"),
    "gate": P("fsdp", "tensor"),
    "down": P("tensor", "fsdp"),
}
"""Parameter name → how its dimensions are split; what is not named is replicated."""


def make_mesh(config: MeshConfig) -> Mesh:
    """A mesh over all devices; one axis of −1 takes what the others leave.

    Raises ValueError where the axes do not multiply to the number of devices.
    """
    devices = jax.devices()
    shape = [config.data, config.fsdp, config.tensor]
    rest = int(np.prod([n for n in shape if n != -1]))
    shape = [len(devices) // rest if n == -1 else n for n in shape]
    if int(np.prod(shape)) != len(devices):
        raise ValueError(f"mesh: {dict(zip(AXES, shape, strict=True))} must multiply to {len(devices)} devices")
    return Mesh(np.array(devices).reshape(shape), AXES)


def _fits(spec: P, shape: tuple[int, ...], mesh: Mesh) -> P:
    """The spec without the axes that do not divide their dimension."""
    return P(
        *(axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in zip(spec, shape, strict=True))
    )


def shardings(tree, mesh: Mesh):
    """The sharding of every leaf of a tree of parameters (or of optimiser state that mirrors one)."""

    def leaf(path, x):
        # Dictionary keys only: every nnx leaf ends in an attribute `value`, which is no parameter's name.
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        rule = RULES.get(names[-1]) if names else None
        spec = _fits(rule, x.shape, mesh) if rule is not None and len(rule) == len(x.shape) else P()
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def place(tree, mesh: Mesh):
    """The tree with every leaf where `shardings` wants it."""
    return jax.device_put(tree, shardings(tree, mesh))


def place_batch(tree, mesh: Mesh):
    """Arrays split along their first dimension over the batch axes where these divide it."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]

    def leaf(x):
        spec = P(BATCH) if x.shape and x.shape[0] % ways == 0 else P()
        return jax.device_put(x, NamedSharding(mesh, spec))

    return jax.tree.map(leaf, tree)
