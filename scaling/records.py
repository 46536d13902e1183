"""A run's directory: create, append, read, repair. The one module that knows the format of its files.

    config.yaml            "# hash: HEX", then the resolved config
    environment.json       what the run was started with, and again where a later start differed
    train.jsonl            a row a step, key (step)
    checkpoints/NAME/      orbax; NAME is the step with eight digits
    checkpoints/NAME.json  its manifest; a checkpoint without one does not exist
    evals/NAME.jsonl       a row per (problem, budget), its key
    status.json            state, stage, heartbeat, reason, pid, host
    bad-batch-NAME.npz     what a step that came to no finite loss was to learn from
    damaged/               in each of the three folders: what was found damaged, kept as it was

How they survive a crash: `scaling.files`. A link stands for what it leads to, until a file takes its place.
Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.files import RecordError, Row, append, cut, keep_aside, plain, read, read_json, replace, write_json
from scaling.processes import started

TRAIN_KEY = ("step",)
EVAL_KEY = ("problem", "budget")
HASH_LINE = "# hash: "
STATES = ("running", "done", "failed", "preempted")
STAGES = ("train", "evaluate", "report")


def checkpoint_name(step: int) -> str:
    """Directory name of a checkpoint: sorts as the steps do."""
    return f"{step:08d}"


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
        now = plain(environment)
        if not run.config_file.exists():
            run._refuse_checkpoints_of_others(config_hash)
            write_json(run.environment_file, {**now, "later": []})
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
            write_json(run.environment_file, first)
        last = [first, *first["later"]][-1]
        if any(last.get(name) != value for name, value in now.items() if name != "time"):
            write_json(run.environment_file, {**first, "later": [*first["later"], now]})
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
        """The resolved config as YAML. Raises RecordError where config.yaml is not text."""
        return self._config()[2]

    def config_hash(self) -> str:
        """The identity that the run was created with. Raises RecordError where config.yaml lacks it."""
        head = self._config()[0]
        if not head.startswith(HASH_LINE):
            raise RecordError(f'{self.config_file}: its first line is not "{HASH_LINE}..."')
        return head.removeprefix(HASH_LINE)

    def _config(self) -> tuple[str, str, str]:
        try:
            return self.config_file.read_text(encoding="utf-8").partition("\n")
        except UnicodeDecodeError as error:
            raise RecordError(
                f"{self.config_file}: not UTF-8 text ({error.reason} at byte {error.start})"
            ) from None

    def environment(self) -> Row:
        """Raises RecordError where it is missing or damaged."""
        return read_json(self.environment_file, ("command", "later"))

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
        known = plain(manifest)
        write_json(self.manifest_file(known["name"]), {**known, "digest": _digest(known)})

    def read_manifest(self, name: str) -> Row:
        """Raises RecordError where it is missing, not JSON, or does not have its digest."""
        manifest = read_json(self.manifest_file(name))
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
        pid = os.getpid()
        write_json(self.status_file, {**status, "pid": pid, "start": started(pid), "host": socket.gethostname()})

    def read_status(self) -> Row | None:
        """None where there is none yet. Raises RecordError for a damaged one."""
        if not self.status_file.exists():
            return None
        return read_json(self.status_file, ("state", "stage", "heartbeat", "reason", "pid", "host"))
