"""Files and folders that options name: judged before any work is done for them, then written.

Whether the disk takes them shows only then; that is trouble of the machine, and no bad input.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl


def unusable(option: str, path: Path, endings: Sequence[str] = (".csv",)) -> list[str]:
    """A line where no table of these endings can be written to `path`. Nothing is opened."""

    def wrong() -> str:
        folder = path.absolute().parent
        if path.suffix not in endings:
            return f"must end in {' or '.join(endings)}"
        if not folder.is_dir():
            return f"the folder {folder} must exist"
        if path.is_dir():
            return "must be a file; a folder has that name"
        return _denied(path if path.exists() else folder)

    return _judged(option, path, wrong)


def unusable_folder(option: str, path: Path) -> list[str]:
    """A line where `path` is no folder that files can be written to, and none can be made there."""

    def wrong() -> str:
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not there.is_dir():
            return "must be a folder" if there == path else f"{there} must be a folder"
        return _denied(there)

    return _judged(option, path, wrong)


def _judged(option: str, path: Path, wrong: Callable[[], str]) -> list[str]:
    """The line, where something is wrong, be it that the system does not take the name."""
    try:
        _reach(path)
        why = wrong()
    except OSError as error:
        why = f"cannot be written: {error.strerror}"
    return [f"{option} = {path}: {why}"] if why else []


def _denied(place: Path) -> str:
    return "" if os.access(place, os.W_OK) else "cannot be written: permission denied"


def _reach(path: Path) -> None:
    """Raise OSError for a name that is no file's and cannot become one: too long, a circle of links."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.stat()


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write a table as its file's ending says. Raises OSError that names it where the disk does not take it."""
    data = io.BytesIO()
    frame.write_parquet(data) if path.suffix == ".parquet" else frame.write_csv(data)
    try:
        path.write_bytes(data.getbuffer())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
