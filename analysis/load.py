"""From run directories to tables: outcomes of problems, points of the accuracy surface, curves to fit.

Reads through `scaling.records` alone; the config is plain data here, so no model code is imported.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.configs import config, setting
from analysis.estimators import effective_size, maj_at_k, pass_at_k, wilson
from analysis.table import Note, TableError, is_table, read
from analysis.wandb_source import is_wandb, read_wandb
from analysis.ways import run_frame
from scaling.files import RecordError, Row
from scaling.records import Run

log = logging.getLogger(__name__)

EXPORT_COLUMNS = (
    "run", "seed", "checkpoint", "step", "phase", "train_flops", "rl_flops", "budget", "samples", "estimator",
    "test_flops", "accuracy", "lo95", "hi95", "n",
)  # fmt: skip
COUNTS = (
    "problem", "difficulty", "budget", "samples", "correct", "tokens", "prefill_flops", "decode_flops",
    "stopped", "stopped_correct", "malformed", "lines", "slips",
)  # fmt: skip
MANIFEST = {
    "checkpoint": pl.String,
    "step": pl.Int64,
    "phase": pl.String,
    "train_flops": pl.Float64,
    "rl_flops": pl.Float64,
}
"""FLOPs are floats in tables: counts above 2^63 would not fit an integer column."""
OUTCOMES = (
    MANIFEST
    | {name: pl.Int64 for name in COUNTS}
    | {"prefill_flops": pl.Float64, "decode_flops": pl.Float64}
    | {"votes": pl.List(pl.Int64), "right": pl.List(pl.Boolean), "nulls": pl.Int64}
)
ESTIMATES = (
    {"run": pl.String, "seed": pl.Int64}
    | MANIFEST
    | {"budget": pl.Int64, "samples": pl.Int64, "estimator": pl.String, "test_flops": pl.Float64}
    | {"accuracy": pl.Float64, "lo95": pl.Float64, "hi95": pl.Float64, "n": pl.Int64}
    | {"draws": pl.Int64, "values": pl.List(pl.Float64)}
)


def find_runs(paths: Iterable[str | Path]) -> list[Path]:
    """Run directories among the paths, or directly inside them; each once, in order.

    Raises RecordError for a path that neither is a run directory nor holds one.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        inside = sorted(path.iterdir()) if path.is_dir() else []
        here = [path] if _is_run(path) else [child for child in inside if _is_run(child)]
        if not here:
            raise RecordError(f"{path}: neither a run directory (config.yaml) nor a folder that holds any")
        for run in here:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _is_run(path: Path) -> bool:
    return Run(path).config_file.is_file()


@dataclass(frozen=True)
class Evaluations:
    """A run's evaluations, and a line for each that is left out."""

    outcomes: pl.DataFrame
    """A row per checkpoint × problem × budget of the complete evaluations, by step, budget, problem: columns of
    the manifest (checkpoint, step, phase, train_flops, rl_flops), the counts of the evaluation row, and its
    answers as `votes` (how often each), `right` (bool each) and `nulls`; FLOPs as floats."""
    incomplete: tuple[str, ...]
    damaged: tuple[str, ...]


def evaluations(run_dir: str | Path, names: Collection[str] | None = None) -> Evaluations:
    """The evaluations of a run, all of them or those of the named checkpoints. Raises RecordError where its
    config is damaged."""
    run = Run.open(run_dir)
    plain = config(run_dir)
    problems = int(setting(plain, "evaluation.problems"))
    budgets = [int(b) for b in setting(plain, "evaluation.budgets")]
    wanted = {(p, b) for p in range(problems) for b in budgets}
    rows: list[dict[str, Any]] = []
    incomplete: list[str] = []
    damaged: list[str] = []
    evaluated = set(run.evaluation_names())
    for name in run.manifest_names() if names is None else names:
        try:
            manifest = run.read_manifest(name)
            if name not in evaluated:
                if manifest["kind"] != "resume":
                    incomplete.append(f"{name} (not evaluated)")
                continue
            state = {"checkpoint": name} | {key: manifest[key] for key in ("step", "phase")}
            state |= {key: float(manifest[key]) for key in ("train_flops", "rl_flops")}
            place = run.evaluation_file(name)
            found = [r for r in run.evaluation_rows(name) if (r["problem"], r["budget"]) in wanted]
            read = [state | _outcome(place, row) for row in found]
        except RecordError as error:
            damaged.append(str(error))
            continue
        if len(found) < len(wanted):
            incomplete.append(f"{name} ({len(found)} of {len(wanted)} cells)")
            continue
        rows.extend(read)
    frame = pl.DataFrame(rows, schema=OUTCOMES).sort("step", "budget", "problem")
    return Evaluations(frame, tuple(incomplete), tuple(damaged))


