"""What a folder of runs holds now, while it is being written: looked at often, nothing read twice.

A file is read again when its stamp (modification time, size, inode) has changed, a growing one from where the last
look ended. Links that lead out of the folder are not followed. Whatever is wrong with a run is a word at that run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any, Literal, NamedTuple, TypeVar

import yaml

from analysis.configs import config, flat
from scaling.files import RecordError, Row, lines, tail
from scaling.records import Run
from scaling.status import Said, state

DEPTH = 3
"""Levels below the watched folder at which runs are found: alone, in a sweep, in a sweep in a folder."""
ENDING = 16384
"""Bytes of the end of train.jsonl that a look at a run reads: its last few steps."""
STALLED_SECONDS = 120.0
"""A heartbeat older than this is said to be late: its process may hang, or be at a long compilation."""
PARTS = ("status.json", "train.jsonl", "checkpoints", "evals")
"""What a directory without a config.yaml is still known as a run by."""
FAILURES = (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError, RecursionError)
"""What reading a file that is damaged, of another format, or gone may raise."""

T = TypeVar("T")
State = Said | Literal["stalled", "waiting", "ended", "unreadable"]


class Stamp(NamedTuple):
    """What tells one state of a file from another: time in nanoseconds, size in bytes."""

    time: int
    size: int
    inode: int


def stamp(path: Path) -> Stamp | None:
    """Equal for as long as a file has not changed; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_mtime_ns, found.st_size, found.st_ino)


