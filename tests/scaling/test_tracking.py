"""Every record reaches W&B once, whatever happens in between; what a person sees is true and not too much."""

import dataclasses
import io
import json
import struct
import subprocess
import sys
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.config import Config, EvaluationConfig
from scaling.records import Run
from scaling.tracking import (
    Mirror,
    Terminal,
    describe,
    evaluation_point,
    human_flops,
    human_seconds,
    train_point,
)

CONFIG = dataclasses.replace(Config(), evaluation=EvaluationConfig(problems=2, budgets=(0, 8)))


def train_row(step, phase="rl"):
    warm, rl = 10**9, 10**9 * step if phase == "rl" else 0
    metrics = {"reward": step / 10, "loss": None} if phase == "rl" else {"loss": 1 / step}
    axes = {"train_flops": warm + rl, "rl_flops": rl}
    return {"step": step, "phase": phase, "phase_step": step, "budget": 64, "metrics": metrics, **axes}


def eval_rows(budgets=(0, 8)):
    return [
        {"problem": problem, "budget": budget, "samples": 4, "correct": problem + (budget > 0)}
        for budget in budgets
        for problem in range(2)
    ]


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_DIR", "WANDB_RUN_ID", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return Run.create(tmp_path / "run", "seed: 0\n", "abc", {"time": 1.0})


# Words


@given(st.integers(1, 10**30))
def test_human_flops_reads_back_to_two_digits(flops):
    number, unit = human_flops(flops).split()
    assert unit == "FLOPs"
    assert abs(float(number) / flops - 1) <= 0.05


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599.9, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_human_seconds(seconds, text):
    assert human_seconds(seconds) == text


def test_a_line_says_what_is_known_and_leaves_out_the_rest():
    assert describe(train_row(100), 4e11, 1.6e11, 0.5, 90.0) == (
        "rl 1.0e11 of 4.0e11 FLOPs (25%), step 100, next checkpoint at 1.6e11, reward 10.000, "
        "held-out 50.0%, 1 min 30 s left"
    )
    assert describe(train_row(1, "warm_start"), 2e9, None, None, None) == (
        "warm start 1.0e9 of 2.0e9 FLOPs (50%), step 1, loss 1.000"
    )


# Terminal


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Screen(io.StringIO):
    def isatty(self):
        return True


def show(stream, quiet=False, rows=61):
    clock = Clock()
    with Terminal("runs/a", CONFIG, quiet, stream=stream, clock=clock) as terminal:
        for step in range(1, rows + 1):
            clock.now = float(step)
            terminal.train_row(train_row(step), phase_total_flops=1e11, next_threshold=None)
        terminal.message("checkpoint [bold]00000061")
        terminal.evaluation("00000061", 1, 2, None)
        terminal.evaluation("00000061", 2, 2, 0.625)
        clock.now = 100.0
        terminal.train_row(train_row(62), phase_total_flops=1e11, next_threshold=None)
    return stream.getvalue()


def test_a_log_gets_a_line_every_ten_seconds_and_every_event():
    lines = show(io.StringIO()).splitlines()
    assert lines[0] == f"runs/a: {CONFIG.task.name}, seed 0"
    assert [line.split(",")[1] for line in lines if line.startswith("rl ")] == [
        f" step {step}" for step in (1, 11, 21, 31, 41, 51, 61, 62)
    ]
    assert "checkpoint [bold]00000061" in lines
    assert "evaluate 00000061: 2 of 2, held-out 62.5%" in lines
    assert not any("1 of 2" in line for line in lines)
    assert "held-out 62.5%" in lines[-1]


def test_time_left_follows_from_the_speed_since_the_phase_began():
    lines = show(io.StringIO()).splitlines()
    assert "left" not in lines[1], "one row has no speed"
    assert lines[2].endswith("1 min 29 s left"), "89 steps of 1e9 FLOPs, one a second"


def test_quiet_is_silent():
    assert show(io.StringIO(), quiet=True) == show(Screen(), quiet=True) == ""


@pytest.mark.parametrize("width", ["80", "200"])
def test_a_terminal_gets_a_bar_and_all_of_the_text(monkeypatch, width):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", width)
    shown = show(Screen())
    assert shown.count("step 30,") == 1
    assert "checkpoint [bold]00000061" in shown
    assert "━" in shown
    assert "…" not in shown


