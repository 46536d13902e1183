"""What a person sees is true and not too much; a run goes on whatever becomes of its mirror."""

import dataclasses
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest
import yaml

from scaling import tracking
from scaling.config import Config, EvaluationConfig, TrackingConfig
from scaling.records import Run
from scaling.tracking import Terminal, describe

CONFIG = dataclasses.replace(Config(), evaluation=EvaluationConfig(problems=2, budgets=(0, 8)))


def train_row(step, phase="rl"):
    warm, rl = 10**9, 10**9 * step if phase == "rl" else 0
    metrics = {"reward": step / 10, "loss": None} if phase == "rl" else {"loss": 1 / step}
    axes = {"train_flops": warm + rl, "rl_flops": rl}
    return {"step": step, "phase": phase, "phase_step": step, "budget": 64, "metrics": metrics, **axes}


# Words


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


@pytest.mark.parametrize("terminal", [False, True])
def test_who_reads_it_may_be_gone(monkeypatch, terminal):
    """The terminal is closed meanwhile, or the reader of a pipe ends."""
    monkeypatch.setenv("TERM", "xterm-256color")
    reader, writer = os.openpty() if terminal else os.pipe()
    clock = Clock()
    with os.fdopen(writer, "w") as stream, Terminal("runs/a", CONFIG, stream=stream, clock=clock) as shown:
        os.close(reader)
        with pytest.raises(OSError):
            os.write(writer, b"lost")
        for step in range(1, 30):
            clock.now = float(step)
            shown.train_row(train_row(step), phase_total_flops=1e11, next_threshold=None)
            shown.message("said to nobody")


def test_neither_wandb_nor_rich_is_imported_before_it_is_used():
    code = "import sys, scaling.tracking; sys.exit(bool({'wandb', 'rich', 'jax'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Weights & Biases

FAKES = {
    "missing": "raise ModuleNotFoundError('no wandb here')",
    "failing": "def init(**_): raise OSError('disk full\\nand more')\ndef Settings(**_): return None",
    "hanging": (
        "import pathlib, time\n"
        "def Settings(**_): return None\n"
        "def init(dir, **_): (pathlib.Path(dir) / 'hangs').touch(); time.sleep(1e6)"
    ),
}


@pytest.fixture
def with_wandb(tmp_path, monkeypatch):
    """Puts a module in the place of wandb, for the mirror."""

    def put(kind):
        (tmp_path / "fake" / "wandb").mkdir(parents=True)
        (tmp_path / "fake" / "wandb" / "__init__.py").write_text(FAKES[kind])
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))

    return put


def small_run(path):
    run = Run.create(path, yaml.safe_dump(asdict(CONFIG)), "abc", {"time": 1.0})
    run.append_train([train_row(1)])
    return run


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "reason"), [("missing", "no wandb here"), ("failing", "disk full")])
def test_a_mirror_that_fails_says_so_in_one_line(tmp_path, monkeypatch, with_wandb, kind, reason):
    monkeypatch.setattr(tracking, "WAIT_SHARE", 1e6)
    monkeypatch.setattr(tracking, "WAIT_SECONDS", 300.0)
    with_wandb(kind)
    run, said = small_run(tmp_path / "run"), []
    with tracking.mirrored(run.path, CONFIG.tracking, said.append):
        run.append_train([train_row(2)])
    assert len(run.train_rows()) == 2
    (line,) = said
    assert line.startswith("W&B mirror off from here on (") and reason in line and "and more" not in line


@pytest.mark.slow
def test_a_hanging_mirror_is_left_behind_and_does_not_outlive_its_time(tmp_path, monkeypatch, with_wandb):
    with_wandb("hanging")
    run, said = small_run(tmp_path / "run"), []
    with tracking.mirrored(run.path, CONFIG.tracking, said.append):
        for step in itertools.count(2):
            run.append_train([train_row(step)])
            if (run.path / "hangs").exists():
                break
            time.sleep(0.1)
    (line,) = said
    pid = int(re.fullmatch(r".* goes on without the run and ends by itself \(process (\d+)\)", line)[1])
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0), "what stops a run does not stop its mirror"
    os.kill(pid, signal.SIGALRM)
    assert os.waitpid(pid, 0)[0] == pid, "the kernel's alarm does"


def test_disabled_starts_no_process_and_the_environment_overrides_the_config(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process"))
    with tracking.mirrored(tmp_path, CONFIG.tracking, pytest.fail):
        pass


def test_a_mirror_that_does_not_start_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking.sys, "executable", str(tmp_path / "none"))
    said = []
    with tracking.mirrored(tmp_path, CONFIG.tracking, said.append):
        said.append("the run")
    assert said[0].startswith("W&B mirror: does not start (") and said[1:] == ["the run"]


def test_the_mirror_has_what_the_environment_says_and_else_the_config(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_GROUP", "WANDB_ERROR_REPORTING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    config = TrackingConfig(project="ours", group="sizes")
    found = tracking._environment(config)
    assert [found[f"WANDB_{name}"] for name in ("MODE", "PROJECT", "RUN_GROUP", "ENTITY", "ERROR_REPORTING")] == [
        "offline", "ours", "sizes", "lab", "false",
    ]  # fmt: skip
    for name, value in {"WANDB_MODE": "online", "WANDB_PROJECT": "theirs", "WANDB_RUN_GROUP": ""}.items():
        monkeypatch.setenv(name, value)
    found = tracking._environment(config)
    assert [found[f"WANDB_{name}"] for name in ("MODE", "PROJECT", "RUN_GROUP")] == ["online", "theirs", "sizes"]
    assert "WANDB_ERROR_REPORTING" not in found