def outcomes(run_dir: str | Path, names: Collection[str] | None = None) -> pl.DataFrame:
    """`Evaluations.outcomes` of a run, or of the named checkpoints; what is left out is logged as warnings."""
    found = evaluations(run_dir, names)
    for line in found.damaged:
        log.warning("%s; left out", line)
    if found.incomplete:
        log.warning("%s: left out, evaluation incomplete: %s", run_dir, ", ".join(found.incomplete))
    return found.outcomes


def _outcome(place: Path, row: dict[str, Any]) -> dict[str, Any]:
    cell = f"{place}: problem {row['problem']}, budget {row['budget']}"
    missing = [name for name in (*COUNTS, "answers") if name not in row]
    if missing:
        raise RecordError(f"{cell}: lacks {', '.join(missing)}")
    real = [(count, right) for answer, count, right in row["answers"] if answer is not None]
    nulls = sum(count for answer, count, _ in row["answers"] if answer is None)
    if nulls + sum(count for count, _ in real) != row["samples"]:
        raise RecordError(f"{cell}: its answers do not add up to {row['samples']} samples")
    if sum(count for count, right in real if right) != row["correct"]:
        raise RecordError(f"{cell}: its right answers do not add up to {row['correct']} correct")
    votes = {"votes": [count for count, _ in real], "right": [right for _, right in real], "nulls": nulls}
    flops = {name: float(row[name]) for name in ("prefill_flops", "decode_flops")}
    return {name: row[name] for name in COUNTS} | flops | votes


def estimates(run_dir: str | Path, frame: pl.DataFrame | None = None) -> pl.DataFrame:
    """A row per checkpoint × budget × estimator × k: the export columns, `draws` and `values`.

    `values` are the problems' own estimates in [0, 1], in order of the problem; `draws` how many independent
    ones each averages (n // k), which bounds its information. `frame`: the run's `outcomes`, where at hand.
    """
    plain = config(run_dir)
    ks = sorted(int(k) for k in setting(plain, "evaluation.samples"))
    frame = outcomes(run_dir) if frame is None else frame
    name = {"run": Path(run_dir).resolve().name, "seed": int(setting(plain, "seed"))}
    rows: list[dict[str, Any]] = []
    for cell in frame.partition_by("checkpoint", "budget", maintain_order=True):
        head = cell.row(0, named=True)
        state = name | {key: head[key] for key in (*MANIFEST, "budget")}
        samples = cell["samples"].to_numpy()
        drawn = int(samples.min())
        prefill = float(cell["prefill_flops"].mean())  # type: ignore[arg-type]
        decode = float((cell["decode_flops"] / cell["samples"]).mean())  # type: ignore[arg-type]
        fits = [k for k in ks if k <= drawn]
        correct = cell["correct"].to_numpy()
        table = [("mean", 1, correct / samples)]
        table += [("pass", k, pass_at_k(samples, correct, k)) for k in fits]
        votes = maj_at_k(*vote_table(cell), fits)
        table += [("maj", k, votes[:, i]) for i, k in enumerate(fits)]
        for estimator, k, values in table:
            accuracy, draws = float(values.mean()), drawn // k
            lo, hi = wilson(accuracy, effective_size(values, draws))
            point = {"samples": k, "estimator": estimator, "test_flops": prefill + k * decode}
            point |= {"accuracy": accuracy, "lo95": lo, "hi95": hi, "n": len(values)}
            rows.append(state | point | {"draws": draws, "values": values.tolist()})
    return pl.DataFrame(rows, schema=ESTIMATES)


