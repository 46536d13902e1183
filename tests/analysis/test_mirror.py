"""Every record reaches W&B once, whatever happens in between, with what a reader of W&B wants beside it."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from synthetic_runs import saturated, write_run

from analysis.load import estimates
from analysis.mirror import GRID, PERIOD_S, SHARE, Mirror, evaluation_point, rest, sent, train_point
from analysis.progress_plot import progress
from analysis.wandb_source import inspect
from scaling.records import Run

KEY = "0123456789abcdef" * 2 + "c0ffee00"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (640, 320)).save(file, "png")
    return file.getvalue()


PNG = png()
"""The beginning of a picture, for tests that are not about what it shows."""


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    for name in ("WANDB_DIR", "WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_TAGS", "WANDB_ENTITY", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"MODE": "offline", "PROJECT": "study", "ERROR_REPORTING": "false", "API_KEY": KEY}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    yield
    import wandb

    wandb.teardown()


@pytest.fixture
def run(tmp_path) -> Run:
    """Three checkpoints with their evaluations, and no training row."""
    run = write_run(
        tmp_path / "run", saturated, rl=(1e11,), warm=(1e10,), problems=6, budgets=(0, 8), samples=(1, 2),
        tokens=16, fields={"rl": {"recipe": "dapo"}},
    )  # fmt: skip
    run.train_file.unlink()
    return run


@pytest.fixture
def undrawn(monkeypatch):
    def save(chart, path):
        path.write_bytes(PNG)
        return path

    monkeypatch.setattr("analysis.mirror.save", save)


def train_row(step, phase="rl"):
    warm, rl = 10**9, 10**9 * step if phase == "rl" else 0
    metrics = {"reward": step / 10, "loss": None} if phase == "rl" else {"loss": 1 / step}
    axes = {"train_flops": warm + rl, "rl_flops": rl}
    return {"step": step, "phase": phase, "phase_step": step, "budget": 64, "metrics": metrics, **axes}


def sync(mirror):
    """All there is, one evaluation a look."""
    while mirror.sync():
        pass


def send(run):
    """What a whole mirror process does, here."""
    import wandb

    mirror = Mirror(run)
    sync(mirror)
    mirror.report()
    mirror.finish()
    wandb.teardown()  # as at the end of a process: from here on the log is whole


def records(run, kind):
    logs = sorted(run.path.glob("wandb/*run-*/run-*.wandb"))
    return [record[kind] for log in logs for record in inspect(log)[0] if record.get("type") == kind]


def history(run):
    return [record["item"] for record in records(run, "history")]


def sent_once(run):
    """What each point is of, in order; their W&B steps count up without a gap or a repetition."""
    points = history(run)
    assert [point["_step"] for point in points] == list(range(len(points)))
    return [point.get("evaluation/checkpoint", point["step"]) for point in points]


@given(worked=st.floats(0, 1e5), passed=st.floats(0, 1e5))
def test_a_mirror_rests_until_its_work_is_a_fiftieth_of_what_the_processors_could_do(worked, passed):
    seconds = rest(worked, passed)
    assert seconds >= PERIOD_S
    assert worked <= SHARE * os.cpu_count() * (passed + seconds) * (1 + 1e-9)
    assert seconds == PERIOD_S or worked > SHARE * os.cpu_count() * passed


@pytest.mark.slow
def test_every_record_reaches_wandb_once_under_one_id_over_two_processes(run, undrawn):
    run.append_train([train_row(1, "warm_start"), train_row(2)])
    held_back = run.evaluation_rows("00000030")
    run.evaluation_file("00000030").unlink()
    run.append_evaluation("00000030", held_back[:-1])
    first = Mirror(run)
    sync(first)
    run.append_train([train_row(3), train_row(4)])
    sync(first)
    run.cut_train(3)
    run.append_train([train_row(step) for step in range(4, 9)])
    sync(first)
    first.finish()
    assert sent_once(run) == [1, 2, "00000010", "00000020", 3, 4, 5, 6, 7, 8]

    run.append_train([train_row(9)])
    run.append_evaluation("00000030", held_back[-1:])
    send(run)
    assert sent_once(run)[10:] == [9, "00000030"]
    logs = sorted(run.path.glob("wandb/offline-run-*/*.wandb"))
    assert len(logs) == 2 and len({log.name for log in logs}) == 1, "another run id"
    send(run)
    assert sorted(run.path.glob("wandb/offline-run-*/*.wandb")) == logs, "nothing new, no new part"


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
def test_of_a_log_that_a_kill_cut_short_what_is_lost_is_sent_again_and_nothing_else(run, undrawn, share):
    run.append_train([train_row(step) for step in range(1, 40)])
    send(run)
    (log,) = run.path.glob("wandb/offline-run-*/*.wandb")
    whole = sent_once(run)
    log.write_bytes(log.read_bytes()[: 7 + int(share * (log.stat().st_size - 7))])
    kept = len(history(run))
    assert kept < len(whole)
    time.sleep(1.1 - time.time() % 1)  # wandb names a part by its second
    send(run)
    again = sent_once(run)
    assert again[:kept] == whole[:kept] and sorted(map(str, again)) == sorted(map(str, whole))


@pytest.mark.slow
def test_axes_config_tags_group_and_id(run, undrawn, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    monkeypatch.setenv("WANDB_RUN_GROUP", "sizes")
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    run.append_train([train_row(1)])
    send(run)
    (started,) = records(run, "run")
    names = ("run_id", "run_group", "project", "entity", "display_name", "tags")
    assert [started[name] for name in names] == ["agents", "sizes", "study", "lab", "run", ["synthetic", "dapo"]]
    assert started["config"]["update"]["evaluation"]["budgets"] == [0, 8]
    defined = {
        record.get("glob_name") or record["name"]: record.get("step_metric") for record in records(run, "metric")
    }
    assert (
        defined.items()
        >= {
            "rl/*": "log10_rl_flops",
            "warm_start/*": "log10_train_flops",
            "evaluation/*": "log10_train_flops",
        }.items()
    )
    assert defined.keys() >= {"step", "train_flops", "log10_train_flops", "rl_flops", "log10_rl_flops"}
    monkeypatch.setenv("WANDB_TAGS", "mine,yours")
    run.append_train([train_row(2)])
    send(run)
    assert records(run, "run")[-1]["tags"] == ["mine", "yours"]


def test_points_have_linear_and_log_axes_and_no_missing_values(run):
    point = train_point(train_row(9))
    assert (point["log10_train_flops"], point["rl_flops"], point["rl/reward"]) == (10.0, 9e9, 0.9)
    assert "rl/loss" not in point
    assert "log10_rl_flops" not in train_point(train_row(1, "warm_start")), "nothing spent has no logarithm"
    here = estimates(run.path).filter(checkpoint="00000030")
    point = evaluation_point(run.read_manifest("00000030"), here)
    correct = [row["correct"] / row["samples"] for row in run.evaluation_rows("00000030") if row["budget"] == 8]
    assert point["evaluation/accuracy_at_8"] == pytest.approx(sum(correct) / len(correct))
    assert point["log10_rl_flops"] == 11.0


@pytest.mark.slow
def test_an_evaluation_brings_its_grid_its_panels_and_its_manifest(run):
    send(run)
    points = history(run)
    assert [point["evaluation/checkpoint"] for point in points] == run.manifest_names()
    (part,) = run.path.glob("wandb/offline-run-*/files")
    for point in points:
        table = json.loads((part / point["evaluation/grid.path"]).read_bytes())
        expected = estimates(run.path).filter(checkpoint=point["evaluation/checkpoint"]).select(GRID)
        assert table["columns"] == list(GRID)
        assert pl.DataFrame(table["data"], schema=expected.schema, orient="row").equals(expected)
        picture = (part / point["evaluation/panels.path"]).read_bytes()
        assert picture.startswith(SIGNATURE) and point["evaluation/panels._type"] == "image-file"
        assert point["evaluation/panels.width"] > point["evaluation/panels.height"] > 300
    manifests = [found for found in records(run, "artifact") if found["type"] == "checkpoint"]
    assert [set(found["aliases"]) for found in manifests] == [{"latest", name} for name in run.manifest_names()]
    for found, name in zip(manifests, run.manifest_names(), strict=True):
        (entry,) = found["manifest"]["contents"]
        assert Path(entry["local_path"]).read_bytes() == run.manifest_file(name).read_bytes()


@pytest.mark.slow
def test_a_report_is_sent_once_with_its_figures_and_again_when_it_is_another(run, undrawn):
    send(run)
    for name in ("panels", "compute"):
        (run.path / f"{name}.png").write_bytes(PNG)
    (run.path / "answer.json").write_text('{"verdict": "cannot tell"}')
    for page in ("<p>one", "<p>one", "<p>two"):
        (run.path / "report.html").write_text(page)
        time.sleep(1.1 - time.time() % 1)  # wandb names a part by its second
        send(run)
    points = [point for point in history(run) if "report/digest" in point]
    assert [point["report/verdict"] for point in points] == ["cannot tell"] * 2
    assert all(point[f"report/{name}._type"] == "image-file" for point in points for name in ("panels", "compute"))
    reports = [found for found in records(run, "artifact") if found["type"] == "report"]
    assert len(reports) == 2
    paths = {entry["path"] for entry in reports[0]["manifest"]["contents"]}
    assert paths == {"report.html", "answer.json", "panels.png", "compute.png"}


def test_a_rolling_checkpoint_is_no_part_of_the_mirror_and_may_vanish(run, undrawn, monkeypatch):
    run.write_manifest({**run.read_manifest("00000030"), "name": "00000040", "kind": "resume"})
    names = run.manifest_names()
    monkeypatch.setattr(Run, "manifest_names", lambda self: [*names, "00000050"])
    send(run)
    assert sent_once(run) == ["00000010", "00000020", "00000030"]


def test_no_secret_of_the_environment_is_written(run, undrawn, monkeypatch):
    monkeypatch.setenv("OTHER_TOKEN", KEY[::-1])
    run.append_train([train_row(1)])
    send(run)
    files = [file for file in run.path.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any(file.suffix == ".wandb" for file in files)
    assert not [
        file for file in files if KEY.encode() in file.read_bytes() or KEY[::-1].encode() in file.read_bytes()
    ]


def mirror_process(run):
    command = [sys.executable, "-m", "analysis.mirror", str(run.path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_process_that_is_killed_is_followed_by_one_that_waits_for_its_service_and_sends_what_is_missing(run):
    run.append_train([train_row(step) for step in range(1, 200)])
    with mirror_process(run) as first:
        while not list(run.path.glob("wandb/offline-run-*/files/media/images/*/*.png")):
            assert first.poll() is None
            time.sleep(0.1)
        first.kill()
    with mirror_process(run) as second:
        out, _ = second.communicate()
    assert (second.returncode, out) == (0, "")
    assert sorted(map(str, sent_once(run))) == sorted(map(str, [*range(1, 200), *run.manifest_names()]))
    uploads = [
        entry["local_path"] for found in records(run, "artifact") for entry in found["manifest"]["contents"]
    ]
    assert uploads and all(Path(file).is_relative_to(run.path) for file in uploads)


@pytest.mark.slow
def test_a_log_that_cannot_be_read_ends_a_mirror_before_it_sends_a_thing(run):
    log = run.path / "wandb" / "offline-run-20260101_000000-abc" / "run-abc.wandb"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"not a log" * 9)
    with mirror_process(run) as process:
        out, _ = process.communicate()
    assert process.returncode == 0
    assert out.startswith("W&B mirror off from here on (TableError: ") and out.count("\n") == 1
    assert [file.name for file in run.path.glob("wandb/*run-*")] == [log.parent.name]


def test_a_new_run_has_sent_nothing(tmp_path):
    assert sent(tmp_path).points == 0 and sent(tmp_path).id != sent(tmp_path).id


def test_progress_is_drawn_from_the_first_evaluation_on_and_then_on_the_axis_of_rl(run):
    table = estimates(run.path)
    titles = []
    for names in (["00000010"], ["00000010", "00000020"], run.manifest_names()):
        spec = progress(table.filter(pl.col("checkpoint").is_in(names))).to_dict()
        titles.append(json.dumps(spec["hconcat"][0]))
    assert ['"RL train compute (FLOPs)"' in title for title in titles] == [False, False, True]
