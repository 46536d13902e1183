"""The mesh, and where each array lives.

Axes: `data` splits the batch; `fsdp` splits the batch too, and parameters and optimiser state along their first
free dimension; `tensor` splits heads and feed-forward. XLA inserts the collectives (GSPMD, arXiv 2105.04663).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.config import MeshConfig
from scaling.structure import ConfigError

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
CACHE = P(BATCH, "tensor")
"""How the keys and values of a layer, B×K×S×D, are split: as the batch and the heads that they belong to.

With one head, B×S×D, nothing is left for `tensor`.
"""


def make_mesh(config: MeshConfig) -> Mesh:
    """A mesh over all devices; one axis of −1 takes what the others leave.

    Raises ConfigError where the axes do not multiply to the number of devices.
    """
    devices = jax.devices()
    asked = [config.data, config.fsdp, config.tensor]
    rest = math.prod(n for n in asked if n != -1)
    shape = [len(devices) // rest if n == -1 else n for n in asked]
    if math.prod(shape) != len(devices):
        raise ConfigError([f"mesh: {dict(zip(AXES, asked, strict=True))} must multiply to {len(devices)} devices"])
    return Mesh(np.array(devices).reshape(shape), AXES)


def _fits(spec: P, shape: tuple[int, ...], mesh: Mesh) -> P:
    """The spec without the axes that do not divide their dimension, in the form in which XLA gives it back.

    Else jit would take what it returns for something new, and compile again.
    """

    def part(axes: str | tuple[str, ...] | None, size: int) -> tuple[str, ...] | None:
        names = tuple(axis for axis in ((axes,) if isinstance(axes, str) else axes or ()) if mesh.shape[axis] > 1)
        return names if names and size % math.prod(mesh.shape[axis] for axis in names) == 0 else None

    parts = [part(axes, size) for axes, size in zip(spec, shape, strict=False)]
    while parts and parts[-1] is None:
        parts.pop()
    return P(*parts)


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
    """The tree with every leaf where `shardings` wants it; on several hosts, each has the same tree."""
    return _put_all(tree, shardings(tree, mesh))


def _put_all(tree, placed):
    """In one call where no other host has a part."""
    if all(sharding.is_fully_addressable for sharding in jax.tree.leaves(placed)):
        return jax.device_put(tree, placed)
    return jax.tree.map(_put, tree, placed)


def _put(x, sharding: NamedSharding):
    """Each host fills its own part of an array that it has whole, with nothing sent between hosts."""
    if sharding.is_fully_addressable or (isinstance(x, jax.Array) and not x.is_fully_addressable):
        return jax.device_put(x, sharding)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
    whole = np.asarray(x)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def fetch(x) -> np.ndarray:
    """The whole of an array as NumPy's, on every host, wherever its parts are; all hosts must call it alike."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)


def batch_sharding(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Of an array of a batch: split along its first dimension over the batch axes where these divide it."""
    return NamedSharding(mesh, _fits(P(BATCH), shape, mesh))


def cache_sharding(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Of the keys or values of a layer, by `CACHE`."""
    return NamedSharding(mesh, _fits(CACHE if len(shape) == 4 else P(BATCH), shape, mesh))


def place_batch(tree, mesh: Mesh):
    """Arrays split as `batch_sharding` says."""
    return _put_all(tree, jax.tree.map(lambda x: batch_sharding(x.shape, mesh), tree))


def batch_ways(mesh: Mesh, rows: int) -> int:
    """Into how many parts `place_batch` splits so many rows."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    return ways if rows % ways == 0 else 1


def keep(tree, mesh: Mesh):
    """Inside jit: parameters or gradients stay where `shardings` wants them, wherever XLA would move them."""
    return jax.lax.with_sharding_constraint(tree, shardings(tree, mesh)) if mesh.size > 1 else tree


def keep_batch(tree, mesh: Mesh):
    """Inside jit: arrays split as `place_batch` splits them."""
    return _keep_all(tree, batch_sharding, mesh)


def keep_cache(cache, mesh: Mesh):
    """Inside jit: keys and values are split by `CACHE`."""
    return _keep_all(cache, cache_sharding, mesh)


def _keep_all(tree, sharding: Callable[[tuple[int, ...], Mesh], NamedSharding], mesh: Mesh):
    def leaf(x):
        return jax.lax.with_sharding_constraint(x, sharding(x.shape, mesh))

    return jax.tree.map(leaf, tree) if mesh.size > 1 else tree
