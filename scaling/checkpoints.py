"""Checkpoints of a run: saved whole or not at all, verified leaf by leaf when they are read.

Orbax commits a checkpoint atomically, but restores a damaged one without an error and with wrong values. So
the manifest holds a hash of every leaf, taken before anything is written, and is itself written last: a
checkpoint without a manifest does not exist, and one whose leaves do not have their hashes is set aside, not
used.

A state is a tree of arrays (nested dicts, tuples and named tuples), such as
`{"params": ..., "opt_state": optax_state}`. On several hosts each writes and reads its own parts of the arrays;
the first one does everything else, and says what is there.

    orbax: https://orbax.readthedocs.io
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from scaling import hosts
from scaling.files import DAMAGED, RecordError, Row, free_name
from scaling.records import Run, checkpoint_name
from scaling.sharding import fetch
from scaling.trouble import first_line, is_trouble, line

PyTree = Any
Arguments = Callable[[ocp.PyTreeCheckpointHandler, Path], ocp.args.PyTreeRestore]
KINDS = ("start", "threshold", "end", "resume")


class CheckpointError(RecordError):
    """A state that does not belong to the checkpoints of this run."""


class SaveError(RuntimeError):
    """A checkpoint that could not be written; those before it stand."""


class _Damage(Exception):
    """What is wrong with one checkpoint."""


# Leaves ----------------------------------------------------------------------------------------------------


def leaf_paths(tree: PyTree) -> dict[str, Any]:
    """Leaves by path, such as "opt_state/0/mu/embed": the same for tuples, named tuples, lists and dicts."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def leaf_hash(leaf: Any) -> str:
    """16 bytes of blake2b, in hex, over dtype, shape and bytes of an array, fetched to the host (every host)."""
    array = np.ascontiguousarray(fetch(leaf))
    digest = hashlib.blake2b(_kind(leaf).encode(), digest_size=16)
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _kind(leaf: Any) -> str:
    """Dtype and shape, such as "float32[64,256]"; of an abstract leaf too."""
    return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"


# Saving ----------------------------------------------------------------------------------------------------


def save(run: Run, state: PyTree, manifest: Row) -> str:
    """Save a state, then its manifest, then remove older rolling checkpoints; returns the checkpoint's name.

    `manifest` has the caller's fields (step, kind, phase, ledger, ...); name, leaves, hashes, config hash and
    time are added here. What an interrupted save left behind is removed first. A checkpoint of the same step
    and the same leaves only gets the new manifest, and keeps the old one where the new one is rolling.
    Raises SaveError where it cannot be written.
    """
    if manifest["kind"] not in KINDS:
        raise CheckpointError(f"kind: {manifest['kind']!r} is none of {', '.join(KINDS)}")
    name = checkpoint_name(manifest["step"])
    leaves = leaf_paths(state)
    hashes = {path: leaf_hash(leaf) for path, leaf in leaves.items()}
    if hosts.first(lambda: _holds(run, name, hashes)):
        if manifest["kind"] == "resume":  # whatever it is kept for, it serves to resume too
            return name
    else:
        hosts.first(lambda: _make_room(run, name))
        _write(run, manifest["step"], state)
    whole = {
        **manifest,
        "name": name,
        "leaves": {path: _kind(leaf) for path, leaf in leaves.items()},
        "hashes": hashes,
        "config_hash": run.config_hash(),
        "time": time.time(),
    }
    hosts.first(lambda: _commit(run, whole))
    return name


def _write(run: Run, step: int, state: PyTree) -> None:
    """Orbax's part, on all hosts at once."""
    options = ocp.CheckpointManagerOptions(
        step_format_fixed_length=8,
        enable_async_checkpointing=False,
        save_root_metadata=False,
        lightweight_initialize=True,
    )
    handler = ocp.PyTreeCheckpointHandler()
    # A manager for one operation, since it caches what is on disk; it starts in milliseconds.
    try:
        with ocp.CheckpointManager(run.checkpoints.absolute(), options=options, item_handlers=handler) as manager:
            manager.save(step, args=ocp.args.PyTreeSave(state), force=True)
            manager.wait_until_finished()
    except Exception as error:
        place = run.checkpoints / checkpoint_name(step)
        raise SaveError(f"{place}: could not be saved ({line(error)})") from error


def _holds(run: Run, name: str, hashes: dict[str, str]) -> bool:
    if not run.manifest_file(name).exists() or not (run.checkpoints / name).is_dir():
        return False
    try:
        return run.read_manifest(name)["hashes"] == hashes
    except RecordError:
        return False


def _make_room(run: Run, name: str) -> None:
    """Remove the checkpoint of this name."""
    run.manifest_file(name).unlink(missing_ok=True)
    clear(run)


def clear(run: Run) -> None:
    """Remove what interrupted saves and removals left behind. Only for the process that trains the run."""
    known = run.manifest_names()
    for entry in run.checkpoints.glob("[0-9]*"):
        if entry.suffix != ".json" and entry.name not in known:
            _remove(entry)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint's directory; of one that is a link, the link alone."""
    if checkpoint.is_symlink():
        checkpoint.unlink()
    elif checkpoint.is_dir():
        shutil.rmtree(checkpoint)


