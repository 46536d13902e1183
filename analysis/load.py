"""From run directories to tables: outcomes of problems, and the points of the accuracy surface.

Reads through `scaling.records` alone; the config is plain data here, so no model code is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from analysis.estimators import effective_size, maj_at_k, pass_at_k, wilson
from scaling.records import RecordError, Run

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


def config(run_dir: str | Path) -> dict[str, Any]:
    """The run's config as plain nested data."""
    return yaml.safe_load(Run.open(run_dir).config_text())


def setting(values: dict[str, Any], path: str) -> Any:
    """A field of a plain config by its dotted path. Raises RecordError where it is missing."""
    value: Any = values
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise RecordError(f"config.yaml: lacks {path}")
        value = value[name]
    return value


def outcomes(run_dir: str | Path) -> pl.DataFrame:
    """A row per checkpoint × problem × budget of a run's complete evaluations, by step, budget, problem.

    Columns of the manifest (checkpoint, step, phase, train_flops, rl_flops), the counts of the evaluation
    row, and its answers as `votes` (how often each), `right` (bool each) and `nulls`; FLOPs as floats.
    Evaluations that lack problems or budgets are left out, with a logged warning that names them. Raises
    RecordError at a damaged file.
    """
    run = Run.open(run_dir)
    plain = config(run_dir)
    problems = int(setting(plain, "evaluation.problems"))
    budgets = [int(b) for b in setting(plain, "evaluation.budgets")]
    wanted = {(p, b) for p in range(problems) for b in budgets}
    rows: list[dict[str, Any]] = []
    incomplete: list[str] = []
    evaluated = set(run.evaluation_names())
    for manifest in run.manifests():
        name = manifest["name"]
        if name not in evaluated:
            if manifest["kind"] != "resume":
                incomplete.append(f"{name} (not evaluated)")
            continue
        found = [r for r in run.evaluation_rows(name) if (r["problem"], r["budget"]) in wanted]
        if len(found) < len(wanted):
            incomplete.append(f"{name} ({len(found)} of {len(wanted)} cells)")
            continue
        state = {"checkpoint": name} | {key: manifest[key] for key in ("step", "phase")}
        state |= {key: float(manifest[key]) for key in ("train_flops", "rl_flops")}
        place = run.evaluation_file(name)
        rows.extend(state | _outcome(place, row) for row in found)
    if incomplete:
        log.warning("%s: left out, evaluation incomplete: %s", run.path, ", ".join(incomplete))
    return pl.DataFrame(rows, schema=OUTCOMES).sort("step", "budget", "problem")


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
        votes = maj_at_k(*_votes(cell), fits)
        table += [("maj", k, votes[:, i]) for i, k in enumerate(fits)]
        for estimator, k, values in table:
            accuracy, draws = float(values.mean()), drawn // k
            lo, hi = wilson(accuracy, effective_size(values, draws))
            point = {"samples": k, "estimator": estimator, "test_flops": prefill + k * decode}
            point |= {"accuracy": accuracy, "lo95": lo, "hi95": hi, "n": len(values)}
            rows.append(state | point | {"draws": draws, "values": values.tolist()})
    return pl.DataFrame(rows, schema=ESTIMATES)


def evaluation_seconds(run_dir: str | Path) -> float:
    """Wall time of all evaluations of a run, complete or not; a row that says nothing counts nothing."""
    run = Run.open(run_dir)
    return sum(row.get("seconds", 0.0) for name in run.evaluation_names() for row in run.evaluation_rows(name))


def _votes(cell: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes [P, A] padded with 0, whether right [P, A], nulls [P]."""
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
