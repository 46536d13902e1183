"""Files and folders that options name: judged before any work is done for them, then written.

Whether the disk takes them shows only then; that is trouble of the machine, and no bad input.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl


def unusable(option: str, path: Path, endings: Sequence[str] = (".csv",)) -> list[str]:
    """A line where no table of these endings can be written to `path`. Nothing is opened."""
    folder = path.absolute().parent
    try:
        _reach(path)
        if path.suffix not in endings:
            wrong = f"must end in {' or '.join(endings)}"
        elif not folder.is_dir():
            wrong = f"the folder {folder} must exist"
        elif path.is_dir():
            wrong = "must be a file; a folder has that name"
        elif not os.access(path if path.exists() else folder, os.W_OK):
            wrong = "cannot be written: permission denied"
        else:
            return []
    except OSError as error:
        wrong = f"cannot be written: {error.strerror}"
    return [f"{option} = {path}: {wrong}"]


def unusable_folder(option: str, path: Path) -> list[str]:
    """A line where `path` is no folder that files can be written to, and none can be made there."""
    try:
        _reach(path)
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not there.is_dir():
            wrong = "must be a folder" if there == path else f"{there} must be a folder"
        elif not os.access(there, os.W_OK):
            wrong = "cannot be written: permission denied"
        else:
            return []
    except OSError as error:
        wrong = f"cannot be written: {error.strerror}"
    return [f"{option} = {path}: {wrong}"]


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
