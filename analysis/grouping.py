"""Arms: runs of an experiment that differ by a choice of the experimenter's, as the curves of one frame.

The runs of an arm differ by nothing that matters but their seed, and are pooled. What arms differ by besides the
fields that were asked for is said, never guessed away: a difference between arms is a difference of all of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.configs import config, flat
from analysis.load import estimates, find_runs
from analysis.table import CANONICAL, TableError, check, is_table
from analysis.table_files import Raw, error
from analysis.table_files import load as load_table
from analysis.ways import run_frame

WAY = "rl_flops"
"""The curve of a run that is compared, by its axis."""
IMMATERIAL = (
    "seed", "microbatch", "mesh", "tracking", "schedule", "rl.flops", "rl.chunk", "evaluation.chunk",
    "model.remat",
)  # fmt: skip
"""Fields and sections that change how, how long or how often a run is made, and not what its curve is."""
Fields = Mapping[str, Any]


def arms(
    paths: Sequence[str | Path], by: Sequence[str], x: str | None = None, y: str | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """A canonical frame with a curve an arm, its runs as seeds; and what there is to say about it.

    paths: run directories, folders of them, or tables; by: dotted fields of their configs, or columns of tables;
    x, y: columns, as in `analysis.table.read`. Raises TableError, a line a problem, for a field that is unknown or
    is the same everywhere, and for runs of one arm that differ by more than their seed.
    """
    tables, folders = [p for p in paths if is_table(p)], [p for p in paths if not is_table(p)]
    if (tables and folders) or not paths:
        raise TableError(["PATH: runs and folders of runs, or tables; not both, and at least one"])
    frame, notes = _of_tables(tables, by, x, y) if tables else _of_runs(find_runs(folders), by)
    if (count := frame["curve"].n_unique()) < 2:
        raise TableError([*notes, f"--by {', '.join(by)}: {count} arms have points; two are needed"])
    for column in ("metric", "unit"):
        if frame[column].n_unique() > 1:
            listed = ", ".join(sorted(str(v) for v in frame[column].unique()))
            raise TableError([f"--by {', '.join(by)}: arms must share one {column}, not {listed}"])
    return frame, notes


def run_arms(runs: Sequence[Path], by: Sequence[str]) -> tuple[dict[str, list[Path]], list[str]]:
    """Runs by the name of their arm, and notes. Raises TableError as `arms` does."""
    configs = {run: flat(config(run)) for run in runs}
    varying = _varying(list(configs.values()))
    known = {name for fields in configs.values() for name in fields}
    wrong = [f"--by {name}: unknown field{_hint(name, known)}" for name in by if name not in known]
    for name in by:
        if name in known and name not in varying:
            value = next(iter(configs.values())).get(name)
            others = ", ".join(sorted(varying)) or "none"
            wrong.append(f"--by {name}: is {value!r} in all {len(runs)} runs; fields that vary: {others}")
    if wrong:
        raise TableError(wrong)
    found: dict[str, list[Path]] = {}
    for run, fields in configs.items():
        found.setdefault(label({name: fields.get(name) for name in by}), []).append(run)
    for arm, members in found.items():
        also = _material(_varying([configs[run] for run in members]), by)
        if also:
            wrong.append(
                f"--by {', '.join(by)}: the runs of {arm} differ also by {', '.join(also)}; add --by {also[0]}"
            )
    if wrong:
        raise TableError(wrong)
    return found, _confounded(_material(varying, by))


def arm_names(configs: Mapping[str, Fields]) -> dict[str, str]:
    """Of runs by name, the arm of each: named by the fields that matter and that vary among these runs."""
    flats = {run: flat(fields) for run, fields in configs.items()}
    by = _material(_varying(list(flats.values())), ())
    return {run: label({name: fields.get(name) for name in by}) or "all runs" for run, fields in flats.items()}


def differences(paths: Sequence[str | Path]) -> list[str]:
    """The fields by which runs differ and that shape their curves: by all of them, the runs of an arm differ by
    no more than their seed. Raises RecordError as `analysis.load.find_runs` does."""
    return _material(_varying([flat(config(run)) for run in find_runs(paths)]), ())


def label(chosen: Fields) -> str:
    """The name of an arm: the last parts of its fields, with their values."""
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in chosen.items())


def _confounded(also: Sequence[str]) -> list[str]:
    notes = [f"arms differ also by {', '.join(also)}: what is said of arms is said of all that they differ by"]
    return notes if also else []


def _of_runs(runs: Sequence[Path], by: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
    found, notes = run_arms(runs, by)
    frames = []
    for arm, members in found.items():
        frame, left_out = arm_frame(arm, members)
        if frame["seed"].n_unique() == 1:
            notes.append(f"{arm}: one run, so how seeds differ is not in its intervals")
        frames.append(frame)
        notes += left_out
    return pl.concat(frames), notes


def arm_frame(arm: str, runs: Sequence[Path]) -> tuple[pl.DataFrame, list[str]]:
    """The runs' curves over RL compute as the seeds of one curve, by what is evaluated; and a line for each run
    that has nothing yet."""
    frames, left_out = [pl.DataFrame(schema=CANONICAL)], []
    for seed, run in enumerate(runs):
        points = estimates(run)
        if points.filter(pl.col("rl_flops") > 0).is_empty():
            left_out.append(f"{run}: left out, no checkpoint of RL is evaluated yet")
            continue
        mine = run_frame(points).filter(group=WAY)
        frames.append(
            mine.with_columns(source=pl.lit(None, pl.String), curve=pl.lit(arm), seed=pl.lit(seed, pl.Int64))
        )
    return pl.concat(frames), left_out


def _of_tables(
    paths: Sequence[str | Path], by: Sequence[str], x: str | None, y: str | None
) -> tuple[pl.DataFrame, list[str]]:
    raws = [load_table(path) for path in paths]
    for name in by:
        for raw in raws:
            if name not in raw.frame.columns:
                raise error(raw.file, f"--by {name}: no such column{_hint(name, raw.frame.columns)}")
        if len({value for raw in raws for value in raw.frame[name]}) < 2:
            raise error(raws[0].file, f"--by {name}: has one value in all rows")
    frames, notes = [], []
    for raw in raws:
        names = [label(row) for row in raw.frame.select(by).iter_rows(named=True)]
        seeds = [name for name in ("source", "curve", "seed") if name in raw.frame.columns and name not in by]
        frame = raw.frame.drop("source", "seed", strict=False).with_columns(curve=pl.Series(names))
        if seeds:
            frame = frame.with_columns(seed=raw.frame.select(pl.struct(seeds).rank("dense")).to_series() - 1)
        found, said = check(Raw(raw.file, frame, raw.rows, raw.curve), x, y)
        frames.append(found)
        notes += map(str, said)
    return pl.concat(frames), notes


def _varying(configs: Sequence[Fields]) -> set[str]:
    names = {name for fields in configs for name in fields}
    return {name for name in names if any(fields.get(name) != configs[0].get(name) for fields in configs)}


def _material(names: Iterable[str], by: Sequence[str]) -> list[str]:
    return sorted(n for n in names if n not in by and not any(n == i or n.startswith(f"{i}.") for i in IMMATERIAL))


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"