@dataclass(frozen=True)
class Glance:
    """What a look at one run's directory says, without its evaluations and all but the last training rows."""

    path: Path
    name: str
    """Its path below the watched folder."""
    sweep: str = ""
    """Name of the sweep that it is of."""
    state: State = "waiting"
    stage: str = ""
    why: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Its config by dotted path."""
    rows: tuple[Row, ...] = ()
    """The last training rows, oldest first."""
    checkpoints: int = 0
    evaluations: int = 0
    verdict: str = ""
    """Of the curve over RL compute, where a report was written."""
    damage: tuple[str, ...] = ()
    alive: float = 0.0
    """Time of the last heartbeat, seconds since the epoch."""


@dataclass(frozen=True)
class Scene:
    """What the watched folder holds."""

    runs: tuple[Glance, ...] = ()
    sweeps: tuple[str, ...] = ()
    note: str = ""
    """Why there is nothing."""

    @property
    def readable(self) -> tuple[str, ...]:
        """Names of the runs that can be picked, the one with the latest heartbeat first."""
        whole = [run for run in self.runs if run.state != "unreadable"]
        return tuple(run.name for run in sorted(whole, key=lambda run: (-run.alive, run.name)))


class Follower:
    """The rows of one growing file that are kept, each line read once."""

    def __init__(self, path: Path, keep: Callable[[Row], bool]):
        self.path, self.keep = path, keep
        self._restart(None)

    def _restart(self, now: Stamp | None) -> None:
        self.stamp, self.offset, self.word = now, 0, ""
        self.rows: list[Row] = []

    def follow(self) -> tuple[list[Row], str]:
        """All rows so far, to the first line that cannot be read, and what is wrong with that one."""
        now = stamp(self.path)
        if now == self.stamp:
            return self.rows, self.word
        if now is None or self.stamp is None or now.inode != self.stamp.inode or now.size < self.offset:
            self._restart(now)
        self.stamp, self.word = now, ""
        try:
            for _, line, row in lines(self.path, self.offset):
                self.offset += len(line)
                if self.keep(row):
                    self.rows.append(row)
        except FAILURES as error:
            self.word = word(error, self.path.parent) if now is not None else ""
        return self.rows, self.word


def is_step(row: Row) -> bool:
    """A training row with metrics."""
    return isinstance(row.get("step"), int) and isinstance(row.get("metrics"), dict)


def is_shown(row: Row) -> bool:
    """An evaluation row with a completion to read."""
    return isinstance(row.get("shown"), dict)


_following = lru_cache(maxsize=1024)(Follower)


class Watch:
    """A folder that is looked at from several threads."""

    def __init__(self, root: Path):
        self.root = root
        self._seen: dict[tuple[Path, Callable], tuple[Stamp | None, Any, str]] = {}
        self._lock = RLock()

    def look(self, now: float | None = None) -> Scene:
        """What is there at `now`, seconds since the epoch."""
        now = time.time() if now is None else now
        with self._lock:
            if not self.root.is_dir():
                return Scene(note=f"{self.root}: no such folder")
            places = list(self._places(self.root, "", 0))
            found = tuple(self._glance(path, sweep, now) for kind, path, sweep in places if kind == "run")
            sweeps = tuple(self._name(path) for kind, path, _ in places if kind == "sweep")
            return Scene(found, sweeps, "" if found else f"{self.root}: no runs here yet")

    def train_rows(self, name: str) -> tuple[list[Row], str]:
        """The training rows of a run, and what is wrong with the first line that cannot be read."""
        with self._lock:
            rows, wrong = _following(Run(self.run(name)).train_file, is_step).follow()
            return list(rows), wrong

    def shown(self, name: str) -> tuple[dict[str, list[Row]], list[str]]:
        """The evaluation rows with completions to read, by checkpoint; and what is wrong with files."""
        with self._lock:
            followers = {p.stem: _following(p, is_shown) for p in _jsonl(Run(self.run(name)).evals)}
            found = {checkpoint: one.follow() for checkpoint, one in followers.items()}
        return {c: list(rows) for c, (rows, _) in found.items()}, [wrong for _, wrong in found.values() if wrong]

    def logged(self, name: str) -> Stamp | None:
        """Changes when the training rows of a run do."""
        return stamp(Run(self.run(name)).train_file)

    def fields(self, name: str) -> Mapping[str, Any]:
        """The config of a run by dotted path; empty where it cannot be read."""
        with self._lock:
            return self._once(Run(self.run(name)).config_file, _fields)[0] or {}

    def evaluated(self, name: str) -> tuple[tuple[str, Stamp | None], ...]:
        """Complete evaluations of a run with their stamps, which change when what can be fitted does."""
        with self._lock:
            run, fields = Run(self.run(name)), self.fields(name)
            cells = int(fields["evaluation.problems"]) * len(fields["evaluation.budgets"]) if fields else 0
            counts = {file: self._once(file, _lines)[0] or 0 for file in _jsonl(run.evals)}
            return tuple((file.stem, stamp(file)) for file, count in counts.items() if count >= cells)

    # One run

    def run(self, name: str) -> Path:
        """Raises ValueError for a name that leads out of the folder."""
        path = self.root / name
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"{name}: not below {self.root}")
        return path

    def _glance(self, path: Path, sweep: str, now: float) -> Glance:
        name = self._name(path)
        run = Run(path)
        parts = [_entries(folder) for folder in (path, run.evals, run.checkpoints)]
        links = [e.name for entries in parts for e in entries if e.is_symlink() and not self._inside(e)]
        if links:
            said = f"{', '.join(sorted(links))}: a link out of the folder, not followed"
            return Glance(path, name, sweep, "unreadable", damage=(said,))
        if not path.is_dir():
            return Glance(path, name, sweep, why="not begun")
        own, evaluations, checkpoints = ([entry.name for entry in entries] for entries in parts)
        if not own:
            return Glance(path, name, sweep, "unreadable", damage=("an empty folder",))
        fields, no_config = self._once(run.config_file, _fields)
        status, no_status = self._once(run.status_file, _status)
        rows, no_rows = self._once(run.train_file, _last_rows)
        verdict, no_verdict = self._once(path / "answer.json", _verdict)
        said, stage, why, alive, odd = _standing(status, now)
        ended = self._once(self.root / sweep / "ended.jsonl", _ended)[0] if sweep else None
        if ended and path.name in ended and said != "done":
            said, why = "ended", ended[path.name]
        if fields is None and not no_config:
            no_config = "config.yaml: not there, so not a whole run (yet)"
        return Glance(
            path, name, sweep, "unreadable" if fields is None else said, stage, why, fields or {}, rows or (),
            sum(name.endswith(".json") and name[:-5].isdigit() for name in checkpoints),
            sum(name.endswith(".jsonl") for name in evaluations), verdict or "",
            tuple(filter(None, (no_config, no_status, odd, no_rows, no_verdict))), alive,
        )  # fmt: skip

    def _once(self, path: Path, read: Callable[[Path], T]) -> tuple[T | None, str]:
        """What `read` makes of a file, and what is wrong with it; read again only when it has changed."""
        now, before = stamp(path), self._seen.get((path, read))
        if before is not None and before[0] == now:
            return before[1:]
        value, wrong = None, ""
        if now is not None:
            try:
                value = read(path)
            except FAILURES as error:
                wrong = word(error, path.parent, path.name) if path.exists() else ""
        self._seen[path, read] = now, value, wrong
        return value, wrong

    # Where runs are

    def _places(self, folder: Path, sweep: str, depth: int) -> Iterator[tuple[str, Path, str]]:
        """("run" or "sweep", its path, name of the sweep around it) of all in a folder, and those of sweeps that
        are still to begin."""
        entries = {entry.name: entry for entry in _entries(folder)}
        if "sweep.yaml" in entries:
            sweep = self._name(folder)
            yield "sweep", folder, sweep
            planned = {Path(entry.name).stem for entry in _entries(folder / "configs")}
            yield from (("run", folder / name, sweep) for name in sorted(planned - entries.keys()))
        elif "config.yaml" in entries or any(part in entries for part in PARTS) or (depth and not entries):
            yield "run", folder, sweep
            return
        own = ("configs", "logs") if sweep else ()
        for name, entry in sorted(entries.items()):
            hidden = name.startswith((".", "__")) or name in own
            if depth < DEPTH and not hidden and entry.is_dir(follow_symlinks=False):
                yield from self._places(folder / name, sweep, depth + 1)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _inside(self, entry: os.DirEntry) -> bool:
        return Path(entry.path).resolve().is_relative_to(self.root.resolve())


def word(error: BaseException, folder: Path, file: str = "") -> str:
    """What went wrong with a file, in one line without the path of its folder."""
    text = " ".join(str(error).split()).replace(f"{folder}{os.sep}", "")
    if isinstance(error, RecordError):
        return text
    if isinstance(error, LookupError):
        text = f"of another format, lacks {text}"
    return ": ".join(filter(None, (file, text or type(error).__name__)))


def _entries(folder: Path) -> list[os.DirEntry]:
    """What is in a folder, nothing where there is none."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _jsonl(folder: Path) -> list[Path]:
    return sorted(folder / entry.name for entry in _entries(folder) if entry.name.endswith(".jsonl"))