def evaluation_seconds(run_dir: str | Path) -> tuple[float, float]:
    """Wall time of all evaluations of a run, complete or not, and of the compilation that they waited for.

    A row that says nothing counts nothing, nor does a damaged evaluation.
    """
    run = Run.open(run_dir)
    rows: list[dict[str, Any]] = []
    for name in run.evaluation_names():
        with contextlib.suppress(RecordError):
            rows += run.evaluation_rows(name)
    return sum(row.get("seconds", 0.0) for row in rows), sum(row.get("compile_seconds", 0.0) for row in rows)


def last_ledgers(run_dir: str | Path) -> list[Row]:
    """The last training row and the newest manifest that can be read, with a logged warning for a damaged file
    of rows; damaged manifests are named by `outcomes`."""
    run = Run.open(run_dir)
    found: list[Row] = []
    try:
        found += run.train_rows()[-1:]
    except RecordError as error:
        log.warning("%s; training rows are left out", error)
    return [*found, *run.sound_manifests()[-1:]]


def vote_table(cell: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one checkpoint and budget of `outcomes`: votes [P, A] padded with 0, whether right [P, A], nulls [P]."""
    counts, right = cell["votes"].to_list(), cell["right"].to_list()
    width = max(map(len, counts))
    votes, flags = np.zeros((len(counts), width), dtype=np.int64), np.zeros((len(counts), width), dtype=bool)
    for i, (count, flag) in enumerate(zip(counts, right, strict=True)):
        votes[i, : len(count)], flags[i, : len(flag)] = count, flag
    return votes, flags, cell["nulls"].to_numpy()


def points(paths: Sequence[str | Path]) -> pl.DataFrame:
    """The tidy table of runs (directories, or folders of them), `EXPORT_COLUMNS`, one row a point.

    accuracy ± Wilson's 95% interval at the effective sample size; n = problems; test_flops = mean FLOPs of a
    problem answered with that budget and number of samples, alone: prefill once, every sample decoded.
    """
    return pl.concat([estimates(run) for run in find_runs(paths)]).select(EXPORT_COLUMNS)


def load(paths: str | Path | Sequence[str | Path], x: str | None = None, y: str | None = None) -> pl.DataFrame:
    """Anybody's curves as one canonical frame (`analysis.table.CANONICAL`), a row a point, or a point and problem.

    paths: run directories or folders of them (each run gives four curves, a row a problem and point), tables
    (CSV, TSV, Parquet, JSON lines), or W&B runs (a folder or .wandb file written offline, or
    "wandb:ENTITY/PROJECT/RUN"). x, y: columns of tables, see `analysis.table.read`. What there is to say about a
    table is logged as warnings. Raises TableError, or RecordError for a path that is none of these.
    """
    frame, notes = gather([paths] if isinstance(paths, str | Path) else paths, x, y)
    for note in notes:
        log.warning("%s", note)
    return frame


def gather(
    paths: Sequence[str | Path], x: str | None = None, y: str | None = None
) -> tuple[pl.DataFrame, list[Note]]:
    """What `load` loads, and the notes on it. Raises as `load` does, with the problems of all tables at once."""
    frames: list[pl.DataFrame] = []
    notes: list[Note] = []
    wrong: list[str] = []
    for path in paths:
        try:
            frame, said = _load(path, x, y)
        except TableError as error:
            wrong += error.lines
        else:
            frames.append(frame)
            notes += said
    if wrong or not frames:
        raise TableError(wrong or ["PATH: at least one run directory or table must be given"])
    return pl.concat(frames), notes


def _load(path: str | Path, x: str | None, y: str | None) -> tuple[pl.DataFrame, Sequence[Note]]:
    if is_wandb(path):
        return read_wandb(path, x, y)
    if is_table(path):
        return read(path, x, y)
    return pl.concat([run_frame(estimates(run)) for run in find_runs([path])]), ()
