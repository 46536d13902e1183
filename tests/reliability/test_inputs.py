"""Bad input is refused before anything is compiled or written: a line a problem, exit code 2, no traceback."""

import dataclasses
import gzip
import os
import subprocess
import sys

import polars as pl
import pytest

from analysis import table_files
from analysis.table import TableError, read
from scaling import config as configs
from scaling.cli import main
from scaling.config import Config, TaskConfig
from scaling.plan import plan
from scaling.rules import LARGEST, LARGEST_SIZE, SMALLEST
from scaling.structure import ConfigError, FieldDoc, field_docs
from scaling.tasks import make_task
from sweeps.expand import expand
from sweeps.file import parse
from sweeps.file import read as read_sweep

pytestmark = pytest.mark.reliability

FIELDS = {doc.path: doc for doc in field_docs(Config)}
HUGE = "1" + "0" * 30
WRONG_TYPE = {
    "int": ["x", "2.5", "true", "null", "[1]", "{a: 1}", ".nan", ".inf", "''", "1e999"],
    "float": ["x", "true", "null", "[1]", "{a: 1}", ".nan", "-.inf", "1e999", "2001-01-01"],
    "bool": ["maybe", "3", "null", "[true]", "{a: 1}"],
    "str": ["3", "true", "null", "[a]", "{a: 1}", "2001-01-01"],
    "tuple": ["3", "x", "null", "{a: 1}", "true"],
}
OUT_OF_RANGE = {
    "int": ["-2", HUGE],
    "float": ["-1", "1e31"],
    "tuple[int, ...]": ["[]", "[-1]", f"[{HUGE}]"],
}
OPEN = {
    *((path, "1e31") for path in ("rl.flops", "schedule.first", "schedule.rl_first", "schedule.resume_seconds")),
    *((path, HUGE) for path in ("evaluation.tokens", "task.difficulty_max")),
}
"""In range, though large: these are reckoned with in Python alone, and difficulties are the task's to judge."""
NAMES = ("task.name", "model.feedforward", "model.dtype", "rl.recipe", "tracking.wandb")
TOGETHER = {
    ("model.heads=3", "model.kv_heads=2"): "model.kv_heads = 2: must be a divisor of model.heads = 3",
    ("rl.problems=4", "rl.updates=3"): "rl.updates = 3: must be a divisor of rl.problems = 4",
    ("rl.recipe=grpo", "rl.samples=1"): "rl.samples = 1: must be at least 2: grpo compares",
    ("task.difficulty_min=3", "task.difficulty_max=2"): "task.difficulty_max = 2: must be at least",
    ("task.name=problem_file",): "task.path = '': must be the JSONL file",
    ("task.name=recurrence", "task.path=x.jsonl"): "task.path = 'x.jsonl': must be empty",
    ("mesh.data=-1", "mesh.tensor=-1"): "mesh = MeshConfig(data=-1, fsdp=1, tensor=-1",
    ("evaluation.budgets=[8, 4]",): "evaluation.budgets = (8, 4): must be rising",
    ("evaluation.samples=[4, 4]",): "evaluation.samples = (4, 4): must be rising",
    ("rl.b2=1",): "rl.b2 = 1.0: must be at least 0 and below 1",
    ("rl.step_discount=1.5",): "rl.step_discount = 1.5: must be above 0 and at most 1",
    ("rl.temperature=1e-40",): "rl.temperature = 1e-40: must be from 1e-30 to 1e+30",
    ("schedule.points_per_decade=101",): "schedule.points_per_decade = 101: must be at most 100",
}


def kind(doc: FieldDoc) -> str:
    return doc.type.partition("[")[0]


ALONE = [
    *((path, value) for path, doc in FIELDS.items() for value in WRONG_TYPE[kind(doc)]),
    *((path, value) for path, doc in FIELDS.items() for value in OUT_OF_RANGE.get(doc.type, ())),
    *((path, "nonsense") for path in NAMES),
    *((f"{path}x", "1") for path in FIELDS),
]
MALFORMED = [case for case in ALONE if case not in OPEN]


