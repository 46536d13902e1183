"""Tables as files, and what is said of those that cannot be used."""

import gzip

import pytest

from analysis.table import TableError, read

FORMATS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".csv.gz", ".tsv.gz", ".jsonl.gz")
HEADER = "curve,compute,accuracy,n,successes,split"


def write(folder, frame, ending):
    """The frame as a table file of that ending, by the writer of polars."""
    path = folder / f"table{ending}"
    bare = path.with_name(f"table{ending.removesuffix('.gz')}")
    if "csv" in ending or "tsv" in ending:
        frame.write_csv(bare, separator="," if "csv" in ending else "\t")
    elif "parquet" in ending:
        frame.write_parquet(bare)
    else:
        frame.write_ndjson(bare)
    if path != bare:
        path.write_bytes(gzip.compress(bare.read_bytes()))
    return path


def csv(folder, *lines, header=HEADER, name="t.csv"):
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def points(curve="a", values=(0.1, 0.2, 0.3, 0.4), start=1):
    """Lines of a good curve under `HEADER`, in computes start, 10 start, ..."""
    return [f"{curve},{start * 10**i},{v},,," for i, v in enumerate(values)]


def problems(path, **keys):
    with pytest.raises(TableError) as found:
        read(path, **keys)
    assert str(found.value) == "\n".join(found.value.lines)
    assert all("\n" not in line and str(path) in line for line in found.value.lines)
    return found.value.lines


def said(notes, text):
    return [note for note in notes if text in str(note)]
