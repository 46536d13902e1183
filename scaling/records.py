"""The files of a run directory: create, append, read, repair. The one module that knows their format.

    config.yaml            "# hash: HEX", then the resolved config
    environment.json       what the run was started with, and again where a later start differed
    train.jsonl            a row a step, key (step)
    checkpoints/NAME/      orbax; NAME is the step with eight digits
    checkpoints/NAME.json  its manifest; a checkpoint without one does not exist
    evals/NAME.jsonl       a row per (problem, budget), its key
    status.json            state, stage, heartbeat, reason, pid, host
    bad-batch-NAME.npz     what a step that came to no finite loss was to learn from
    damaged/               in each of the three folders: what was found damaged, kept as it was

JSON lines are appended whole, in a single write, and synced. A crash can therefore leave only an
unterminated last line: readers drop that one, and anything else that is wrong is an error with file and line.
A repeated key is the same fact and is returned once. All other files are replaced atomically, and take the place
of a link; else a link stands for what it leads to. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
TRAIN_KEY = ("step",)
EVAL_KEY = ("problem", "budget")
HASH_LINE = "# hash: "
DAMAGED = "damaged"
"""Directory beside checkpoints and records for those that are found damaged: kept, never read."""
STATES = ("running", "done", "failed", "preempted")
STAGES = ("train", "evaluate", "fit", "report")


class RecordError(ValueError):
    """A file of a run that is missing, damaged, or belongs to something else; the message names it."""


def checkpoint_name(step: int) -> str:
    """Directory name of a checkpoint: sorts as the steps do."""
    return f"{step:08d}"


# Whole files -----------------------------------------------------------------------------------------------


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a reader, or a crash, sees the old file or the new one, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _plain(value: Any) -> Any:
    """JSON-ready copy: array scalars become Python numbers; nan and infinities, which JSON lacks, null."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "item"):
        return _plain(value.item())
    raise RecordError(f"a record cannot hold a {type(value).__name__}; it takes numbers, text, lists and dicts")


def _dump(value: Row) -> bytes:
    return json.dumps(_plain(value), indent=1, allow_nan=False).encode() + b"\n"


def _load(path: Path) -> Row:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except ValueError as error:
        raise RecordError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise RecordError(f"{path}: holds a {type(value).__name__} where an object belongs")
    return value


def _whole(path: Path, fields: Sequence[str]) -> Row:
    value = _load(path)
    missing = [name for name in fields if name not in value]
    if missing:
        raise RecordError(f"{path}: lacks {', '.join(missing)}")
    return value


# JSON lines ------------------------------------------------------------------------------------------------


def append(path: Path, rows: Iterable[Row]) -> None:
    """Append rows as whole lines in a single write, then sync. A torn last line is cut first.

    Raises OSError, leaving the file as it was, where the disk takes only a part.
    """
    data = b"".join(json.dumps(_plain(row), allow_nan=False).encode() + b"\n" for row in rows)
    if not data:
        return
    new = not path.exists()
    if not new:
        repair(path)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = os.write(handle, data)
        if written != len(data):
            os.ftruncate(handle, os.fstat(handle).st_size - written)
            raise OSError(f"{path}: wrote {written} of {len(data)} bytes; is the disk full?")
        os.fsync(handle)
    finally:
        os.close(handle)
    if new:
        _sync_directory(path.parent)