def refused(capsys, *argv: str) -> list[str]:
    code = main(argv)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), (code, err)
    assert "Traceback" not in err
    return err.splitlines()


def test_hundreds_of_malformed_configs_each_name_the_field_and_what_would_be_right():
    assert len(MALFORMED) > 500
    wrong = []
    for path, value in MALFORMED:
        try:
            configs.load("tiny", [f"{path}={value}"])
        except ConfigError as error:
            text = "\n".join(error.lines)
            if path in text and ("must be" in text or "unknown field" in text) and len(error.lines) <= 2:
                continue
            wrong.append((path, value, text))
        else:
            wrong.append((path, value, "taken"))
    assert not wrong


@pytest.mark.parametrize("command", [("run", "tiny", "--dry-run"), ("run", "tiny")])
def test_one_wrong_value_of_every_field_is_one_command_and_one_line_each(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leaves = {path: WRONG_TYPE[kind(doc)][0] for path, doc in FIELDS.items() if path != "warm_start.stages"}
    lines = refused(
        capsys, *command, *[word for path, value in leaves.items() for word in ("--set", f"{path}={value}")]
    )
    for path in leaves:
        assert sum(line.startswith(f"{path} = ") for line in lines) == 1, path
    assert len(lines) == len(leaves)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overrides", TOGETHER, ids=" ".join)
def test_what_does_not_go_together_is_refused(overrides):
    with pytest.raises(ConfigError) as error:
        configs.load("tiny", overrides)
    assert [line.startswith(TOGETHER[overrides]) for line in error.value.lines] == [True], error.value.lines


@pytest.mark.parametrize("words", [("--set", "rl.samples=1"), ("--set", "seed=x", "--set", "rl.flpos=2")])
def test_a_process_that_refuses_has_not_started_jax_nor_made_a_file(words, tmp_path):
    code = (
        "import sys, scaling.cli as cli; code = cli.main(sys.argv[1:]);"
        "assert not {'jax', 'numpy', 'flax'} & set(sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "run", "tiny", *words]
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", len(words) // 2), done.stderr
    assert not list(tmp_path.iterdir())


SLOW_TO_PLAN = ("evaluation.problems", "warm_start.stages.0.steps", "warm_start.stages.0.batch")
"""A plan draws these problems: minutes at the bound."""
EXTREMES = [
    *((path, LARGEST_SIZE) for path, doc in FIELDS.items() if doc.type == "int" and path not in SLOW_TO_PLAN),
    *((path, bound) for path, doc in FIELDS.items() if doc.type == "float" for bound in (SMALLEST, LARGEST)),
    *((path, 1e300) for path, _ in OPEN),
]


def test_whatever_is_taken_can_be_planned():
    """No value at the end of its range makes a plan crash: it is refused, or planned."""
    planned = 0
    for path, value in EXTREMES:
        try:
            config = configs.load("tiny", [f"{path}={value}"])
        except ConfigError:
            continue
        if path.startswith("task."):
            continue
        plan(dataclasses.replace(config, seed=0))
        planned += 1
    assert planned > 40


HOSTILE_YAML = {
    "deep": ("[" * 5000, "nested too deeply"),
    "deep map": ("a: " + "{a: " * 3000, "nested too deeply"),
    "billion laughs": ("a: &a [1, 1]\nb: [*a, *a]\n", "an alias is not taken"),
    "itself": ("rl: &a [*a]", "an alias is not taken"),
    "long number": ("seed: 0x" + "f" * 5000, "a value of 5002 characters; at most 1000"),
    "long text": (f"seed: {'a' * 10**6}", "a value of 1000000 characters"),
    "code": ("seed: !!python/object/apply:os.system ['touch pwned']", "could not determine a constructor"),
    "object": ("seed: !!python/name:os.system", "could not determine a constructor"),
    "null byte": ("seed: \0", "special characters are not allowed"),
    "half a surrogate": ("seed: \ud800", "cannot be read"),
    "two documents": ("---\nseed: 1\n---\nseed: 2", "expected a single document"),
    "unhashable key": ("{[1]: 2}", "not YAML"),
    "tab": ("rl:\n\tflops: 1", "not YAML"),
}


@pytest.mark.parametrize("what", HOSTILE_YAML)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_hostile_file_is_one_line(what, command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, expected = HOSTILE_YAML[what]
    (tmp_path / "bad.yaml").write_bytes(text.encode(errors="surrogatepass"))
    (line,) = refused(capsys, command, "bad.yaml", "--dry-run")
    assert expected in line and len(line) < 400
    assert [file.name for file in tmp_path.iterdir()] == ["bad.yaml"]


def test_a_path_that_no_file_can_have_is_named():
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        parse({"base": "a\0b"}, "test")
    with pytest.raises(ValueError, match=r"task.path: a\x00b cannot be read"):
        make_task(TaskConfig(name="problem_file", path="a\0b"))


@pytest.mark.parametrize("name", ["../x", "..", "/etc", "a/b", "-rf", "", "a\0b", "x" * 101, ".hidden", "a b"])
def test_a_sweeps_name_is_a_folder_of_its_own_or_refused(name, tmp_path):
    (tmp_path / "given.yaml").write_text("base: tiny")
    if not name:
        assert read_sweep(tmp_path / "given.yaml").name == "given"
        return
    with pytest.raises(ConfigError, match="name = "):
        parse({"base": "tiny", "name": name}, "test")


def test_runs_of_a_sweep_stay_in_its_directory_whatever_their_values(tmp_path):
    values = ["../../x", "/etc/passwd", "..", "a\nb", "x" * 500, "; rm -rf ~", "$(id)"]
    sweep = parse(
        {"base": "tiny", "parameters": {"tracking.project": {"values": values}, "seed": {"values": [0]}}}, "t"
    )
    try:
        names = [planned.name for planned in expand(sweep)]
    except ConfigError as error:  # what differs by no more than the tracking is the same run
        assert all("are the same run" in line for line in error.lines)
        names = [line.split()[1] for line in error.lines]
    for name in names:
        assert (tmp_path / name).resolve().parent == tmp_path.resolve() and len(name) < 120


# Tables -----------------------------------------------------------------------------------------------------

GOOD = "compute,accuracy\n1,0.1\n10,0.2\n100,0.3\n1000,0.4\n"


def table(folder, data: bytes, name="t.csv"):
    path = folder / name
    path.write_bytes(data)
    return path


def test_bom_carriage_returns_and_spaces_in_the_header_change_nothing(tmp_path):
    expected = read(table(tmp_path, GOOD.encode()))
    for data in (
        GOOD.encode("utf-8-sig"),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace("compute,accuracy", " compute , accuracy ").encode(),
        GOOD.rstrip("\n").encode(),
        GOOD.replace("0.1", "1e-1").encode(),
        GOOD.replace("10,0.2", '"10","0.2"').encode(),
    ):
        frame, notes = read(table(tmp_path, data))
        assert frame.equals(expected[0]) and notes == expected[1]


def test_the_same_table_twice_is_the_same_table(tmp_path):
    once, _ = read(table(tmp_path, GOOD.encode()))
    twice, notes = read(table(tmp_path, (GOOD + GOOD.partition("\n")[2]).encode()))
    assert twice.equals(once)
    assert [note.row for note in notes] == [6, 7, 8, 9] and all("counted once" in note.text for note in notes)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (GOOD.replace(",", ";"), "one column; separate the cells by a comma"),
        (GOOD.replace("0.2", "0,2"), "3 cells where the header has 2"),
        (GOOD.replace("0.2", "87"), "accuracy = 87: accuracy is from 0 to 1, as most others"),
        (GOOD.replace("\n10,", f"\n{'9' * 400},"), "infinite"),
        (GOOD.replace("\n10,", "\n-10,"), "negative; compute is positive"),
        (GOOD.replace("0.2", "inf"), "infinite; give a finite number"),
        (GOOD.replace("0.2", "=1+1"), "not a number"),
        (GOOD.replace("0.2", "x" * 200_000), "not csv (field larger than field limit"),
        ("\x00" * 20, "t.csv"),
        ("PK\x03\x04", "t.csv"),
    ],
    ids=["semicolons", "comma", "percent", "huge", "negative", "inf", "formula", "long", "nulls", "zip"],
)
def test_a_bad_table_is_a_line_that_is_short_and_names_the_file(data, expected, tmp_path):
    path = table(tmp_path, data.encode())
    with pytest.raises(TableError) as error:
        read(path)
    assert any(expected in line for line in error.value.lines), error.value.lines
    assert all(str(path) in line and line.isprintable() and len(line) < 500 for line in error.value.lines)


def test_a_table_of_a_hundred_thousand_columns_is_read_in_proportion(tmp_path):
    """Looking each name up in a list of the others would take minutes."""
    more = [f"c{i}" for i in range(100_000)]
    rows = [",".join([str(10**i), f"0.{i + 1}", *["1"] * len(more)]) for i in range(4)]
    frame, _ = read(table(tmp_path, "\n".join([",".join(["compute", "accuracy", *more]), *rows]).encode()))
    assert len(frame) == 4


def test_a_small_file_that_expands_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "LARGEST", 10**6)
    bomb = gzip.compress(GOOD.encode() + b"1,0.5\n" * 10**6)
    assert len(bomb) < 10**5
    with pytest.raises(TableError, match="more than 1,000,000 bytes"):
        read(table(tmp_path, bomb, "t.csv.gz"))
    with pytest.raises(TableError, match="more than 1,000,000 bytes"):
        read(table(tmp_path, b"1" * (10**6 + 1)))


