"""Table files as found: CSV, TSV, Parquet and JSON lines, each row with the number that a person counts.

Cells stay text where the file holds text: what is a number is judged by the column's use (`analysis.table`), and
a message can then quote the cell. A file that is not what its name says is a `TableError`, never a traceback.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis import unpack_parquet

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".csv.gz", ".tsv.gz", ".jsonl.gz", ".ndjson.gz")
LARGEST = 2**30
"""Bytes of a table, unpacked: a small file of gzip or Parquet can hold more than any memory."""
LISTED = 10
"""Rows that are written out for one kind of problem; the others are counted."""


class TableError(ValueError):
    """A table that cannot be used: `lines` has one message a problem, all of them."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__(self.lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Note:
    """One thing to say about a table. `row` as in a spreadsheet (the header is row 1), or the line of JSONL."""

    file: str
    row: int | None
    column: str | None
    value: str | None
    text: str

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}, row {self.row}"
        if self.column is not None:
            where += f", {self.column}" if self.value is not None else f", column {self.column}"
        if self.value is not None:
            where += f" = {self.value[:60]}{'…' if len(self.value) > 60 else ''}"
        # What files hold may break a line or a terminal.
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in f"{where}: {self.text}")


@dataclass(frozen=True)
class Raw:
    """A table as found: `frame` of text or numbers, the row number of each, and the name of its one curve."""

    file: str
    frame: pl.DataFrame
    rows: pl.Series
    curve: str


def is_table(path: str | Path) -> bool:
    """Whether the name is one that `read` reads and no directory has it. Nothing is opened."""
    return Path(path).name.lower().endswith(SUFFIXES) and not Path(path).is_dir()


def load(path: str | Path) -> Raw:
    """The table in a file. Raises TableError for a file that is not what its name says."""
    path = Path(path)
    file, name = str(path), path.name.lower()
    ending = max((s for s in SUFFIXES if name.endswith(s)), key=len, default=None)
    if ending is None:
        raise error(file, f"not a table; known are {', '.join(SUFFIXES)}")
    try:
        with (gzip.open if ending.endswith(".gz") else open)(path, "rb") as stream:
            data = stream.read(LARGEST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise error(file, f"not gzip, or cut short ({problem})") from None
    except (OSError, ValueError) as problem:
        raise error(file, getattr(problem, "strerror", None) or str(problem)) from None
    if len(data) > LARGEST:
        raise _too_large(file)
    if ending == ".parquet":
        frame = _parquet(file, data)
        rows = pl.Series(range(2, len(frame) + 2), dtype=pl.Int64)
        return Raw(file, frame, rows, path.name[: -len(ending)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(file, f"not text in UTF-8 (byte {problem.start})") from None
    frame, rows = _json_lines(file, text) if "json" in ending or "nd" in ending else _separated(file, text, ending)
    return Raw(file, frame, pl.Series(rows, dtype=pl.Int64), path.name[: -len(ending)])


def error(file: str, text: str) -> TableError:
    """The error of a file as a whole."""
    return TableError([str(Note(file, None, None, None, text))])


def _too_large(file: str, more: str = "") -> TableError:
    return error(file, f"has more than {LARGEST:,} bytes{more}")


def _listed(file: str, notes: Sequence[Note]) -> list[str]:
    more = [Note(file, None, None, None, f"… and {len(notes) - LISTED} more such")] if len(notes) > LISTED else []
    return [str(note) for note in [*notes[:LISTED], *more]]


def _parquet(file: str, data: bytes) -> pl.DataFrame:
    """Unpacked in another process, which damage may end and which may not grow."""
    command = [sys.executable, "-P", unpack_parquet.__file__, str(LARGEST)]
    quiet = os.environ | {"RUST_BACKTRACE": "0"}
    done = subprocess.run(command, input=data, capture_output=True, env=quiet)
    if done.returncode == 0:
        return pl.read_ipc_stream(io.BytesIO(done.stdout))
    if done.returncode == unpack_parquet.TOO_LARGE:
        raise _too_large(file)
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines()]
    if any(line.startswith(("memory allocation", "MemoryError")) for line in lines):
        raise _too_large(file, ", or is damaged")
    known = [line for line in lines if line.startswith("polars.exceptions.")]
    reason = known[-1] if known else f"its reader ended with {done.returncode}"
    raise error(file, f"not Parquet, or damaged ({reason[:200]})")


def _separated(file: str, text: str, ending: str) -> tuple[pl.DataFrame, list[int]]:
    """All cells as text: what is a number is judged by the column's use, and a message can quote the cell."""
    tab = ending.startswith(".tsv")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tab else ",", strict=True)
    header: list[str] | None = None
    cells: list[list[str]] = []
    rows: list[int] = []
    wrong: list[Note] = []
    try:
        for number, row in enumerate(reader, 1):
            if header is None:
                header = [name.strip() for name in row]
            elif len(row) == len(header):
                cells.append(row)
                rows.append(number)
            elif row:
                texts = f"{len(row)} cells where the header has {len(header)}"
                wrong.append(Note(file, number, None, None, texts))
    except csv.Error as problem:
        wrong.append(Note(file, None, None, None, f"line {reader.line_num} is not {ending[1:4]} ({problem})"))
    if not header:
        wrong.append(Note(file, None, None, None, "empty; the first line names the columns"))
    elif len(header) == 1 and any(other in header[0] for other in ",;\t|"):
        separator = "a tab" if tab else "a comma"
        wrong.append(Note(file, 1, None, header[0], f"one column; separate the cells by {separator}"))
    elif twice := sorted(name for name, count in Counter(header).items() if name and count > 1):
        wrong += [Note(file, 1, name, None, "named twice in the header") for name in twice]
    if wrong or not header:
        raise TableError(_listed(file, wrong))
    columns = {name: column for name, column in zip(header, zip(*cells, strict=True), strict=False) if name}
    columns = columns or {name: () for name in header if name}
    return pl.DataFrame({name: list(column) for name, column in columns.items()}, _text_schema(columns)), rows


def _json_lines(file: str, text: str) -> tuple[pl.DataFrame, list[int]]:
    found: dict[int, dict[str, str | None]] = {}
    wrong: list[Note] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as problem:
            wrong.append(Note(file, number, None, None, f"line {number} is not JSON ({problem})"))
            continue
        if isinstance(row, dict):
            found[number] = {_unicode(name): as_text(value) for name, value in row.items()}
        else:
            wrong.append(Note(file, number, None, line, f'line {number} is no object, {{"compute": …}}'))
    if not found and not wrong:
        raise error(file, "empty; a line is an object with a point")
    if wrong:
        raise TableError(_listed(file, wrong))
    return text_frame(found.values()), list(found)


def text_frame(rows: Iterable[dict[str, str | None]]) -> pl.DataFrame:
    """Rows of text as a frame, a column for every name that any of them has."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in names}, _text_schema(names))


def as_text(value: Any) -> str | None:
    """A JSON value as the text of a cell; numbers keep every digit."""
    return None if value is None else _unicode(value if isinstance(value, str) else str(value))


def _unicode(text: str) -> str:
    """Half a surrogate pair, which JSON can escape and polars not hold, as its escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _text_schema(names: Iterable[str]) -> dict[str, type[pl.String]]:
    return {name: pl.String for name in names}
