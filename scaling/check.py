"""What is wrong with the records of a run, in plain lines, and how much was looked at.

Checkpoint contents: `checkpoints.verify`.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.files import DAMAGED, RecordError, Row, lines, row_key
from scaling.quantities import how_many
from scaling.records import EVAL_KEY, TRAIN_KEY, Run, checkpoint_name
from scaling.status import STALE_SECONDS


@dataclass(frozen=True)
class Counts:
    """What there is to verify in a run."""

    train_rows: int
    evaluations: int
    evaluation_rows: int
    checkpoints: int
    leaves: int
    """Arrays whose hash the readable manifests hold."""

    def __str__(self) -> str:
        return (
            f"{how_many(self.train_rows, 'training row')}, {how_many(self.evaluations, 'evaluation')} with "
            f"{how_many(self.evaluation_rows, 'row')}, {how_many(self.checkpoints, 'checkpoint')} with "
            f"{how_many(self.leaves, 'array')}"
        )


def counts(path: str | Path) -> Counts:
    """How much `check` and `checkpoints.verify` look at: the rows and manifests that can be read."""
    run = Run.open(path)
    names, manifests = run.evaluation_names(), run.sound_manifests()
    return Counts(
        len(_check_lines(run.train_file, TRAIN_KEY)[0]),
        len(names),
        sum(len(_check_lines(run.evaluation_file(name), EVAL_KEY)[0]) for name in names),
        len(manifests),
        sum(len(manifest.get("hashes", ())) for manifest in manifests),
    )


def check(path: str | Path, problems: int | None = None, budgets: Sequence[int] | None = None) -> list[str]:
    """Findings about a run directory, one line each; empty where nothing is wrong. Changes nothing.

    An evaluation is complete when it has all (problem, budget) of the config's grid; without a grid given, of
    the grid that the evaluations of the run have together. Raises RecordError where there is no run at all.
    """
    run = Run.open(path)
    found = _check_identity(run) + _check_set_aside(run) + _check_train(run) + _check_checkpoints(run)
    return found + _check_evaluations(run, problems, budgets)


def _check_identity(run: Run) -> list[str]:
    found = []
    for reader in (run.config_hash, run.environment, run.read_status):
        try:
            reader()
        except RecordError as error:
            found.append(str(error))
    if found:
        return found
    status = run.read_status()
    if status is None and run.train_file.exists():
        found.append(f"{run.status_file}: no such file")
    if status and status["state"] == "running":
        age = time.time() - status["heartbeat"]
        if age > STALE_SECONDS:
            found.append(f"{run.status_file}: says running, but its last heartbeat is {age:.0f} s old")
    return found


def _check_set_aside(run: Run) -> list[str]:
    """What was found damaged before: it is kept, but somebody should look at the disk."""
    found = []
    for folder, kind in ((run.path, "record"), (run.checkpoints, "checkpoint"), (run.evals, "evaluation")):
        kept = len({entry.name.partition(".")[0] for entry in (folder / DAMAGED).glob("*")})
        if kept:
            found.append(f"{folder / DAMAGED}: holds {how_many(kept, f'damaged {kind}')}")
    return found


def _check_lines(path: Path, key: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The readable rows in file order, the first of each key, and findings about the file itself."""
    rows: dict[tuple, Row] = {}
    found, size = [], 0
    if not path.exists():
        return [], []
    try:
        for place, line, row in lines(path):
            size += len(line)
            identity = row_key(place, row, key)
            if identity in rows:
                found.append(f"{place}: repeats the key {identity}; the first row counts")
            rows.setdefault(identity, row)
    except RecordError as error:
        return list(rows.values()), [*found, str(error)]
    torn = path.stat().st_size - size
    if torn:
        found.append(f"{path}: its last line is torn ({torn} bytes) and does not count")
    return list(rows.values()), found


