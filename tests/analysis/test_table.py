"""Anybody's tables: what is valid reads back the same from every format; what is not is said, a line each."""

import json

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from table_cases import FORMATS, csv, points, problems, said, write

from analysis.table import CANONICAL, ORDER, Note, is_table, read

# What is valid ---------------------------------------------------------------------------------------------

names = (
    st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=6)
    .map(str.strip)
    .filter(bool)
)
fractions = st.floats(0, 1)


@st.composite
def canonical(draw):
    """A canonical frame: distinct points, of one metric and unit a curve."""
    keys = draw(st.lists(st.tuples(st.none() | names, names), min_size=1, max_size=3, unique=True))
    rows = []
    for source, curve in keys:
        metric = draw(st.sampled_from(["accuracy", "error", "loss"]))
        group, unit = draw(st.none() | names), draw(st.none() | names)
        place = st.tuples(st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | names, st.floats(0, 1e30))
        for seed, problem, compute in draw(st.lists(place, min_size=1, max_size=6, unique=True)):
            value = draw(st.floats(1e-6, 1e6) if metric == "loss" else fractions)
            n = draw(st.none() | st.floats(0.5, 1e6))
            share = {"accuracy": value, "error": 1 - value, "loss": 0.5}[metric]
            successes = share * n if n is not None and draw(st.booleans()) else None
            split = draw(st.sampled_from(["fit", "holdout"]))
            rows.append((source, group, curve, seed, problem, compute, unit, metric, value, n, successes, split))
    frame = pl.DataFrame(rows, CANONICAL, orient="row")
    return frame.sample(fraction=1, shuffle=True, seed=draw(st.integers(0, 9)))


@given(frame=canonical(), ending=st.sampled_from(FORMATS))
@settings(max_examples=50, deadline=None)
def test_a_valid_frame_reads_back_the_same_from_every_format(tmp_path_factory, frame, ending):
    path = write(tmp_path_factory.mktemp("t"), frame.rename({"unit": "compute_unit"}), ending)
    got, notes = read(path)
    assert got.schema == CANONICAL
    assert got.equals(frame.sort(ORDER, maintain_order=True))
    assert all(note.column == "curve" or "before any compute" in note.text for note in notes)


@given(frame=canonical())
@settings(max_examples=20, deadline=None)
def test_reading_is_idempotent(tmp_path_factory, frame):
    folder = tmp_path_factory.mktemp("t")
    once, notes = read(write(folder, frame, ".csv"))
    twice, again = read(write(folder, once, ".csv"))
    assert once.equals(twice) and len(notes) == len(again)


def test_two_columns_are_enough(tmp_path):
    path = csv(tmp_path, *[f"{10**i},0.{i}" for i in range(1, 6)], header="compute,accuracy", name="my.run.csv")
    frame, notes = read(path)
    assert notes == []
    assert tuple(frame.columns) == tuple(CANONICAL)
    assert frame.row(0, named=True) == dict.fromkeys(CANONICAL) | {
        "curve": "my.run", "compute": 10.0, "metric": "accuracy", "value": 0.1, "split": "fit",
    }  # fmt: skip


