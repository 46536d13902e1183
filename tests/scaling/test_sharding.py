"""Sharding: the same loss, gradient and tokens on every mesh, and each array where its rule says."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P
from toy import MODEL, TASK, VOCAB, one_device, toy_experiment

from scaling.config import MeshConfig
from scaling.learner import abstract_state
from scaling.sharding import AXES, RULES, make_mesh, place_batch, shardings

EIGHT = Path(__file__).parent / "on_eight_devices.py"


@pytest.fixture(scope="module")
def eight(tmp_path_factory) -> dict[str, dict]:
    """What `on_eight_devices.py` says of each mesh, in a process that takes the CPU for eight devices."""
    cheap = (
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # compiles in half the time
    )
    flags = f"--xla_cpu_multi_thread_eigen=false {cheap}"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    env["PYTHONPATH"] = str(EIGHT.parents[2])
    command = [sys.executable, EIGHT, tmp_path_factory.mktemp("eight") / "run"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {said.pop("mesh"): said for said in map(json.loads, done.stdout.splitlines())}


MESHES = ("data=8", "fsdp=8", "tensor=8", "data=2 fsdp=2 tensor=2")


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_a_mesh_changes_neither_loss_nor_gradient_nor_greedy_tokens(eight, mesh):
    assert eight[mesh]["loss"] < 1e-5 and eight[mesh]["gradient"] < 1e-5
    assert eight[mesh]["tokens"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "shares", "cache"),
    [
        ("data=8", (1, 1, 1 / 8), "2,8,21,8"),
        ("fsdp=8", (1 / 8, 1 / 8, 1 / 8), "2,8,21,8"),
        ("tensor=8", (1 / 8, 1 / 8, 1), "16,1,21,8"),
        ("data=2 fsdp=2 tensor=2", (1 / 4, 1 / 4, 1 / 4), "4,4,21,8"),
    ],
)
def test_each_device_holds_its_part_alone(eight, mesh, shares, cache):
    """Shares of a matrix, its moments and a batch; the shape of what it has of 16 rows × 8 heads of cache."""
    assert (eight[mesh]["matrix"], eight[mesh]["moments"], eight[mesh]["batch"]) == shares
    assert eight[mesh]["cache"] == [cache]


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_a_step_leaves_parameters_and_moments_where_their_rules_say(eight, mesh):
    assert eight[mesh]["ruled"] == [True, True]


@pytest.mark.slow
def test_a_checkpoint_of_any_mesh_restores_bit_for_bit_on_any_other(eight):
    """`on_eight_devices.py` fails where one does not: five meshes on five."""
    assert len(eight) == len(MESHES)


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
    state = abstract_state(toy_experiment(task=replace(TASK, vocab=tuple(map(str, range(vocab))))))
    mesh = AbstractMesh(tuple(sizes[axis] for axis in AXES), AXES)
    placed = jax.tree_util.tree_flatten_with_path(shardings(state, mesh))[0]
    assert all(isinstance(s, NamedSharding) for _, s in placed)
    return {jax.tree_util.keystr(path): sharding.spec for path, sharding in placed}


def test_each_parameter_and_its_moments_follow_their_own_rule():
    found = set()
    for path, spec in specs(len(VOCAB), data=2, fsdp=2, tensor=2).items():
        name = next((n for n in RULES if f"'{n}'" in path), None)
        assert spec == (P(*filter(None, RULES[name])) if name else P()), path
        found.add(name)
    assert found == {*RULES, None} - {"gate"}


def test_a_dimension_that_does_not_divide_is_replicated():
    assert MODEL.width % 4 == 0
    odd = specs(13, data=1, fsdp=4, tensor=2)
    assert odd["['params']['embedding'].value"] == P()
    assert odd["['params']['unembedding'].value"] == P("fsdp")
    assert odd["['params']['blocks'][0]['query'].value"] == P("fsdp", "tensor")
    whole = specs(13, data=1, fsdp=3, tensor=7)
    assert all(spec == P() for spec in whole.values())


def test_arrays_of_a_batch_keep_their_values():
    batch = {"tokens": np.arange(6).reshape(3, 2), "scalar": np.float32(2)}
    placed = place_batch(batch, one_device())
    assert placed["tokens"].tolist() == batch["tokens"].tolist() and float(placed["scalar"]) == 2