def _check_train(run: Run) -> list[str]:
    rows, found = _check_lines(run.train_file, TRAIN_KEY)
    steps = [row["step"] for row in rows]
    saved = max((int(name) for name in run.manifest_names()), default=0)
    if saved > max(steps, default=0):
        found.append(f"{run.train_file}: ends at step {max(steps, default=0)}, checkpoints at step {saved}")
    for row, following in itertools.pairwise(rows):
        if row.get("time", 0) > following.get("time", 0):
            found.append(f"{run.train_file}: the clock goes backwards before step {following['step']}")
    for before, after in itertools.pairwise([0, *steps]):
        if after < before:
            found.append(f"{run.train_file}: step {after} comes after step {before}")
        elif after > before + 1:
            found.append(f"{run.train_file}: steps {before + 1} to {after - 1} are missing before step {after}")
    for row in rows:
        if row.get("train_flops") != sum(row.get("ledger", {}).get("flops", {}).values()):
            found.append(f"{run.train_file}: step {row['step']}: train_flops is not the sum of its ledger")
    return found


def _check_checkpoints(run: Run) -> list[str]:
    found = []
    names = run.manifest_names()
    directories = {entry.name for entry in run.checkpoints.glob("*") if entry.is_dir()} - {DAMAGED}
    for name in names:
        if name not in directories:
            found.append(f"{run.manifest_file(name)}: has no directory {name} beside it")
        try:
            found += _check_manifest(run, run.read_manifest(name))
        except RecordError as error:
            found.append(str(error))
    for name in sorted(directories - set(names)):
        found.append(f"{run.checkpoints / name}: has no manifest; an interrupted save, not a checkpoint")
    return found


def _check_manifest(run: Run, manifest: Row) -> list[str]:
    file = run.manifest_file(manifest["name"])
    found = []
    if manifest["name"] != checkpoint_name(manifest["step"]):
        found.append(f"{file}: is of step {manifest['step']}")
    if manifest["config_hash"] != run.config_hash():
        found.append(f"{file}: belongs to another config (hash {manifest['config_hash']})")
    return found


def _check_evaluations(run: Run, problems: int | None, budgets: Sequence[int] | None) -> list[str]:
    found: list[str] = []
    cells: dict[Path, set[tuple[int, int]]] = {}
    for name in run.evaluation_names():
        file = run.evaluation_file(name)
        rows, findings = _check_lines(file, EVAL_KEY)
        cells[file] = {(row["problem"], row["budget"]) for row in rows}
        found += findings
        for row in rows:
            if not _adds_up(row):
                cell = f"problem {row['problem']}, budget {row['budget']}"
                found.append(f"{file}: {cell}: the counts of its answers do not add up")
        if not run.manifest_file(name).exists():
            found.append(f"{file}: evaluates a checkpoint that does not exist")
    for name in _left_out(run):
        found.append(f"{run.evaluation_file(name)}: no such file, and the run is done")
    everything = set().union(*cells.values())
    if problems is None:
        problems = 1 + max((problem for problem, _ in everything), default=-1)
    if budgets is None:
        budgets = sorted({budget for _, budget in everything})
    grid = set(itertools.product(range(problems), budgets))
    for file, done in cells.items():
        if grid - done:
            found.append(f"{file}: incomplete, {len(grid & done)} of {len(grid)} cells")
    return found


def _left_out(run: Run) -> list[str]:
    """Checkpoints of the experiment without an evaluation, though all of them were evaluated."""
    with contextlib.suppress(RecordError):
        status = run.read_status()
        if status and status["state"] == "done" and status["stage"] != "train":
            kinds = {manifest["name"]: manifest.get("kind") for manifest in run.sound_manifests()}
            return [n for n, kind in kinds.items() if kind != "resume" and not run.evaluation_file(n).exists()]
    return []


def _adds_up(row: Row) -> bool:
    answers = row.get("answers", [])
    total = sum(count for _, count, _ in answers)
    correct = sum(count for _, count, right in answers if right)
    return total == row.get("samples") and correct == row.get("correct")
