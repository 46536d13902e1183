"""A checkpoint is restored bit for bit, or it is noticed and an older one is: never wrong values."""

import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scaling import checkpoints
from scaling.check import check
from scaling.checkpoints import CheckpointError, leaf_hash, leaf_paths, restore, save, verify
from scaling.records import Run


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", "seed: 0\n", "abc", {"time": 1.0})


def make_state(seed):
    key = jax.random.key(seed)
    params = {
        "embed": jax.random.normal(key, (40, 8)),
        "blocks": [{"up": jax.random.normal(jax.random.fold_in(key, n), (8, 32))} for n in range(2)],
        "low": jax.random.normal(key, (3, 5), jnp.bfloat16),
        "odd": jnp.array([-0.0, jnp.inf, jnp.nan, 1e-45]),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.constant_schedule(1e-3)))
    opt_state = optimizer.init(params)
    for _ in range(seed + 1):
        opt_state = optimizer.update(jax.tree.map(jnp.ones_like, params), opt_state, params)[1]
    return {"params": params, "opt_state": opt_state}


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def fields(step, kind="threshold"):
    return {"step": step, "kind": kind, "ledger": {"flops": {"warm_start": 2**70}}}


def same(one, other):
    hashes = [{path: leaf_hash(leaf) for path, leaf in leaf_paths(state).items()} for state in (one, other)]
    return jax.tree.structure(one) == jax.tree.structure(other) and hashes[0] == hashes[1]


def checked(run):
    """What `check` finds about checkpoints: these runs have nothing else."""
    return [line for line in check(run.path) if line.startswith(str(run.checkpoints))]


def refuse(line):
    raise AssertionError(f"a sound checkpoint was called damaged: {line}")


def test_a_state_comes_back_bit_for_bit(run):
    state = make_state(3)
    name = save(run, state, fields(7))
    restored, manifest = restore(run, abstract(state), warn=refuse)
    assert name == "00000007"
    assert same(restored, state)
    assert manifest == run.read_manifest(name)
    assert manifest["ledger"] == {"flops": {"warm_start": 2**70}}
    assert manifest["config_hash"] == "abc"
    assert "opt_state/1/0/mu/blocks/0/up" in manifest["hashes"]
    assert verify(run.path) == checked(run) == []


def test_the_newest_is_restored_and_an_older_one_by_name(run):
    states = {step: make_state(step) for step in (1, 2)}
    names = {step: save(run, state, fields(step)) for step, state in states.items()}
    assert restore(run, abstract(states[1]), warn=refuse)[1]["step"] == 2
    for step, state in states.items():
        assert same(restore(run, abstract(state), names[step], warn=refuse)[0], state)


def test_no_checkpoint_restores_to_none(run):
    assert restore(run, abstract(make_state(0)), warn=refuse) is None


@given(hnp.arrays(np.uint16, st.integers(1, 9)), st.data())
def test_any_bit_the_shape_and_the_dtype_change_a_hash(array, data):
    flipped = array.copy()
    flipped[data.draw(st.integers(0, array.size - 1))] ^= 1 << data.draw(st.integers(0, 15))
    same_bytes = [array, array[None], *(array.view(dtype) for dtype in (np.int16, np.float16, jnp.bfloat16))]
    hashes = [leaf_hash(leaf) for leaf in (flipped, *same_bytes)]
    assert len(set(hashes)) == len(hashes)
    assert leaf_hash(np.stack([array, flipped], 1)[:, 0]) == leaf_hash(array), "memory layout is no value"


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]


