"""Sharding: the same gradient and the same tokens on every mesh, and each parameter where its rule says."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P
from toy import CONFIG, VOCAB, one_device

from scaling.config import MeshConfig
from scaling.learner import abstract_state
from scaling.sharding import AXES, RULES, make_mesh, place_batch, shardings

EIGHT = Path(__file__).parent / "on_eight_devices.py"


@pytest.fixture(scope="module")
def eight() -> str:
    """What `on_eight_devices.py` says, in a process that takes the CPU for eight devices."""
    cheap = (
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # compiles in half the time
    )
    flags = f"--xla_cpu_multi_thread_eigen=false {cheap}"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    done = subprocess.run([sys.executable, EIGHT], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("mesh", ["data=8", "fsdp=8", "data=2 fsdp=2 tensor=2"])
def test_a_mesh_changes_neither_gradient_nor_tokens(eight, mesh):
    line = next(line for line in eight.splitlines() if line.startswith(f"{mesh}:"))
    gap, tokens = line.split(": ")[1].split()
    assert float(gap) < 1e-5, f"the gradient is off by {gap}"
    assert tokens == "same"


def test_parameters_and_batches_are_split(eight):
    """Bytes of the embedding and rows of a batch on one of eight devices, as shares of the whole."""
    assert "fsdp=8 holds 0.125 of a matrix, 0.125 of its moments, 0.125 of a batch" in eight
    assert "data=8 holds 1.0 of a matrix, 1.0 of its moments, 0.125 of a batch" in eight
    assert "data=2 fsdp=2 tensor=2 holds 0.25 of a matrix, 0.25 of its moments, 0.25 of a batch" in eight


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (MeshConfig(data=3), r"mesh: .*'data': 3.* must multiply to 1 devices"),
        (MeshConfig(data=-1, tensor=2), r"mesh: .*'tensor': 2.* must multiply to 1 devices"),
        (MeshConfig(data=1, fsdp=5), r"mesh: .*'fsdp': 5.* must multiply to 1 devices"),
    ],
)
def test_a_mesh_that_does_not_fit_is_one_clear_line(monkeypatch, config, said):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(id=0)])
    with pytest.raises(ValueError, match=said) as error:
        make_mesh(config)
    assert "\n" not in str(error.value)


def specs(vocab: int, **sizes: int) -> dict[str, P]:
    """Name in the tree → spec, on a mesh of these sizes."""
    _, state = abstract_state(CONFIG, vocab, one_device())
    mesh = AbstractMesh(tuple(sizes[axis] for axis in AXES), AXES)
    placed = jax.tree_util.tree_flatten_with_path(shardings(state, mesh))[0]
    assert all(isinstance(s, NamedSharding) for _, s in placed)
    return {jax.tree_util.keystr(path): sharding.spec for path, sharding in placed}


def test_each_parameter_and_its_moments_follow_their_own_rule():
    found = set()
    for path, spec in specs(len(VOCAB), data=2, fsdp=2, tensor=2).items():
        name = next((n for n in RULES if f"'{n}'" in path), None)
        assert spec == (RULES[name] if name else P()), path
        found.add(name)
    assert found == {*RULES, None} - {"gate"}


def test_a_dimension_that_does_not_divide_is_replicated():
    assert CONFIG.model.width % 4 == 0
    odd = specs(13, data=1, fsdp=4, tensor=2)
    assert odd["['params']['embedding'].value"] == P(None, None)
    assert odd["['params']['unembedding'].value"] == P("fsdp", None)
    assert odd["['params']['blocks'][0]['query'].value"] == P("fsdp", "tensor")
    whole = specs(13, data=1, fsdp=3, tensor=7)
    assert all(spec in (P(), P(None, None)) for spec in whole.values())


def test_arrays_of_a_batch_keep_their_values():
    batch = {"tokens": np.arange(6).reshape(3, 2), "scalar": np.float32(2)}
    placed = place_batch(batch, one_device())
    assert placed["tokens"].tolist() == batch["tokens"].tolist() and float(placed["scalar"]) == 2
