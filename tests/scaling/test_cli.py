import json
import os
import signal
import socket
import subprocess
import sys
import types

import pytest

import scaling
from scaling import config as configs
from scaling import resolve, stages
from scaling.backend import prepare_jax
from scaling.cli import main
from scaling.environment import environment
from scaling.interrupt import Stop
from scaling.locks import refuse_if_running
from scaling.processes import started
from scaling.records import Run
from scaling.status import writer
from scaling.structure import ConfigError


@pytest.fixture
def run_dir(tmp_path):
    """The directory of a tiny run that has not begun."""
    tiny = configs.load("tiny")
    Run.create(tmp_path / "run", configs.dump(tiny), configs.config_hash(tiny), environment(["scaling"]))
    return tmp_path / "run"


def said(capsys, *argv):
    """(exit code, stdout, stderr) of a command."""
    code = main(argv)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    "module", ["scaling.cli", "scaling.resolve, scaling.stages, scaling.plan", "sweeps.commands"]
)
def test_the_front_door_opens_without_the_heavy_packages(module):
    heavy = ["jax", "flax", "numpy", "polars", "altair", "wandb", "orbax", "optax"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    ["run", "train", "evaluate", "fit", "backtest", "report", "plan", "check", "export", "config", "sweep"],
)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: scaling {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (["run", "nope"], ["nope: neither a preset"]),
        (["plan", "tiny", "--set", "rl.samples=1", "--seed=-1"], ["seed = -1", "rl.samples = 1"]),
        (["run", "tiny", "--set", "rl.flpos=1", "--rl.budgets=3"], ["rl.flpos = 1", "rl.budgets = 3"]),
        (
            ["plan", "--set", "warm_start.stages.0.demo=dril"],
            ["warm_start.stages.0.demo = 'dril': not a demo"],
        ),
        (["plan", "pod", "--task.path=no/such.jsonl"], ["task.path: no/such.jsonl"]),
        (["plan", "pod", "--devices", "256"], ["task.path: problems.jsonl cannot be read"]),
        (["plan", "tiny", "--accelerator", "h10"], ["--accelerator = 'h10': must be known; did you mean 'h100'?"]),
        (["plan", "tiny", "--calibrate", "--devices", "8"], ["--calibrate times this machine"]),
        (["plan", "tiny", "--price", "2"], ["--price = 2.0: needs --accelerator or --calibrate"]),
        (["plan", "tiny", "--utilisation", "0.4"], ["--utilisation = 0.4: needs --accelerator, of whose"]),
        (
            ["plan", "tiny", "--accelerator", "h100", "--utilisation", "40"],
            ["--utilisation = 40.0: must be a share"],
        ),
        (["plan", "tiny", "--devices", "0"], ["--devices = 0: must be above 0"]),
        (["evaluate", "no/such"], ["no/such: not a run directory"]),
        (["report", "no/such"], ["no/such: not a run directory"]),
        (["check", "no/such"], ["no/such: not a run directory"]),
        (["export", "no/such", "-o", "points.csv"], ["no/such: neither a run directory"]),
        (["export", "no/such", "-o", "points.xls"], ["--out = points.xls: must end in .csv or .parquet"]),
        (["export", "-o", "points.csv"], ["DIR: at least one"]),
        (["fit"], ["PATH: at least one"]),
        (["fit", "no/such"], ["no/such: neither a run directory"]),
        (["backtest", "no/such.csv", "nor.jsonl"], ["no/such.csv: ", "nor.jsonl: "]),
    ],
)
def test_bad_input_is_a_line_for_each_problem_and_exit_2(argv, lines, capsys):
    code, out, err = said(capsys, *argv)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == len(lines)
    for line, start in zip(err.splitlines(), lines, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize("argv", [["run", "tiny", "--bogus"], ["sail"], ["run", "tiny", "hour"]])
def test_unknown_arguments_exit_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


def test_config_prints_yaml_that_is_that_config(tmp_path, capsys):
    argv = ("config", "tiny", "--rl.flops=4e8", "--seed=3", "--set", "rl.kl=0.1")
    code, out, _ = said(capsys, *argv)
    (tmp_path / "mine.yaml").write_text(out)
    expected = configs.load("tiny", ["rl.flops=4e8", "seed=3", "rl.kl=0.1"])
    assert code == 0 and configs.load(str(tmp_path / "mine.yaml")) == expected
    assert out.startswith(f"# hash: {configs.config_hash(expected)}\n")
    assert json.loads(said(capsys, *argv, "--json")[1])["rl"]["kl"] == 0.1


def test_config_explains_every_field_to_programs(capsys):
    fields = json.loads(said(capsys, "config", "--fields", "--json")[1])
    assert fields["rl.kl"]["type"] == "float" and "k3 penalty" in fields["rl.kl"]["doc"]


def test_config_explains_every_field(capsys):
    code, out, _ = said(capsys, "config", "--fields")
    assert code == 0
    assert "rl.flops: float = 1000000000000.0\n    RL compute, FLOPs" in out
    assert "warm_start.stages.0.budget: int = 64\n" in out


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m scaling config --fields | true; exit ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_plan_trains_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = said(capsys, "run", "tiny", "--dry-run")
    assert code == 0 and "parameters" in out and "checkpoints, about" in out
    assert not any(tmp_path.iterdir())


def test_run_goes_train_evaluate_report_and_says_where_and_what_next(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = []

    def record(name, result):
        def call(path, *_, **__):
            calls.append((name, str(path)))
            return result

        monkeypatch.setattr(stages, name, call)

    record("train", "done")
    record("evaluate", "done")
    record("report", {"verdict": "Cannot tell.", "files": ["report.html"]})
    code, out, _ = said(capsys, "run", "tiny", "--seed=2")
    assert code == 0
    assert calls == [(name, "runs/tiny-s2") for name in ("train", "evaluate", "report")]
    assert "Cannot tell." in out and "report.html" in out and "next: scaling export runs/tiny-s2" in out
    facts = json.loads(said(capsys, "run", "tiny", "--seed=2", "--json")[1])
    assert (facts["state"], facts["verdict"], facts["run"]) == ("done", "Cannot tell.", "runs/tiny-s2")

    calls.clear()
    record("evaluate", "preempted")
    code, out, _ = said(capsys, "run", "tiny", "--dir", "here")
    assert code == 75 and "next: scaling run --dir here" in out
    assert calls == [("train", "here"), ("evaluate", "here")]


@pytest.mark.parametrize("value", ["../up", "a/b", "/tmp/x", "..", "a b", "a\nb", "ä", "x" * 129])
def test_an_id_from_the_environment_that_is_none_is_refused_and_nothing_made(
    value, run_dir, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", value)
    wanted = "must be at most 128 letters, digits, - and _\n"
    assert said(capsys, "run", "tiny") == (2, "", f"WANDB_SWEEP_ID = {value[:100]!r}: {wanted}")
    monkeypatch.delenv("WANDB_SWEEP_ID")
    monkeypatch.setenv("WANDB_RUN_ID", value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert said(capsys, "evaluate", str(run_dir)) == (2, "", f"WANDB_RUN_ID = {value[:100]!r}: {wanted}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"] and not (run_dir / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with stages.mirrored(run_dir, configs.load("tiny"), quiet=True):
        pass


def test_a_directory_goes_on_with_its_own_config_and_refuses_another(run_dir, capsys):
    tiny = configs.load("tiny")
    assert resolve.config_and_directory(None, run_dir, ()) == (tiny, run_dir)
    config, _ = resolve.config_and_directory(None, run_dir, ["tracking.wandb=disabled", "mesh.fsdp=2"])
    assert config.tracking.wandb == "disabled"
    code, _, err = said(capsys, "train", str(run_dir), "tiny", "--rl.flops=1e9", "--seed=1")
    assert code == 2
    assert err == f"{run_dir}: holds a run with other rl.flops, seed; choose another directory\n"


def test_checking_says_how_much_it_looked_at_for_programs_too(run_dir, capsys):
    facts = json.loads(said(capsys, "check", str(run_dir), "--json")[1])
    assert facts["run"] == str(run_dir) and facts["verified"]["leaves"] == 0 == len(facts["findings"])


@pytest.mark.parametrize("words", [("run", "--dir"), ("train",), ("evaluate",)])
def test_a_run_whose_file_of_problems_is_gone_is_a_line(tmp_path, capsys, words):
    fields = ("task.name=problem_file", f"task.path={tmp_path}/gone.jsonl", "tracking.wandb=disabled")
    config = configs.load("tiny", fields)
    Run.create(tmp_path / "run", configs.dump(config), configs.config_hash(config), environment(["scaling"]))
    code, _, err = said(capsys, *words, str(tmp_path / "run"))
    assert code == 2 and err.splitlines()[-1].startswith(f"task.path: {tmp_path}/gone.jsonl cannot be read")
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [("run", "--dir"), ("train",), ("evaluate",)])
def test_a_run_whose_file_of_problems_has_changed_is_a_line(tmp_path, capsys, words):
    file, run = tmp_path / "mine.jsonl", tmp_path / "run"
    rows = [{"prompt": f"{n} + 1 =", "answer": str(n + 1), "solution": f"1 + {n}"} for n in range(40)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    fields = ("task.name=problem_file", f"task.path={file}", "tracking.wandb=disabled", "evaluation.problems=4")
    config = configs.load("tiny", (*fields, "warm_start.stages.0.demo=trace", "warm_start.stages.1.demo=trace"))
    here = environment(["scaling"]) | stages.task_file(config.task)
    Run.create(run, configs.dump(config), configs.config_hash(config), here)
    file.write_text(file.read_text() + json.dumps({"prompt": "late", "answer": "1", "solution": "1"}))
    code, _, err = said(capsys, *words, str(run))
    assert code == 2 and err.splitlines()[-1].startswith(f"{file}: changed since the run began; ")
    assert "Traceback" not in err and Run(run).train_rows() == []


@pytest.mark.parametrize("words", [("check",), ("report",), ("evaluate",), ("run", "--dir")])
def test_a_config_that_is_no_text_is_a_line(run_dir, capsys, words):
    file = run_dir / "config.yaml"
    file.write_bytes(file.read_bytes() + b"\xff")
    code, _, err = said(capsys, *words, str(run_dir))
    assert code == 2 and err.startswith(f"{file}: ") and "utf-8" in err.lower() and len(err.splitlines()) == 1


def test_an_edited_config_is_noticed(run_dir, capsys):
    file = run_dir / "config.yaml"
    file.write_text(file.read_text().replace("layers: 2", "layers: 3"))
    code, _, err = said(capsys, "report", str(run_dir))
    assert code == 2 and "edited since the run began" in err and len(err.splitlines()) == 1


def test_a_run_that_another_process_writes_is_refused_until_it_is_dead(run_dir, capsys):
    run = Run(run_dir)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        run.write_status("running", "train")
        status = json.loads(run.status_file.read_text())
        run.status_file.write_text(json.dumps({**status, "pid": other.pid, "start": started(other.pid)}))
        code, _, err = said(capsys, "train", str(run_dir))
        named = f"process {other.pid} on {socket.gethostname()}"
        assert code == 2 and err == f"{run_dir}: {named} is running it; wait, or stop that one first\n"
        assert said(capsys, "evaluate", str(run_dir))[0] == 2
        other.communicate(b"\n")
    assert writer(run) is None
    refuse_if_running(run)


def test_of_two_processes_that_start_a_run_at_once_one_is_refused_until_the_other_is_dead(tmp_path):
    code = f"""
from pathlib import Path
from scaling.locks import claimed
with claimed(Path({str(tmp_path / "run")!r})):
    print("claimed", flush=True)
    input()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "claimed\n"
        with (
            pytest.raises(ConfigError, match=f"process {other.pid} on .* is running it"),
            stages.alone(tmp_path / "run"),
        ):
            pass
        other.kill()
    with stages.alone(tmp_path / "run"):
        pass


def test_training_evaluates_each_checkpoint_as_it_appears_and_keeps_its_state(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    tiny = configs.load("tiny", ["tracking.wandb=disabled"])
    evaluated = []

    def train(path, config, *, terminal, on_checkpoint, stop):
        assert (Run.open(path).read_status() or {})["state"] == "running"
        for name in ("00000000", "00000004"):
            on_checkpoint(name)
        return "preempted" if stop() else "done"

    def evaluate(path, config, *, names, terminal, stop):
        evaluated.extend(names)
        return "done"

    for name, call in (("train", train), ("evaluate", evaluate)):
        monkeypatch.setitem(sys.modules, f"scaling.{name}", types.SimpleNamespace(**{name: call}))
        monkeypatch.delattr(scaling, name, raising=False)
    for stop, state in ((lambda: False, "done"), (lambda: True, "preempted")):
        assert stages.train(tmp_path / "run", tiny, stop, evaluating=True, quiet=True) == state
        assert (Run(tmp_path / "run").read_status() or {})["state"] == state
    assert evaluated == 2 * ["00000000", "00000004"]
    assert resolve.open_run(tmp_path / "run")[1] == tiny
    assert Run(tmp_path / "run").environment()["devices"]


def test_what_fails_leaves_its_reason_in_the_status(run_dir):
    run = Run(run_dir)
    with pytest.raises(FloatingPointError), stages.stage(run, "train"):
        assert (run.read_status() or {})["state"] == "running"
        raise FloatingPointError("loss is nan at step 3")
    status = run.read_status() or {}
    assert (status["state"], status["stage"]) == ("failed", "train")
    assert status["reason"] == "FloatingPointError: loss is nan at step 3"


def test_errors_that_are_not_of_the_input_are_not_hidden(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ValueError("shapes differ")

    monkeypatch.setattr(stages, "train", broken)
    with pytest.raises(ValueError, match="shapes differ"):
        main(["run", "tiny", "--dir", str(tmp_path / "run")])


def test_compiled_programs_are_kept_in_one_folder_that_the_user_may_choose(tmp_path, monkeypatch):
    cache = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    for name in (*cache, "JAX_NUM_CPU_DEVICES"):
        monkeypatch.setenv(name, "")  # so that both are restored
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    prepare_jax()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"].startswith(str(tmp_path / "scaling"))
    assert os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "0"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "mine")
    prepare_jax()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "mine"


def test_a_stop_is_taken_up_where_nobody_reads_that_it_is(monkeypatch):
    def lost(*_):
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", lost)
    with Stop() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_asks_to_stop_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with Stop() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
    assert signal.getsignal(number) == before


def test_a_second_interrupt_kills():
    code = """
import time
from scaling.interrupt import Stop
with Stop() as stop:
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
    print("stopping", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in ("ready", "stopping"):
            assert process.stdout.readline().strip() == line
            process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT, "it ended of itself"
