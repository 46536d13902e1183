"""Records survive any crash: what was appended whole is read back, once; what is wrong is named."""

import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.files import RecordError, append, cut, read, repair, tail
from scaling.records import EVAL_KEY, TRAIN_KEY, Run, checkpoint_name

ENVIRONMENT = {"time": 1.0, "command": "scaling train", "devices": ["cpu"]}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
BATCHES = st.lists(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=4), max_size=4)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", "seed: 0\n", "abc", ENVIRONMENT)


def train_row(step):
    return {"step": step, "metrics": {"loss": 1 / step}}


def eval_row(problem, budget, correct=1):
    return {"problem": problem, "budget": budget, "samples": 2, "correct": correct}


def manifest(step):
    return {"name": checkpoint_name(step), "step": step, "config_hash": "abc", "train_flops": 2**70}


def save(run, step):
    (run.checkpoints / checkpoint_name(step)).mkdir()
    run.write_manifest(manifest(step))


@given(BATCHES)
def test_rows_come_back_as_they_were_appended(tmp_path_factory, batches):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"n": n, "row": row} for n, row in enumerate(row for batch in batches for row in batch)]
    left = iter(rows)
    for batch in batches:
        append(path, [next(left) for _ in batch])
    assert read(path, ("n",)) == rows


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5), st.data())
def test_a_crash_at_any_byte_loses_only_the_torn_row(tmp_path_factory, texts, data):
    path = tmp_path_factory.mktemp("torn") / "rows.jsonl"
    rows = [{"n": n, "text": text} for n, text in enumerate(texts)]
    append(path, rows)
    whole = path.read_bytes()
    size = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:size])
    complete = whole[:size].count(b"\n")

    assert read(path, ("n",)) == rows[:complete]
    append(path, rows[complete:])
    assert path.read_bytes() == whole


def test_repair_cuts_a_tail_longer_than_its_buffer(tmp_path):
    path = tmp_path / "rows.jsonl"
    append(path, [{"n": 0}])
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * 10_000)
    assert repair(path) == 10_000
    assert path.read_bytes() == whole
    assert repair(path) == 0


@pytest.mark.parametrize("bad", [b"{", b"[1]", b"\x00\x00", b"\xff", b'{"other": 1}'])
@pytest.mark.parametrize("last", [False, True])
def test_a_bad_terminated_line_is_named(tmp_path, bad, last):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bad + b"\n" + (b"" if last else b'{"step": 3}\n'))
    with pytest.raises(RecordError, match=r"rows\.jsonl, line 2: "):
        read(path, TRAIN_KEY)


def test_a_repeated_key_is_one_fact(tmp_path):
    path = tmp_path / "rows.jsonl"
    append(path, [eval_row(0, 8), eval_row(0, 16)])
    append(path, [eval_row(0, 8, correct=0), eval_row(1, 8)])
    assert read(path, EVAL_KEY) == [eval_row(0, 8), eval_row(0, 16), eval_row(1, 8)]


def test_what_json_lacks_becomes_null_and_what_it_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    append(path, [{"n": 0, "loss": math.nan, "reward": [math.inf, 1.5]}])
    assert read(path, ("n",)) == [{"n": 0, "loss": None, "reward": [None, 1.5]}]
    with pytest.raises(RecordError, match="cannot hold a set"):
        append(path, [{"n": 1, "answers": {1, 2}}])
    assert len(read(path, ("n",))) == 1


def test_array_scalars_are_numbers(tmp_path):
    append(tmp_path / "rows.jsonl", [{"n": np.int64(3), "loss": np.float32(0.5), "right": np.bool_(True)}])
    assert read(tmp_path / "rows.jsonl", ("n",)) == [{"n": 3, "loss": 0.5, "right": True}]


def test_what_a_full_disk_takes_in_part_is_taken_back(tmp_path, monkeypatch):
    path, write = tmp_path / "rows.jsonl", os.write
    append(path, [eval_row(0, 8)])
    before = path.read_bytes()
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:20]))
    with pytest.raises(OSError, match=r"wrote 20 of \d+ bytes; is the disk full"):
        append(path, [eval_row(1, 8)])
    assert path.read_bytes() == before


def test_following_a_file_yields_each_row_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert tail(path) == ([], 0)
    append(path, [{"step": 1}, {"step": 2}])
    rows, offset = tail(path)
    with open(path, "ab") as file:
        file.write(b'{"step": 3')
    assert tail(path, offset) == ([], offset)
    with open(path, "ab") as file:
        file.write(b"}\n")
    later, end = tail(path, offset)
    assert rows + later == [{"step": 1}, {"step": 2}, {"step": 3}]
    cut(path, lambda row: row["step"] <= 1)
    assert tail(path, end)[0] == [{"step": 1}]


def test_cutting_keeps_the_bytes_of_the_rows_that_stay(run):
    run.append_train([train_row(step) for step in (1, 2, 3)])
    before = run.train_file.read_bytes()
    run.append_train([train_row(4), train_row(5)])
    with open(run.train_file, "ab") as file:
        file.write(b'{"step": 6')
    assert run.cut_train(3) == 2
    assert run.train_file.read_bytes() == before
    assert run.cut_train(3) == 0


def test_a_run_is_taken_up_only_with_its_own_config(run):
    assert Run.create(run.path, "seed: 0  # again\n", "abc", {**ENVIRONMENT, "time": 2.0}) == run
    assert run.environment() == {**ENVIRONMENT, "later": []}
    Run.create(run.path, "seed: 0\n", "abc", {**ENVIRONMENT, "devices": ["gpu"]})
    assert [start["devices"] for start in run.environment()["later"]] == [["gpu"]]
    assert run.config_text() == "seed: 0\n"
    with pytest.raises(RecordError, match=r"config\.yaml: another config \(hash abc, not xyz\)"):
        Run.create(run.path, "seed: 1\n", "xyz", ENVIRONMENT)
    with pytest.raises(RecordError, match="not a run directory"):
        Run.open(run.path / "evals")


def test_manifests_are_listed_by_step_and_hold_large_integers(run):
    for step in (200, 3, 10_000_000):
        save(run, step)
    assert run.manifests() == [manifest(step) for step in (3, 200, 10_000_000)]


def test_a_flipped_bit_in_a_manifest_is_noticed_or_changes_nothing(run):
    save(run, 3)
    file = run.manifest_file(checkpoint_name(3))
    whole = file.read_bytes()
    noticed = 0
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            assert run.read_manifest(checkpoint_name(3)) == manifest(3)
        except RecordError:
            noticed += 1
    assert noticed > len(whole) / 2


def test_an_evaluation_knows_what_it_lacks(run):
    assert run.evaluation_missing("00000002", 2, [8]) == [(0, 8), (1, 8)]
    run.append_evaluation("00000002", [eval_row(0, 8), eval_row(1, 16)])
    assert run.evaluation_missing("00000002", 2, [8, 16]) == [(0, 16), (1, 8)]
    assert run.evaluation_names() == ["00000002"]


def test_status_is_replaced_whole(run):
    assert run.read_status() is None
    run.write_status("running", "train")
    run.write_status("failed", "train", reason="disk full")
    status = run.read_status()
    assert (status["state"], status["stage"], status["reason"]) == ("failed", "train", "disk full")
    assert [file.name for file in run.path.glob(".*")] == [], "a temporary file was left behind"
    with pytest.raises(RecordError, match="'lost'"):
        run.write_status("lost", "train")
