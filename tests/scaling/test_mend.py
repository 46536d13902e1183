"""Damaged records: the file is kept, the sound rows go on, and a line says so. Twice is no more than once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.files import RecordError, read
from scaling.mend import mend
from scaling.records import Run

GARBAGE = [b"\x00\xff\x17\n", b"{\n", b"[1, 2]\n", b'{"step"}\n', b'{"budget": 8}\n', b"\n"]


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run.create(tmp_path / "run", "seed: 0\n", "abc", {"command": "scaling run"})
    run.append_train([{"step": step} for step in range(1, 6)])
    run.append_evaluation("00000002", [{"problem": problem, "budget": 8} for problem in range(5)])
    return run


def test_sound_records_are_not_touched(run):
    files = run.train_file, run.evaluation_file("00000002")
    before = [file.stat() for file in files]
    assert mend(run) == []
    assert [file.stat() for file in files] == before
    assert not (run.path / "damaged").exists()


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_damaged_line_is_named_and_what_is_sound_stays(run, garbage):
    for file in (run.train_file, run.evaluation_file("00000002")):
        lines = file.read_bytes().splitlines(keepends=True)
        lines[2] = garbage
        file.write_bytes(b"".join(lines))
    with pytest.raises(RecordError, match="line 3"):
        run.train_rows()
    damaged = run.train_file.read_bytes()
    train, evaluation = mend(run)
    assert train.startswith(f"{run.train_file}, line 3: ") and train.endswith(
        str(run.path / "damaged/train.jsonl")
    )
    assert "line 3" in evaluation and "4 sound rows kept" in evaluation
    assert [row["step"] for row in run.train_rows()] == [1, 2, 4, 5]
    assert run.evaluation_missing("00000002", 5, [8]) == [(2, 8)]
    assert (run.path / "damaged/train.jsonl").read_bytes() == damaged
    assert mend(run) == []
    assert run.evaluation_names() == ["00000002"], "what was set aside is no evaluation"


def test_what_was_set_aside_before_stays(run):
    for _ in range(2):
        with open(run.train_file, "ab") as file:
            file.write(b"garbage\n")
        assert len(mend(run)) == 1
    kept = sorted(file.name for file in (run.path / "damaged").iterdir())
    assert kept == ["train-1.jsonl", "train.jsonl"]


@settings(deadline=None)  # each example syncs a disk
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_after_any_flipped_bit_the_records_can_be_read(tmp_path_factory, place, bit):
    run = Run(tmp_path_factory.mktemp("run"))
    run.append_train([{"step": step, "loss": 1 / step} for step in range(1, 6)])
    data = bytearray(run.train_file.read_bytes())
    data[place % len(data)] ^= 1 << bit
    run.train_file.write_bytes(data)
    mend(run)
    assert len(read(run.train_file, ("step",))) >= 3