def test_neither_wandb_nor_rich_is_imported_before_it_is_used():
    code = "import sys, scaling.tracking; sys.exit(bool({'wandb', 'rich', 'jax'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Weights & Biases


def offline_records(run):
    """The records of the offline files: LevelDB log blocks of protobuf messages."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # as at the end of a process: from here on the files are whole
    for file in sorted(run.path.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.parent.name):
        data, at, part = file.read_bytes(), 7, b""
        while at + 7 <= len(data):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
                continue
            _, size, kind = struct.unpack("<IHB", data[at : at + 7])
            part += data[at + 7 : at + 7 + size]
            at += 7 + size
            if kind in (1, 4):
                record = wandb_internal_pb2.Record()
                record.ParseFromString(part)
                part = b""
                yield record


def history(run):
    """(W&B step, values) of every point."""
    points = []
    for record in offline_records(run):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            points.append((record.history.step.num, values))
    return points


def raise_on_warning(line):
    raise AssertionError(line)


def test_every_record_reaches_wandb_once_over_two_processes(run):
    run.append_train([train_row(1, "warm_start"), train_row(2)])
    first = Mirror(run.path, asdict(CONFIG), warn=raise_on_warning)
    first.sync()
    run.append_train([train_row(3), train_row(4)])
    run.write_manifest({"name": "00000004", **train_row(4)})
    run.append_evaluation("00000004", eval_rows(budgets=[0]))
    first.sync()
    first.sync()
    first.finish()

    run.cut_train(3)
    run.append_train([train_row(4), train_row(5)])
    run.append_evaluation("00000004", eval_rows(budgets=[8]))
    second = Mirror(run.path, asdict(CONFIG), warn=raise_on_warning)
    second.finish()

    points = history(run)
    assert [step for step, _ in points] == list(range(6))
    sent = [(values["step"], "evaluation/accuracy_at_8" in values) for _, values in points]
    assert sent == [(1, False), (2, False), (3, False), (4, False), (5, False), (4, True)]
    assert points[0][1]["warm_start/loss"] == 1.0
    assert len({file.name for file in run.path.glob("wandb/offline-run-*/*.wandb")}) == 1, "another run id"
    assert {file.name for file in run.path.iterdir()} >= {"wandb", "wandb.json"}


def test_a_sweeps_runs_are_one_group_and_an_agent_names_its_run(run, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    config = asdict(CONFIG)
    config["tracking"]["group"] = "sizes"
    Mirror(run.path, config, warn=raise_on_warning).finish()
    (started,) = {
        (record.run.run_id, record.run.run_group)
        for record in offline_records(run)
        if record.WhichOneof("record_type") == "run"
    }
    assert started == ("agents", "sizes")


def test_points_have_linear_and_log_axes_and_no_missing_values():
    point = train_point(train_row(9))
    assert point["log10_train_flops"] == 10.0
    assert point["rl_flops"] == 9e9
    assert point["rl/reward"] == 0.9
    assert "rl/loss" not in point
    assert "log10_rl_flops" not in train_point(train_row(1, "warm_start")), "nothing spent has no logarithm"
    assert evaluation_point(train_row(9), eval_rows())["evaluation/accuracy_at_0"] == 0.125
    assert evaluation_point(train_row(9), eval_rows())["evaluation/accuracy_at_8"] == 0.375


def test_a_failure_ends_the_mirror_with_one_line(run):
    said = []
    mirror = Mirror(run.path, asdict(CONFIG), warn=said.append)
    run.train_file.write_text("{broken\n")
    mirror.sync()
    mirror.sync()
    mirror.finish()
    assert len(said) == 1
    assert "train.jsonl, line 1" in said[0]
    assert "\n" not in said[0]


def test_a_mirror_that_cannot_start_warns_and_does_nothing(run):
    (run.path / "wandb.json").write_text("{")
    said = []
    mirror = Mirror(run.path, asdict(CONFIG), warn=said.append)
    mirror.sync()
    mirror.finish()
    assert len(said) == 1


def test_disabled_does_nothing_and_the_environment_overrides_the_config(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    mirror = Mirror(run.path, asdict(CONFIG), warn=raise_on_warning)
    mirror.sync()
    mirror.finish()
    assert not (run.path / "wandb.json").exists()
    assert not (run.path / "wandb").exists()