MANY = 150_000_000
"""Rows of which one column is more than the bound, and run-length encoded less than a megabyte."""


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """A Parquet file of `MANY` equal rows. Written as a stream: the whole is more than a test may hold."""
    path = tmp_path_factory.mktemp("bomb") / "t.parquet"
    pl.LazyFrame().select(compute=pl.repeat(1, MANY)).sink_parquet(path)
    assert path.stat().st_size < 10**6 and MANY * 8 > table_files.LARGEST
    return path


def number(value: int, width: int) -> bytes:
    """A number as a Parquet footer has it, in so many bytes: zigzag, seven bits each, the least first."""
    sevens = [(2 * value >> 7 * i) & 127 for i in range(width)]
    return bytes([*(seven | 128 for seven in sevens[:-1]), sevens[-1]])


def test_a_parquet_file_that_expands_without_end_is_refused(bomb):
    with pytest.raises(TableError, match=f"{bomb}: has more than {table_files.LARGEST:,} bytes$"):
        read(bomb)


def test_nor_does_it_help_that_its_footer_lies(bomb, tmp_path, monkeypatch):
    """The memory of the process that unpacks it is bounded."""
    monkeypatch.setattr(table_files, "LARGEST", 10**6)
    data = bomb.read_bytes()
    at = data.index(number(MANY, 5), len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    lying = table(tmp_path, data[:at] + number(4, 5) + data[at + 5 :], "t.parquet")
    assert pl.scan_parquet(lying).select(pl.len()).collect().item() == 4
    with pytest.raises(TableError, match=r"has more than 1,000,000 bytes, or is damaged$"):
        read(lying)


def test_a_parquet_file_of_few_rows_of_one_long_text_is_refused(tmp_path, monkeypatch):
    """Its text stands there once, in a dictionary, and is as much as the rows that name it."""
    monkeypatch.setattr(table_files, "LARGEST", 10**6)
    frame = pl.DataFrame({"compute": [1.0] * 100, "curve": pl.Series(["x" * 10**5]).new_from_index(0, 100)})
    frame.write_parquet(tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 10**4
    with pytest.raises(TableError, match=r"has more than 1,000,000 bytes$"):
        read(tmp_path / "t.parquet")


def test_one_row_is_a_table_too_short_to_fit(tmp_path):
    frame, (note,) = read(table(tmp_path, b"compute,accuracy\n1,0.5\n"))
    assert len(frame) == 1 and isinstance(frame, pl.DataFrame) and "left out of fits" in note.text
