"""The history of Weights & Biases runs as a table of points: offline logs, or a run of the service.

Each run is one curve: its name, told apart from its namesakes by `source`, which is PROJECT/RUN_ID (with the
entity for a run of the service). Notes number a row by its W&B step. wandb is imported only for the service;
offline logs are read by its own inspector, in another process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from analysis.table import METRICS, ORDER, check
from analysis.table_files import Note, Raw, TableError, as_text, error, text_frame

ONLINE = "wandb:"
TIMEOUT_S = 120
"""For one log."""


def is_wandb(path: str | Path) -> bool:
    """Whether a path means a run of W&B: by its name, or because a folder holds a log and is no run of ours."""
    if str(path).startswith(ONLINE) or Path(path).suffix == ".wandb":
        return True
    folder = Path(path)
    found = folder.is_dir() and (any(folder.glob("*.wandb")) or any(folder.glob("*run-*/*.wandb")))
    return found and not (folder / "config.yaml").is_file()


def read_wandb(
    path_or_name: str | Path, x: str | None = None, y: str | None = None
) -> tuple[pl.DataFrame, list[Note]]:
    """The canonical frame and the notes, as `analysis.table.read`, of offline runs or of a run of the service.

    A `.wandb` file, a run's folder, a folder of such folders, or wandb:ENTITY/PROJECT/RUN_ID. x and y: history
    keys, as columns in `read`; needed unless the history has "compute" and an accuracy, error or loss. Raises
    TableError.
    """
    name = str(path_or_name)
    online = name.startswith(ONLINE)
    one_run = _online if online else _offline
    frames: list[pl.DataFrame] = []
    notes: list[Note] = []
    wrong: list[str] = []
    for place in [name] if online else _logs(Path(name)):
        try:
            raw, said = one_run(place, x, y)
            frame, more = check(raw, x, y)
        except TableError as problem:
            wrong += problem.lines
        else:
            frames.append(frame)
            notes += said + more
    if wrong:
        raise TableError(wrong)
    return pl.concat(frames).sort(ORDER, maintain_order=True), notes


def _column(y: str) -> str:
    """The history key that a --y names."""
    return y if y in METRICS else y.rpartition(":")[0] or y


def _history(
    file: str, rows: Iterable[Mapping[str, Any]], run: dict[str, str | None], x: str | None, y: str | None
) -> tuple[Raw, list[Note]]:
    """The rows that hold a point. A history logs most rows for other things, so those are counted, not listed.

    run: source, group and curve, for rows that do not log their own. Raises TableError where no row has both.
    """
    rows = list(rows)
    compute = x or "compute"
    column = None if y is None else _column(y)
    ways = [{column}] if column else [*({name} for name in METRICS), {"metric", "value"}, {"successes", "n"}]
    held = [row.get(compute) is not None and any(way <= row.keys() for way in ways) for row in rows]
    if not any(held):
        what = column or "an accuracy, error or loss"
        logged = ", ".join(sorted({key for row in rows for key in row if not key.startswith("_")})[:12])
        text = f"no history row holds both {compute} and {what}, logged in one call; name them by --x and --y"
        raise error(file, f"{text}; the history has {logged or 'nothing'}")
    kept = [row for row, holds in zip(rows, held, strict=True) if holds]
    steps = pl.Series([int(row.get("_step", i)) for i, row in enumerate(kept)], dtype=pl.Int64)
    frame = text_frame({**run, **{key: as_text(value) for key, value in row.items()}} for row in kept)
    text = f"{len(kept)} of {len(rows)} history rows hold both {compute} and {column or 'a metric'}: used"
    notes = [Note(file, None, None, None, text)] if len(kept) < len(rows) else []
    return Raw(file, frame, steps, run["curve"] or "run"), notes


# Offline ---------------------------------------------------------------------------------------------------


def _logs(path: Path) -> list[str]:
    """The logs of all runs at a path. Raises TableError where there is none."""
    found = [path] if path.is_file() else sorted(path.glob("*.wandb")) or sorted(path.glob("*/*.wandb"))
    logs = list({log.resolve(): log for log in found if log.suffix == ".wandb"}.values())
    if not logs:
        raise error(str(path), "no W&B log: neither a .wandb file nor a folder of an offline run")
    return [*map(str, logs)]


def _offline(log: str, x: str | None, y: str | None) -> tuple[Raw, list[Note]]:
    """One run, of its log."""
    records, said = inspect(Path(log))
    raw, more = _history(log, *_run(Path(log), records), x, y)
    return raw, said + more


def inspect(log: Path) -> tuple[list[dict[str, Any]], list[Note]]:
    """All records of a log, and a note where it is cut short or a part of it is damaged and skipped.

    Raises TableError for a file that is no log.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, env=environment)
    except subprocess.TimeoutExpired:
        raise error(str(log), f"wandb leet inspect took longer than {TIMEOUT_S} s") from None
    except OSError as problem:
        raise error(str(log), f"wandb leet inspect does not start ({problem})") from None
    said = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    if done.returncode != 0:
        raise error(str(log), f"not a readable W&B log ({said[-1] if said else f'exit {done.returncode}'})")
    try:
        records = [json.loads(line) for line in done.stdout.splitlines()]
    except ValueError as problem:
        raise error(str(log), f"wandb leet inspect printed what is not JSON ({problem})") from None
    prefix = "wandb leet inspect: "
    return records, [
        Note(str(log), None, None, None, line.removeprefix(prefix)) for line in said if line.startswith(prefix)
    ]


def _run(log: Path, records: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
    """The history rows, and what the run is called."""
    rows = [record["history"].get("item", {}) for record in records if record.get("type") == "history"]
    run: dict[str, Any] = next((record["run"] for record in records if record.get("type") == "run"), {})
    name = run.get("run_id") or log.stem.removeprefix("run-")
    source = f"{run['project']}/{name}" if run.get("project") else name
    return rows, {"source": source, "group": run.get("run_group"), "curve": run.get("display_name") or name}


# The service -----------------------------------------------------------------------------------------------


def _online(name: str, x: str | None, y: str | None) -> tuple[Raw, list[Note]]:
    """One run. With y named, the service sends only the rows that hold both keys."""
    path = name.removeprefix(ONLINE)
    if len(path.split("/")) != 3 or not all(path.split("/")):
        raise error(name, "name a run as wandb:ENTITY/PROJECT/RUN_ID")
    keys = None if y is None else [x or "compute", _column(y)]
    import wandb  # takes a second, and only this needs it

    try:
        run = wandb.Api().run(path)
        rows = [dict(row) for row in run.scan_history(keys=keys)]
        called = {"source": path, "group": getattr(run, "group", None), "curve": run.name or run.id}
    except Exception as problem:  # the service's client raises a dozen kinds, of network, login and permission
        raise error(name, f"W&B did not give this run ({type(problem).__name__}: {problem})") from None
    return _history(name, rows, called, x, y)