def repair(path: Path) -> int:
    """Cut an unterminated last line in place; returns the number of bytes cut (0 where nothing was torn)."""
    with open(path, "rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 4096)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            end = start + newline + 1
            if newline >= 0:
                break
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
        return size - end


def lines(path: Path, offset: int = 0) -> Iterator[tuple[str, bytes, Row]]:
    """(place for a message, raw line with its newline, row) of every terminated line."""
    with open(path, "rb") as file:
        file.seek(offset)
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            place = f"{path}, line {number}" + (f" after byte {offset}" if offset else "")
            yield place, line, parse_line(place, line)


def parse_line(place: str, line: bytes) -> Row:
    """The row of a line. Raises RecordError that names its place."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RecordError(f"{place}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise RecordError(f"{place}: holds a {type(row).__name__} where an object belongs")
    return row


def row_key(place: str, row: Row, key: Sequence[str]) -> tuple:
    missing = [name for name in key if name not in row]
    if missing:
        raise RecordError(f"{place}: lacks {', '.join(missing)}, part of its key")
    return tuple(row[name] for name in key)


def read(path: Path, key: Sequence[str]) -> list[Row]:
    """Rows in file order, the first of each key; an unterminated last line is dropped. No file, no rows.

    Raises RecordError naming file and line where a line is not a JSON object or lacks its key.
    """
    if not path.exists():
        return []
    rows: dict[tuple, Row] = {}
    for place, _, row in lines(path):
        rows.setdefault(row_key(place, row, key), row)
    return list(rows.values())


def tail(path: Path, offset: int = 0) -> tuple[list[Row], int]:
    """Rows past a byte offset, and the offset to go on from, so that following a file costs what is new.

    A file that shrank below the offset (it was cut on resume) is read from its beginning.
    """
    if not path.exists():
        return [], 0
    if path.stat().st_size < offset:
        offset = 0
    rows = []
    for _, line, row in lines(path, offset):
        rows.append(row)
        offset += len(line)
    return rows, offset


def cut(path: Path, keep: Callable[[Row], bool]) -> int:
    """Atomically remove the rows that `keep` refuses, and a torn last line; returns how many rows went."""
    if not path.exists():
        return 0
    judged = [(line, keep(row)) for _, line, row in lines(path)]
    kept = b"".join(line for line, stays in judged if stays)
    if len(kept) != path.stat().st_size:
        replace(path, kept)
    return sum(not stays for _, stays in judged)


def free_name(folder: Path, stem: str, suffix: str = "") -> str:
    """`stem`, or stem-1, stem-2 … with the suffix: the first whose stem nothing in the folder has."""
    taken = {entry.name.partition(".")[0] for entry in folder.iterdir()}
    return next(new for n in itertools.count() if (new := f"{stem}-{n}" if n else stem) not in taken) + suffix


def keep_aside(path: Path) -> Path:
    """A damaged file as it is now, under a name of its own in a folder beside; it also stays, to be replaced."""
    folder = path.parent / DAMAGED
    folder.mkdir(exist_ok=True)
    aside = folder / free_name(folder, path.stem, path.suffix)
    os.link(path, aside)
    return aside


# A run -----------------------------------------------------------------------------------------------------


def _digest(manifest: Row) -> str:
    text = json.dumps(manifest, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Run:
    """A run directory. The constructor touches nothing; `create` makes it, `open` insists that it exists."""

    path: Path

    @staticmethod
    def create(path: str | Path, config_text: str, config_hash: str, environment: Row) -> Run:
        """Make the directory, or take up an existing one of the same hash, whose config.yaml then stays.

        An environment that differs from the last one is added to environment.json under "later"; one that is
        lost or damaged is begun anew. Raises RecordError where the directory holds a run of another config, be it
        that only its checkpoints say so.
        """
        run = Run(Path(path))
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        run.evals.mkdir(exist_ok=True)
        now = _plain(environment)
        if not run.config_file.exists():
            run._refuse_checkpoints_of_others(config_hash)
            replace(run.environment_file, _dump({**now, "later": []}))
            replace(run.config_file, f"{HASH_LINE}{config_hash}\n{config_text}".encode())
            return run
        found = run.config_hash()
        if found != config_hash:
            raise RecordError(
                f"{run.config_file}: another config (hash {found}, not {config_hash}); use another directory"
            )
        try:
            first = run.environment()
        except RecordError:
            if run.environment_file.exists():
                keep_aside(run.environment_file)
            first = {**now, "later": []}
            replace(run.environment_file, _dump(first))
        last = [first, *first["later"]][-1]
        if any(last.get(name) != value for name, value in now.items() if name != "time"):
            replace(run.environment_file, _dump({**first, "later": [*first["later"], now]}))
        return run

    @staticmethod
    def open(path: str | Path) -> Run:
        """An existing run. Raises RecordError where the directory holds none."""
        run = Run(Path(path))
        if not run.config_file.is_file():
            raise RecordError(f"{run.path}: not a run directory (it has no config.yaml)")
        return run

    def _refuse_checkpoints_of_others(self, config_hash: str) -> None:
        """Raises RecordError where config.yaml was lost and the run was of another config."""
        found = {manifest["config_hash"] for manifest in self.sound_manifests()} - {config_hash}
        if found:
            raise RecordError(
                f"{self.config_file}: missing, and the checkpoints are of another config (hash {found.pop()}, not "
                f"{config_hash}); put it back, or use another directory"
            )

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    @property
    def train_file(self) -> Path:
        return self.path / "train.jsonl"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def evals(self) -> Path:
        return self.path / "evals"

    def evaluation_file(self, name: str) -> Path:
        return self.evals / f"{name}.jsonl"

    def manifest_file(self, name: str) -> Path:
        return self.checkpoints / f"{name}.json"

    def bad_batch_file(self, step: int) -> Path:
        return self.path / f"bad-batch-{checkpoint_name(step)}.npz"

    def config_text(self) -> str:
        """The resolved config as YAML."""
        return self.config_file.read_text().partition("\n")[2]

    def config_hash(self) -> str:
        """The identity that the run was created with. Raises RecordError where config.yaml lacks it."""
        head = self.config_file.read_text().partition("\n")[0]
        if not head.startswith(HASH_LINE):
            raise RecordError(f'{self.config_file}: its first line is not "{HASH_LINE}..."')
        return head.removeprefix(HASH_LINE)

    def environment(self) -> Row:
        """Raises RecordError where it is missing or damaged."""
        return _whole(self.environment_file, ("command", "later"))

    # Training rows and evaluations

    def append_train(self, rows: Iterable[Row]) -> None:
        append(self.train_file, rows)

    def train_rows(self) -> list[Row]:
        return read(self.train_file, TRAIN_KEY)

    def cut_train(self, step: int) -> int:
        """Remove the rows past a restored step, which will be written again; returns how many went."""
        return cut(self.train_file, lambda row: row["step"] <= step)

    def append_evaluation(self, name: str, rows: Iterable[Row]) -> None:
        append(self.evaluation_file(name), rows)

    def evaluation_rows(self, name: str) -> list[Row]:
        return read(self.evaluation_file(name), EVAL_KEY)

    def evaluation_missing(self, name: str, problems: int, budgets: Sequence[int]) -> list[tuple[int, int]]:
        """The (problem, budget) cells that an evaluation still lacks; none when it is complete."""
        done = {(row["problem"], row["budget"]) for row in self.evaluation_rows(name)}
        return [cell for cell in itertools.product(range(problems), budgets) if cell not in done]

    def evaluation_names(self) -> list[str]:
        return sorted(file.stem for file in self.evals.glob("*.jsonl"))

    # Manifests

    def write_manifest(self, manifest: Row) -> None:
        """Write a manifest with its own digest; the last act of a checkpoint, which exists from here on."""
        plain = _plain(manifest)
        replace(self.manifest_file(plain["name"]), _dump({**plain, "digest": _digest(plain)}))

    def read_manifest(self, name: str) -> Row:
        """Raises RecordError where it is missing, not JSON, or does not have its digest."""
        manifest = _load(self.manifest_file(name))
        digest = manifest.pop("digest", None)
        if digest != _digest(manifest) or manifest.get("name") != name:
            raise RecordError(f"{self.manifest_file(name)}: damaged (its digest or its name does not match)")
        return manifest

    def manifest_names(self) -> list[str]:
        """Names of all checkpoints that have a manifest, readable or not, oldest first."""
        return sorted(file.stem for file in self.checkpoints.glob("*.json") if file.stem.isdigit())

    def manifests(self) -> list[Row]:
        """All manifests, by step. Raises RecordError at a damaged one."""
        return [self.read_manifest(name) for name in self.manifest_names()]

    def sound_manifests(self) -> list[Row]:
        """The manifests that can be read, by step."""
        found = []
        for name in self.manifest_names():
            with contextlib.suppress(RecordError):
                found.append(self.read_manifest(name))
        return found

    # Status

    def write_status(self, state: str, stage: str, reason: str = "") -> None:
        """Replace status.json with this state, now, of this process; called again it is the heartbeat."""
        if state not in STATES or stage not in STAGES:
            raise RecordError(f"status: {state!r} in {stage!r}; known are {STATES} in {STAGES}")
        status = {"state": state, "stage": stage, "heartbeat": time.time(), "reason": reason}
        replace(self.status_file, _dump({**status, "pid": os.getpid(), "host": socket.gethostname()}))

    def read_status(self) -> Row | None:
        """None where there is none yet. Raises RecordError for a damaged one."""
        if not self.status_file.exists():
            return None
        return _whole(self.status_file, ("state", "stage", "heartbeat", "reason", "pid", "host"))
