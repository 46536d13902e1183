"""W&B histories as tables: a real offline run, and the service by a stand-in for its Api."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from analysis.table import TableError, read
from analysis.wandb_source import read_wandb

LOG_A_RUN = """
import wandb
run = wandb.init(mode="offline", project="study", name="big", group="sizes", dir=".")
for i in range(5):
    run.log({"train loss": 1 / (i + 1)})
    run.log({"flops": 10.0**i, "val": {"acc": 0.1 * i + 0.05}, "accuracy": i / 10, "loss": 1.0})
run.log({"flops": 1e6, "val": {"acc": float("nan")}})
run.finish()
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    quiet = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    subprocess.run([sys.executable, "-c", LOG_A_RUN], cwd=folder, env=quiet, check=True, timeout=120)
    (run,) = (folder / "wandb").glob("offline-run-*")
    return run


def test_an_offline_run_is_a_curve_by_file_by_folder_and_by_the_folder_of_runs(offline):
    (log,) = offline.glob("*.wandb")
    frames = [read_wandb(path, x="flops", y="val.acc:accuracy")[0] for path in (log, offline, offline.parent)]
    assert frames[0].equals(frames[1]) and frames[0].equals(frames[2])
    first = frames[0].row(0, named=True)
    assert (first["curve"], first["group"], first["compute"], first["value"]) == ("big", "sizes", 1.0, 0.05)
    assert first["source"] == f"study/{log.stem.removeprefix('run-')}"
    assert len(frames[0]) == 5


def test_rows_of_other_things_are_counted_and_a_missing_value_is_named_by_its_step(offline):
    _, notes = read_wandb(offline, x="flops", y="val.acc:accuracy")
    assert "6 of 11 history rows hold both flops and val.acc" in notes[0].text
    assert [(note.row, note.column, note.value) for note in notes[1:]] == [(10, "val.acc", "NaN")]


def test_the_same_checks_as_of_any_table(offline):
    with pytest.raises(TableError, match=r"no history row holds both compute and .* has accuracy, flops, loss"):
        read_wandb(offline)
    with pytest.raises(TableError, match="has columns accuracy, loss: choose one by --y"):
        read_wandb(offline, x="flops")


def test_a_torn_log_gives_what_it_has_and_says_so_and_junk_is_an_error(offline, tmp_path):
    (log,) = offline.glob("*.wandb")
    data = log.read_bytes()
    torn, junk = tmp_path / "torn.wandb", tmp_path / "junk.wandb"
    torn.write_bytes(data[: int(len(data) * 0.8)])
    junk.write_bytes(b"not a log" * 9)
    frame, notes = read_wandb(torn, x="flops", y="val.acc:accuracy")
    assert 0 < len(frame) < 5 and any("incomplete" in note.text for note in notes)
    for path, text in ((junk, "not a readable W&B log"), (tmp_path / "none", "no W&B log")):
        with pytest.raises(TableError, match=text):
            read_wandb(path)
    with pytest.raises(TableError, match="junk") as found:
        read_wandb(tmp_path)
    assert len(found.value.lines) == 2


def test_a_run_of_the_service_reads_as_its_table_would(monkeypatch, tmp_path):
    rows = [{"_step": 7 * i, "flops": 10.0**i, "acc": 0.1 * i} for i in range(5)]
    asked = []

    class Api:
        def run(self, path):
            def scan_history(keys):
                asked.append((path, keys))
                return iter(rows)

            return SimpleNamespace(scan_history=scan_history, group="", name="big", id="r1")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Api=Api))
    frame, notes = read_wandb("wandb:lab/study/r1", x="flops", y="acc:accuracy")
    assert asked == [("lab/study/r1", ["flops", "acc"])] and notes == []
    path = tmp_path / "t.csv"
    header, *lines = "source,curve,flops,acc", *(f"lab/study/r1,big,{r['flops']},{r['acc']}" for r in rows)
    path.write_text("\n".join([header, *lines]))
    assert frame.equals(read(path, x="flops", y="acc:accuracy")[0])


def test_what_the_service_refuses_is_one_line(monkeypatch):
    class Api:
        def run(self, path):
            raise PermissionError("log in\nfirst")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Api=Api))
    with pytest.raises(TableError, match=r"a/b/c: W&B did not give this run .PermissionError: log in") as found:
        read_wandb("wandb:a/b/c")
    assert len(str(found.value).splitlines()) == 1
    with pytest.raises(TableError, match="wandb:ENTITY/PROJECT/RUN_ID"):
        read_wandb("wandb:b/c")
