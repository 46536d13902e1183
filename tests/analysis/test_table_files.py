"""A file that is not what its name says is an error that names the place, never a traceback."""

import gzip

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_cases import FORMATS, problems, write

from analysis.table import CANONICAL, TableError, read


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("t.csv", b"", "empty"),
        ("t.csv", b"compute,accuracy\n", "no rows"),
        ("t.csv", b"\xff\xfe\x00junk", "not text in UTF-8"),
        ("t.csv", b'compute,accuracy\n1,"0.5\n2,0.6\n', "line 3 is not csv"),
        ("t.csv", b"compute,accuracy\n1,0.5\n2\n", "row 3: 1 cells where the header has 2"),
        ("t.csv", b"compute,accuracy\n\n\n2,0.5,9\n", "row 4: 3 cells where the header has 2"),
        ("t.csv.gz", b"compute,accuracy\n1,0.5\n", "not gzip"),
        ("t.csv.gz", gzip.compress(b"compute,accuracy\n1,0.5\n", mtime=0)[:-9], "not gzip, or cut short"),
        ("t.parquet", b"compute,accuracy\n1,0.5\n", "not Parquet"),
        ("t.jsonl", b'{"compute": 1, "accuracy": 0.5}\n{"compute": 2,\n', "row 2: line 2 is not JSON"),
        ("t.jsonl", b'{"compute": 1, "accuracy": 0.5}\n\n[1, 2]\n', "row 3 = [1, 2]: line 3 is no object"),
        ("t.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("t.jsonl", b'{"compute": 1, "accuracy": {"mean": 1}}\n', "row 1, accuracy = {'mean': 1}: not a"),
        ("t.jsonl", b"", "empty"),
        ("t.xlsx", b"PK", "not a table; known are .csv"),
    ],
)
def test_a_malformed_file_is_an_error_that_names_the_place(tmp_path, name, data, expected):
    path = tmp_path / name
    path.write_bytes(data)
    assert any(expected in line for line in problems(path)), problems(path)


def test_a_file_that_is_not_there_or_not_a_file_is_an_error(tmp_path):
    assert "No such file" in problems(tmp_path / "t.csv")[0]
    (tmp_path / "d.csv").mkdir()
    assert "directory" in problems(tmp_path / "d.csv")[0]


@given(data=st.binary(max_size=300), ending=st.sampled_from(FORMATS), zipped=st.booleans())
@settings(max_examples=60, deadline=None)
def test_junk_never_raises_anything_else(tmp_path_factory, data, ending, zipped):
    path = tmp_path_factory.mktemp("t") / f"t{ending}"
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(TableError) as found:
        read(path)
    assert all(line.isprintable() for line in found.value.lines)


@given(at=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=8, deadline=None)
def test_nor_does_a_damaged_parquet(tmp_path_factory, at):
    good = pl.DataFrame({"compute": [1.0, 2.0, 3.0], "accuracy": [0.1, 0.2, 0.3], "curve": ["a", "b", "c"]})
    path = write(tmp_path_factory.mktemp("t"), good, ".parquet")
    data = bytearray(path.read_bytes())
    for where, byte in at:
        data[int(where * (len(data) - 1))] = byte
    path.write_bytes(data)
    try:
        read(path)
    except TableError as found:
        assert found.lines


cells = st.sampled_from(
    ["", "nan", "0", "1", "0.5", "45", "-1", "1e9", "inf", "x", "fit", "holdout", "accuracy", 'é\n,"']
)
COLUMNS = (
    "compute",
    "accuracy",
    "n",
    "successes",
    "seed",
    "curve",
    "split",
    "metric",
    "value",
    "source",
    "compute_unit",
)


@given(data=st.data(), ending=st.sampled_from([".csv", ".jsonl"]))
@settings(max_examples=100, deadline=None)
def test_nor_does_a_table_of_strange_cells(tmp_path_factory, data, ending):
    header = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True))
    rows = data.draw(st.lists(st.tuples(*[cells] * len(header)), min_size=1, max_size=8))
    path = write(tmp_path_factory.mktemp("t"), pl.DataFrame(rows, header, orient="row"), ending)
    try:
        frame, _ = read(path)
    except TableError as found:
        assert found.lines and all(line.isprintable() for line in found.lines)
    else:
        assert frame.schema == CANONICAL and not frame.is_empty()


@pytest.mark.parametrize(
    "column", [[[0.1], [0.2]], [b"\xff", b"1"], [True, False], [{"a": 1}, {"a": 2}], [None, None]], ids=str
)
def test_a_parquet_column_of_another_type_is_an_error(tmp_path, column):
    frame = pl.DataFrame({"compute": [1.0, 2.0], "accuracy": column})
    assert all("accuracy" in line or "no row" in line for line in problems(write(tmp_path, frame, ".parquet")))