def truncate(data):
    return data[: len(data) // 2]


@pytest.mark.parametrize("damage", [flip, truncate, None], ids=["flipped", "truncated", "missing"])
def test_damage_to_any_file_never_restores_wrong_values(run, tmp_path, damage):
    """A file whose damage goes unnoticed must be one that does not matter: the values are still right."""
    states = {step: make_state(step) for step in (1, 2)}
    for step, state in states.items():
        save(run, state, fields(step))
    sound = shutil.copytree(run.checkpoints, tmp_path / "sound")
    files = [file.relative_to(sound) for file in sound.glob("00000002*/**/*") if file.is_file()]
    files.append((sound / "00000002.json").relative_to(sound))
    noticed = set()
    for file in files:
        shutil.rmtree(run.checkpoints)
        shutil.copytree(sound, run.checkpoints)
        if damage:
            (run.checkpoints / file).write_bytes(damage((sound / file).read_bytes()))
        else:
            (run.checkpoints / file).unlink()
        said = []
        restored, manifest = restore(run, abstract(states[1]), warn=said.append)
        assert same(restored, states[manifest["step"]]), f"{file}: wrong values"
        if manifest["step"] == 1:
            noticed.add(file)
            assert not run.manifest_file("00000002").exists()
        assert bool(said) == (run.checkpoints / "damaged").exists(), f"{file}: set aside without a word"
    values = max(files[:-1], key=lambda file: (sound / file).stat().st_size)
    assert {values, files[-1]} <= noticed, "damage to the values or to the manifest went unnoticed"


def test_verify_names_the_damaged_checkpoint_and_moves_nothing(run):
    for step in (1, 2):
        save(run, make_state(step), fields(step))
    values = max((run.checkpoints / "00000001").rglob("*"), key=lambda file: file.stat().st_size)
    values.write_bytes(flip(values.read_bytes()))
    found = verify(run.path)
    assert len(found) == 1
    assert "00000001: damaged" in found[0]
    assert run.manifest_names() == ["00000001", "00000002"]


def test_damage_to_all_restores_nothing_and_deletes_nothing(run):
    for step in (1, 2):
        save(run, make_state(step), fields(step))
        shutil.rmtree(run.checkpoints / f"{step:08d}" / "default")
    said = []
    assert restore(run, abstract(make_state(1)), warn=said.append) is None
    assert [line.partition(" is damaged")[0] for line in said] == [
        "checkpoint 00000002",
        "checkpoint 00000001",
    ]
    assert all(str(run.checkpoints / "damaged") in line and "\n" not in line for line in said)
    save(run, make_state(2), fields(2))
    shutil.rmtree(run.checkpoints / "00000002" / "default")
    assert restore(run, abstract(make_state(1)), warn=said.append) is None
    kept = {entry.name for entry in (run.checkpoints / "damaged").iterdir() if entry.is_dir()}
    assert kept == {"00000001", "00000002", "00000002-1"}


def test_a_manifest_without_directory_falls_back(run):
    states = {step: make_state(step) for step in (1, 2)}
    for step, state in states.items():
        save(run, state, fields(step))
    shutil.rmtree(run.checkpoints / "00000002")
    said = []
    restored, manifest = restore(run, abstract(states[1]), warn=said.append)
    assert manifest["step"] == 1
    assert same(restored, states[1])
    assert "its directory is missing" in said[0]


def test_a_named_checkpoint_has_no_substitute(run):
    for step in (1, 2):
        save(run, make_state(step), fields(step))
    shutil.rmtree(run.checkpoints / "00000002" / "default")
    assert restore(run, abstract(make_state(2)), "00000002", warn=lambda line: None) is None
    assert run.manifest_names() == ["00000001"]


def test_another_structure_is_refused_and_is_no_damage(run):
    state = make_state(0)
    save(run, state, fields(1))
    larger = {**state, "params": {**state["params"], "embed": jnp.zeros((41, 8))}}
    with pytest.raises(
        CheckpointError, match=r"params/embed: holds float32\[40,8\], the state has float32\[41,8\]"
    ):
        restore(run, abstract(larger), warn=refuse)
    with pytest.raises(CheckpointError, match="extra: holds none"):
        restore(run, abstract({**state, "extra": jnp.zeros(1)}), warn=refuse)
    assert run.manifest_names() == ["00000001"]


def test_the_trouble_of_the_machine_is_no_damage(run, monkeypatch):
    state = make_state(0)
    save(run, state, fields(1))

    def deny(*_, **__):
        raise PermissionError("not yours")

    monkeypatch.setattr(checkpoints.ocp.PyTreeCheckpointHandler, "restore", deny)
    with pytest.raises(PermissionError):
        restore(run, abstract(state), warn=refuse)
    assert run.manifest_names() == ["00000001"]


def test_a_crash_before_the_manifest_leaves_no_checkpoint_and_the_name_free(run, monkeypatch):
    states = {step: make_state(step) for step in (1, 2)}
    save(run, states[1], fields(1))

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_manifest", crash)
        with pytest.raises(KeyboardInterrupt):
            save(run, states[2], fields(2))
    (run.checkpoints / "00000009.orbax-checkpoint-tmp").mkdir()
    assert (run.checkpoints / "00000002").is_dir()
    assert restore(run, abstract(states[1]), warn=refuse)[1]["step"] == 1

    save(run, states[2], fields(2))
    restored, manifest = restore(run, abstract(states[1]), warn=refuse)
    assert manifest["step"] == 2
    assert same(restored, states[2])
    assert checked(run) == []


def test_rolling_checkpoints_go_when_a_newer_one_is_committed(run, monkeypatch):
    state = make_state(0)
    save(run, state, fields(1, "start"))
    save(run, state, fields(2, "resume"))
    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_manifest", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            save(run, state, fields(3, "resume"))
    assert run.manifest_names() == ["00000001", "00000002"], "gone before the newer one was committed"
    save(run, state, fields(4, "resume"))
    assert run.manifest_names() == ["00000001", "00000004"]
    save(run, state, fields(5))
    assert run.manifest_names() == ["00000001", "00000005"]
    assert checked(run) == []


def test_a_kill_amid_the_last_removal_leaves_nothing_once_training_starts_again(run, monkeypatch):
    state = make_state(0)
    save(run, state, fields(1, "resume"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.shutil, "rmtree", lambda *_, **__: sys.exit("killed"))
        with pytest.raises(SystemExit):
            save(run, state, fields(2))
    assert (run.checkpoints / "00000001").is_dir()
    assert run.manifest_names() == ["00000002"]
    checkpoints.clear(run)
    assert restore(run, abstract(state), warn=refuse)[1]["step"] == 2
    assert checked(run) == []


def test_what_a_link_leads_to_is_never_removed(run, tmp_path):
    """Checkpoints that somebody moved to another disk, leftovers of saves that are links, and links to nothing."""
    state = make_state(0)
    save(run, state, fields(1, "resume"))
    (run.checkpoints / "00000001").rename(tmp_path / "moved")
    for name, target in {
        "00000001": "moved",
        "00000007": "moved",
        "00000008.tmp": "moved",
        "00000002": "none",
    }.items():
        (run.checkpoints / name).symlink_to(tmp_path / target)
    assert same(restore(run, abstract(state), warn=refuse)[0], state) and verify(run.path) == []
    kept = sorted((tmp_path / "moved").rglob("*"))
    save(run, state, fields(2))
    assert run.manifest_names() == ["00000002"] and checked(run) == []
    assert sorted((tmp_path / "moved").rglob("*")) == kept


def test_the_same_state_again_only_gets_the_new_manifest(run, monkeypatch):
    state = make_state(0)
    save(run, state, fields(4, "resume"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.ocp.CheckpointManager, "save", refuse)
        save(run, state, fields(4, "end"))
        assert run.read_manifest("00000004")["kind"] == "end"
        save(run, state, fields(4, "resume"))
    assert run.read_manifest("00000004")["kind"] == "end", "a rolling one would be removed later"
    save(run, make_state(1), fields(4, "end"))
    assert same(restore(run, abstract(state), warn=refuse)[0], make_state(1))


OTHER_MESH = """
import sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from scaling.checkpoints import restore, save, verify
from scaling.records import Run

def placed(shape, names, spec):
    mesh = jax.make_mesh(shape, names, axis_types=(jax.sharding.AxisType.Auto,) * len(shape))
    return NamedSharding(mesh, spec)

run = Run.open(sys.argv[1])
values = np.arange(64, dtype=np.float32).reshape(8, 8)
save(run, {"w": jax.device_put(values, placed((4,), ("a",), P("a")))}, {"step": 1, "kind": "end"})
target = placed((2, 2), ("a", "b"), P("b", "a"))
state, _ = restore(run, {"w": jax.ShapeDtypeStruct((8, 8), np.float32, sharding=target)}, warn=sys.exit)
assert state["w"].sharding == target, state["w"].sharding
np.testing.assert_array_equal(np.asarray(state["w"]), values)
"""


def test_a_checkpoint_restores_onto_another_mesh(run):
    flags = {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", OTHER_MESH, str(run.path)],
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    values = np.arange(64, dtype=np.float32).reshape(8, 8)
    here = {"w": jax.ShapeDtypeStruct((8, 8), np.float32, sharding=jnp.zeros(1).sharding)}
    np.testing.assert_array_equal(np.asarray(restore(run, here, warn=refuse)[0]["w"]), values)
    assert verify(run.path) == []


def test_the_manifest_is_plain_json(run):
    name = save(run, make_state(0), fields(1))
    assert json.loads(run.manifest_file(name).read_text())["leaves"]["params/low"] == "bfloat16[3,5]"