def _commit(run: Run, whole: Row) -> None:
    """Write the manifest; rolling checkpoints before it have served."""
    run.write_manifest(whole)
    for manifest in run.sound_manifests():
        if manifest["kind"] == "resume" and manifest["step"] < whole["step"]:
            run.manifest_file(manifest["name"]).unlink()
            with contextlib.suppress(OSError):  # the next save removes what is left
                _remove(run.checkpoints / manifest["name"])


# Restoring -------------------------------------------------------------------------------------------------


def restore(
    run: Run, abstract_state: PyTree, name: str | None = None, *, warn: Callable[[str], None]
) -> tuple[PyTree, Row] | None:
    """The newest sound checkpoint, or the named one, as (state, manifest); None where there is none.

    `abstract_state` is the state's tree of `jax.ShapeDtypeStruct`; a leaf's sharding says where it goes,
    whatever mesh it was saved from. A damaged checkpoint is moved with its manifest into checkpoints/damaged,
    `warn` gets one line, and the next older one is tried (with a name, none is).
    Raises CheckpointError where the checkpoint is of another structure: that is no damage.
    """
    for candidate in [name] if name else reversed(hosts.first(run.manifest_names)):
        try:
            return _load(run, candidate, abstract_state)
        except _Damage as damage:
            place = hosts.first(partial(_set_aside, run, candidate))
            warn(f"checkpoint {candidate} is damaged ({damage}); moved to {place}")
    return None


def _load(run: Run, name: str, abstract_state: PyTree) -> tuple[PyTree, Row]:
    manifest = hosts.first(lambda: _manifest(run, name))
    wanted = {path: _kind(leaf) for path, leaf in leaf_paths(abstract_state).items()}
    for path in sorted(wanted.keys() | manifest["leaves"].keys()):
        has, want = manifest["leaves"].get(path, "none"), wanted.get(path, "none")
        if has != want:
            raise CheckpointError(f"checkpoint {name}: {path}: holds {has}, the state has {want}")
    restore_args = ocp.checkpoint_utils.construct_restore_args(abstract_state)
    arguments = ocp.args.PyTreeRestore(item=abstract_state, restore_args=restore_args)
    return _read(run, manifest, lambda handler, place: arguments), manifest


def _manifest(run: Run, name: str) -> Row:
    try:
        manifest = run.read_manifest(name)
    except RecordError as error:
        raise _Damage(str(error)) from None
    if not (run.checkpoints / name).is_dir():
        raise _Damage("its directory is missing")
    return manifest


def _read(run: Run, manifest: Row, arguments: Arguments) -> PyTree:
    """What orbax restores, every leaf verified. What is damaged to one host is to all."""
    state = damage = None
    handler, place = ocp.PyTreeCheckpointHandler(), run.checkpoints.absolute() / manifest["name"] / "default"
    try:
        # Orbax's manager would wait for the other hosts here, also for one that has found damage.
        state = handler.restore(place, args=arguments(handler, place))
    except jax.errors.JaxRuntimeError:
        raise
    except Exception as error:
        if is_trouble(error):  # and not the checkpoint's damage
            raise
        damage = _Damage(f"{type(error).__name__}: {first_line(error)}")
    _agree(damage)
    found = {path: leaf_hash(leaf) for path, leaf in leaf_paths(state).items()}
    wrong = [path for path, expected in manifest["hashes"].items() if found.get(path) != expected]
    if wrong:
        damage = _Damage(f"{len(wrong)} of {len(found)} leaves do not have their hash, {wrong[0]} among them")
    _agree(damage)
    return state


def _agree(damage: _Damage | None) -> None:
    if hosts.any_host(damage is not None):
        raise damage or _Damage("as another host reads it")


def _set_aside(run: Run, name: str) -> Path:
    """Move a checkpoint and its manifest into checkpoints/damaged, beside earlier ones of the same name."""
    place = run.checkpoints / DAMAGED
    place.mkdir(exist_ok=True)
    target = free_name(place, name)
    # The directory first: a crash in between leaves a manifest alone, and not a leftover that a save removes.
    for old, new in ((name, target), (f"{name}.json", f"{target}.json")):
        if (run.checkpoints / old).exists():
            (run.checkpoints / old).rename(place / new)
    return place / target


def verify(path: str | Path) -> list[str]:
    """Findings about what a run's checkpoints hold, a line each; empty where all are sound. Moves nothing.

    Each is restored as training restores it, but for the place: all of it in the memory of the host. JAX needs a
    CPU among its platforms.
    """
    run = Run.open(path)
    cpu = ocp.ArrayRestoreArgs(sharding=SingleDeviceSharding(jax.devices("cpu")[0]))

    def on_the_host(handler: ocp.PyTreeCheckpointHandler, place: Path) -> ocp.args.PyTreeRestore:
        tree = handler.metadata(place).tree  # pyright: ignore[reportArgumentType]: any path will do
        return ocp.args.PyTreeRestore(restore_args=jax.tree.map(lambda _: cpu, tree))

    found = []
    for name in run.manifest_names():
        try:
            manifest = _manifest(run, name)
            _read(run, manifest, on_the_host)
        except _Damage as damage:
            found.append(f"{run.checkpoints / name}: damaged ({damage})")
    return found