def test_numbers_survive_exactly_and_labels_that_are_numbers_are_text(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [
        {"compute": 10**i, "accuracy": 0.1 + 0.2 * (i == 2), "problem": 7, "seed": 2**62 + 1} for i in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    frame, _ = read(path)
    assert frame["value"][2] == 0.1 + 0.2 and set(frame["seed"]) == {2**62 + 1} and set(frame["problem"]) == {"7"}
    gap = pl.DataFrame(
        {"compute": [1, 2], "accuracy": [0.5, 0.6], "problem": [3.0, None], "seed": [1.0, float("nan")]}
    )
    frame, _ = read(write(tmp_path, gap, ".parquet"))
    assert set(frame.select("compute", "problem", "seed").iter_rows()) == {(1, "3", 1), (2, None, None)}
    frame, _ = read(write(tmp_path, gap.with_columns(problem=pl.Series([3.0, 1e300])), ".parquet"))
    assert frame["problem"].null_count() == 0


def test_one_name_in_two_sources_is_two_curves(tmp_path):
    lines = [f"{s},a,{10**i},0.{i + 1}" for s in ("p", "q") for i in range(4)]
    frame, notes = read(csv(tmp_path, *lines, header="source,curve,compute,accuracy"))
    assert len(frame) == 8 and notes == []
    _, notes = read(csv(tmp_path, *lines[:-1], header="source,curve,compute,accuracy"))
    (note,) = notes
    assert (
        str(note)
        == f"{note.file}, curve = a (q): has 3 distinct positive computes to fit, of at least 4: left out of fits"
    )


def test_what_is_a_table_is_told_by_the_name(tmp_path):
    assert all(is_table(f"x/a{ending}") for ending in FORMATS) and is_table("A.CSV")
    (tmp_path / "run.csv").mkdir()
    assert not any(map(is_table, ["a.txt", "csv", "runs/demo", tmp_path / "run.csv", "a.parquet.gz"]))


# Which column is what --------------------------------------------------------------------------------------


def test_columns_of_other_names_are_named_by_x_and_y(tmp_path):
    path = csv(tmp_path, *[f"{10**i},0.{i},{9 - i}" for i in range(1, 6)], header="flops,val/acc,loss")
    frame, notes = read(path, x="flops", y="val/acc:accuracy")
    assert notes == [] and frame["value"][0] == 0.1 and set(frame["metric"]) == {"accuracy"}
    frame, _ = read(path, x="flops", y="loss")
    assert frame["value"][0] == 8 and set(frame["metric"]) == {"loss"}


@pytest.mark.parametrize(
    ("header", "keys", "expected"),
    [
        ("computes,accuracy", {}, ["column compute: missing; the nearest is 'computes'", "--x"]),
        ("compute,acuracy", {}, ["accuracy, error or loss: missing; the nearest is 'acuracy'", "--y"]),
        ("Compute,accuracy", {}, ["compute: missing; the nearest is 'Compute'"]),
        ("compute,zzz", {}, ["missing; the table has compute, zzz"]),
        ("compute,accuracy,loss", {}, ["has columns accuracy, loss: choose one by --y"]),
        ("compute,val_acc", {"y": "val_ac:accuracy"}, ["column val_ac: missing; the nearest is 'val_acc'"]),
        ("compute,accuracy", {"y": "reward"}, ["y 'reward' is none of accuracy, error, loss, or COLUMN:METRIC"]),
        ("compute,accuracy", {"y": "accuracy:score"}, ["is none of accuracy, error, loss"]),
        ("compute,accuracy", {"x": "flops"}, ["column flops: missing"]),
        ("compute,metric", {}, ["missing"]),
        ("compute;accuracy", {}, ["one column; separate the cells by a comma"]),
        ("compute,accuracy,accuracy", {}, ["accuracy: named twice in the header"]),
    ],
)
def test_a_missing_or_ambiguous_column_is_one_line_that_helps(tmp_path, header, keys, expected):
    separator = ";" if ";" in header else ","
    path = csv(tmp_path, separator.join("1" * (1 + header.count(separator))), header=header)
    (line,) = problems(path, **keys)
    assert all(text in line for text in expected), line


def test_counts_alone_are_an_accuracy(tmp_path):
    frame, notes = read(csv(tmp_path, *[f"{10**i},{i},8" for i in range(5)], header="compute,successes,n"))
    assert notes == [] and frame["value"].to_list() == [i / 8 for i in range(5)]


def test_a_long_table_holds_one_metric_a_curve_or_y_chooses(tmp_path):
    lines = [f"{10**i},{m},0.{i + 1}" for m in ("accuracy", "loss") for i in range(4)]
    path = csv(tmp_path, *lines, header="compute,metric,value")
    (line,) = problems(path)
    assert "row 6, metric = loss: curve t also has metric accuracy; choose one by --y" in line
    frame, notes = read(path, y="loss")
    assert set(frame["metric"]) == {"loss"} and len(frame) == 4
    assert [note.text for note in notes] == ["4 rows of another metric are left out, for --y loss"]
    assert "no rows of metric error" in problems(path, y="error")[0]


# What is wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "column", "value"),
    [
        ("a,1e9,abc,,,", "accuracy", "abc"),
        ("a,12 GF,0.5,,,", "compute", "12 GF"),
        ("a,1e9,0.5,many,,", "n", "many"),
        ("a,1e9,45%,,,", "accuracy", "45%"),
        ("a,1e9,1.2,,,", "accuracy", "1.2"),
        ("a,1e9,-0.1,,,", "accuracy", "-0.1"),
        ("a,1e9,101,,,", "accuracy", "101"),
        ("a,1e9,inf,,,", "accuracy", "inf"),
        ("a,-1e9,0.5,,,", "compute", "-1e9"),
        ("a,1e999,0.5,,,", "compute", "1e999"),
        ("a,1e9,0.5,0,,", "n", "0"),
        ("a,1e9,0.5,-4,,", "n", "-4"),
        ("a,1e9,0.5,inf,,", "n", "inf"),
        ("a,1e9,1,4,5,", "successes", "5"),
        ("a,1e9,0.5,4,-2,", "successes", "-2"),
        ("a,1e9,0.5,100,60,", "accuracy", "0.5"),
        ("a,1e9,0.5,,,test", "split", "test"),
    ],
)
def test_each_malformation_is_one_line_with_file_row_column_and_value(tmp_path, line, column, value):
    path = csv(tmp_path, *points(), line, *points("b"))
    (found,) = problems(path)
    assert found.startswith(f"{path}, row 6, {column} = {value}: "), found
    assert len(found) > len(f"{path}, row 6, {column} = {value}: ") + 8


@pytest.mark.parametrize(
    ("header", "line", "column", "value"),
    [
        ("compute,loss", "1,0", "loss", "0"),
        ("compute,loss", "1,-2", "loss", "-2"),
        ("compute,metric,value", "1,reward,0.5", "metric", "reward"),
        ("compute,metric,value", "1,,0.5", "metric", "empty"),
        ("compute,accuracy,seed", "1,0.5,1.5", "seed", "1.5"),
        ("compute,n,successes", "1,4,5", "successes", "5"),
        ("compute,n,successes", "1,0,0", "n", "0"),
        ("compute,error,n,successes", "1,0.25,8,2", "error", "0.25"),
    ],
)
def test_the_same_for_other_layouts(tmp_path, header, line, column, value):
    path = csv(tmp_path, line, header=header)
    (found,) = problems(path)
    assert found.startswith(f"{path}, row 2, {column} = {value}: "), found


def test_all_problems_are_said_at_once(tmp_path):
    path = csv(tmp_path, *points(), "a,x,0.1,,,", "a,1,2e3,,,", "a,-1,0.1,0,,zzz")
    found = problems(path)
    assert len(found) == 5
    assert {line.split(":")[0].rpartition(", ")[2] for line in found} == {
        "compute = x", "accuracy = 2e3", "compute = -1", "n = 0", "split = zzz",
    }  # fmt: skip


def test_many_rows_of_one_kind_are_ten_lines_and_a_count(tmp_path):
    path = csv(tmp_path, *[f"a,{10**i},x,,," for i in range(25)])
    found = problems(path)
    assert len(found) == 11 and "… and 15 more rows (from 12 to 26), as not a number" in found[-1]
    frame, notes = read(csv(tmp_path, *points(), *[f"a,{10**i},nan,,," for i in range(25)]))
    assert len(frame) == 4 and len(notes) == 11 and "15 more rows (from 16 to 30)" in str(notes[-1])


def test_a_curve_of_two_units_is_refused(tmp_path):
    lines = ["1,0.1,flops", "10,0.2,flops", "100,0.3,tokens"]
    (line,) = problems(csv(tmp_path, *lines, header="compute,accuracy,compute_unit"))
    assert "row 4, compute_unit = tokens: curve t also has unit flops" in line


# What is used, and said ------------------------------------------------------------------------------------


@given(rows=st.lists(st.tuples(st.sampled_from([None, 1.0, 10.0]), st.sampled_from([None, 0.1, 0.2])), max_size=9))
@settings(max_examples=50, deadline=None)
def test_every_row_is_in_the_frame_or_in_a_note(tmp_path_factory, rows):
    assume(any(c is not None and v is not None for c, v in rows))
    table = pl.DataFrame(rows, {"compute": pl.Float64, "accuracy": pl.Float64}, orient="row")
    frame, notes = read(write(tmp_path_factory.mktemp("t"), table, ".csv"))
    gone = {note.row for note in notes if "left out" in note.text or "counted once" in note.text} - {None}
    assert len(frame) + len(gone) == len(rows)


def test_rows_without_a_number_are_left_out_and_named(tmp_path):
    frame, notes = read(csv(tmp_path, *points(), "a,1e9,NaN,,,", ",,,,,", "a,,0.5,,,"))
    assert len(frame) == 4
    assert [(n.row, n.column, n.value) for n in said(notes, "left out")] == [
        (7, "compute", "empty"), (8, "compute", "empty"), (6, "accuracy", "NaN"), (7, "accuracy", "empty"),
    ]  # fmt: skip


def test_percents_are_divided_once_and_said_once(tmp_path):
    path = csv(tmp_path, *points(values=(0, 0.5, 30, 45)), *points("b", (12, 20, 60, 100)))
    frame, notes = read(path)
    assert frame["value"].to_list() == [0, 0.005, 0.3, 0.45, 0.12, 0.2, 0.6, 1]
    assert (
        str(notes[0]).startswith(f"{path}, row 4, accuracy = 30: accuracy is taken as a percent")
        and len(notes) == 1
    )


def test_a_lone_value_above_one_or_curves_on_two_scales_are_errors(tmp_path):
    (line,) = problems(csv(tmp_path, *points(values=(0.2, 0.3, 1.4, 0.5))))
    assert "row 4, accuracy = 1.4: accuracy is from 0 to 1, as most others" in line
    found = problems(csv(tmp_path, *points(values=(12, 20, 60, 90)), *points("b", (0.2, 0.4))))
    assert ["row 6" in found[0], "row 7" in found[1], len(found)] == [True, True, 2]
    assert "in percent: give all on one scale" in found[0]


def test_arithmetic_that_passes_one_is_one(tmp_path):
    frame, notes = read(csv(tmp_path, *points(values=(1.0000000000000002, 1, 1, -1e-17))))
    assert frame["value"].to_list() == [1, 1, 1, 0] and notes == []


def test_a_copy_counts_once_and_another_value_is_another_measurement(tmp_path):
    frame, notes = read(csv(tmp_path, *points(), "a,1,0.1,,,", "a,10,0.7,,,", "a,10,0.7,,,"))
    assert frame["value"].to_list() == [0.1, 0.2, 0.7, 0.7, 0.3, 0.4]
    assert len(notes) == 3 and "row 6, compute = 1: the same point as row 2: counted once" in str(notes[0])
    assert "row 7, compute = 10: the point of row 3 with another value" in str(notes[1])
    assert "1 more rows (from 8 to 8)" in str(notes[2])


def test_right_and_wrong_answers_without_a_problem_column_are_not_copies(tmp_path):
    frame, _ = read(csv(tmp_path, *[f"a,{10**i},{j % 4 // 3},,," for i in range(4) for j in range(40)]))
    assert len(frame) == 160 and frame["value"].mean() == 0.25


def test_compute_zero_is_kept_as_the_left_end(tmp_path):
    frame, notes = read(csv(tmp_path, "a,0,0.05,,,", *points()))
    assert frame["compute"][0] == 0 and len(frame) == 5
    assert [(n.row, n.column, n.value) for n in notes] == [(2, "compute", "0")]


def test_a_short_curve_is_kept_and_said_to_be_left_out_of_fits(tmp_path):
    short = ["b,0,0.1,,,", "b,1,0.1,,,fit", "b,2,0.1,,,", "b,3,0.1,,,", "b,4,0.1,,,holdout"]
    frame, notes = read(csv(tmp_path, *points(), *short))
    assert len(frame) == 9
    (note,) = said(notes, "left out of fits")
    assert note == Note(note.file, None, "curve", "b", note.text) and "has 3 distinct" in note.text


def test_rows_without_a_curve_name_are_one_curve_and_said(tmp_path):
    frame, notes = read(csv(tmp_path, *points(), *points("")))
    assert set(frame["curve"]) == {"a", "t"} and "4 rows name no curve" in notes[0].text


def test_accuracy_may_be_a_rounded_share_of_the_counts(tmp_path):
    assert read(csv(tmp_path, *[f"a,{10**i},0.333,3,1," for i in range(4)]))[1] == []


def test_a_note_stays_one_printable_line(tmp_path):
    path = csv(tmp_path, '"a\nb",1,"x\ty\x1b[0m",,,')
    (line,) = problems(path)
    assert line.isprintable() and "x\\ty\\x1b[0m" in line