def _standing(status: Row | None, now: float) -> tuple[State, str, str, float, str]:
    """State, stage, why, time of the heartbeat; and what is odd about the status."""
    if status is None:
        return "waiting", "", "", 0.0, ""
    try:
        (said, why), stage, alive = state(status, now), str(status["stage"]), float(status["heartbeat"])
    except FAILURES as error:
        return "unreadable", "", "", 0.0, word(error, Path(), "status.json")
    if said == "running" and now - alive > STALLED_SECONDS:
        return "stalled", stage, f"no heartbeat since {(now - alive) / 60:.0f} min", alive, ""
    return said, stage, " ".join(str(why).split()), alive, ""


def _fields(path: Path) -> dict[str, Any]:
    return flat(config(path.parent))


def _status(path: Path) -> Row | None:
    return Run(path.parent).read_status()


def ending(path: Path, size: int) -> list[Row]:
    """The whole rows within the last `size` bytes, so that a look at a long file costs no more than that."""
    with open(path, "rb") as file:
        start = max(file.seek(0, os.SEEK_END) - size, 0)
        file.seek(start)
        start += len(file.readline()) if start else 0
    return tail(path, start)[0]


def _last_rows(path: Path) -> tuple[Row, ...]:
    return tuple(filter(is_step, ending(path, ENDING)))


def _verdict(path: Path) -> str:
    first = json.loads(path.read_bytes())["answers"][0]
    return str(first["verdict"])


def _ended(path: Path) -> dict[str, str]:
    """Why the stopping rule of a sweep ended runs, those that somebody asked for again left out."""
    last = {row["run"]: row["reason"] for _, _, row in lines(path)}
    return {run: reason for run, reason in last.items() if reason}


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


watching = lru_cache(Watch)
"""One watch a folder in a process, whoever looks at the page."""
