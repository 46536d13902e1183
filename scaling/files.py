"""Files that survive a crash: whole files and JSON lines, and what is found damaged kept aside.

JSON lines are appended whole, in a single write, and synced. A crash can therefore leave only an unterminated last
line: readers drop that one, and anything else that is wrong is an error with file and line. A repeated key is the
same fact and is returned once. All other files are replaced atomically. Standard library only.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
DAMAGED = "damaged"
"""Folder beside files that are found damaged: they are kept there, and never read."""


class RecordError(ValueError):
    """A file that is missing, damaged, or belongs to something else; the message names it."""


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


def plain(value: Any) -> Any:
    """JSON-ready copy: array scalars become Python numbers; nan and infinities, which JSON lacks, null."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "item"):
        return plain(value.item())
    raise RecordError(f"a record cannot hold a {type(value).__name__}; it takes numbers, text, lists and dicts")


def write_json(path: Path, value: Row) -> None:
    """Replace a file by one JSON object."""
    replace(path, json.dumps(plain(value), indent=1, allow_nan=False).encode() + b"\n")


def read_json(path: Path, fields: Sequence[str] = ()) -> Row:
    """The JSON object of a file. Raises RecordError where it is missing, is none or lacks one of these fields."""
    try:
        value = parse(str(path), path.read_bytes())
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    missing = [name for name in fields if name not in value]
    if missing:
        raise RecordError(f"{path}: lacks {', '.join(missing)}")
    return value


def parse(place: str, text: bytes) -> Row:
    """The JSON object of a file or a line. Raises RecordError that names its place."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{place}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise RecordError(f"{place}: holds a {type(value).__name__} where an object belongs")
    return value


# JSON lines ------------------------------------------------------------------------------------------------


def append(path: Path, rows: Iterable[Row]) -> None:
    """Append rows as whole lines in a single write, then sync. A torn last line is cut first.

    Raises OSError, leaving the file as it was, where the disk takes only a part.
    """
    data = b"".join(json.dumps(plain(row), allow_nan=False).encode() + b"\n" for row in rows)
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
            yield place, line, parse(place, line)


def row_key(place: str, row: Row, key: Sequence[str]) -> tuple:
    """What identifies a row. Raises RecordError where it lacks a part of that."""
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


# What is damaged --------------------------------------------------------------------------------------------


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
