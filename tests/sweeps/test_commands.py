"""`scaling sweep …` on the command line; nothing here trains."""

import json
import shlex
import time

import pytest

from scaling.cli import main
from scaling.records import Run
from sweeps.directory import Attempt, Directory, Ended
from sweeps.expand import expand
from sweeps.file import read
from sweeps.launch import Launch
from sweeps.state import Standing


def said(capsys, *argv):
    """(exit code, stdout, stderr) of a command."""
    code = main(["sweep", *argv])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def directory(tmp_path):
    """That of the sweep tiny: one run done, one failed, one dead before it began, the others not begun."""
    made = Directory(tmp_path / "tiny")
    made.create(read("tiny"))
    done, failed, lost, *_ = (planned.name for planned in expand(read("tiny")))
    for name, *status in ((done, "done", "report"), (failed, "failed", "train", "ConfigError: no")):
        made.run(name).mkdir()
        Run(made.run(name)).write_status(*status)
    made.add([Attempt(lost, "local", "1:12", time.time(), 0, "")])
    return made


def test_a_dry_run_lists_what_each_run_costs_and_the_total_and_does_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = said(capsys, "tiny", "--dry-run", "--json", "--rl.flops=1e8")
    facts = json.loads(out)
    assert code == 0 and len(facts["runs"]) == 8
    assert facts["total"]["rl"] == 8e8 == sum(row["rl"] for row in facts["runs"])
    assert {row["run"] for row in facts["runs"]} == {p.name for p in expand(read("tiny", ["rl.flops=1e8"]))}
    code, out, _ = said(capsys, "run", "tiny", "--dry-run")
    assert code == 0 and len(out.splitlines()) == 11
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (["nope.yaml"], ["nope.yaml: neither a sweep (recipes, seeds, sizes, tiny) nor a file"]),
        (["tiny", "--rl.flpos=1", "--seed=-1"], ["rl.flpos = 1: unknown field"]),
        (["tiny", "--model.width=16"], ["--set model.width=16: the parameters set it"]),
        (["status", "no/such"], ["no/such: not a sweep's directory"]),
        (["retry", "no/such"], ["no/such: not a sweep's directory"]),
        (["cancel", "no/such"], ["no/such: not a sweep's directory"]),
    ],
)
def test_bad_input_is_a_line_for_each_problem_and_exit_2(argv, lines, capsys):
    code, out, err = said(capsys, *argv)
    assert (code, out) == (2, "") and len(err.splitlines()) == len(lines)
    for line, start in zip(err.splitlines(), lines, strict=True):
        assert line.startswith(start)


def test_status_counts_the_runs_and_names_those_that_need_a_look(directory, capsys):
    code, out, _ = said(capsys, "status", str(directory.path))
    assert code == 0 and out.splitlines()[0] == "1 done, 5 waiting, 1 dead, 1 failed of 8 runs"
    assert "ConfigError: no" in out and len(out.splitlines()) == 3
    facts = json.loads(said(capsys, "status", str(directory.path), "--json")[1])
    assert facts["states"] == {"done": 1, "failed": 1, "dead": 1, "waiting": 5}


def test_status_is_watched_until_nothing_is_left_to_do(directory, capsys, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("goes on"))
    first, *others = (planned.name for planned in expand(read("tiny")))
    directory.end(Ended(name, time.time(), "arm", 0.01, "no good") for name in others)
    code, out, _ = said(capsys, "status", str(directory.path), "--watch")
    assert code == 0 and out.splitlines()[0] == "1 done, 7 ended of 8 runs" and first not in out


def test_interrupted_it_says_the_command_that_goes_on(tmp_path, capsys, monkeypatch):
    def go(launch, runs, wish, *, forgive):
        wish.level = 1
        forgiven.append(forgive)
        return {planned.name: Standing("waiting") for planned in runs}

    forgiven: list[bool] = []
    monkeypatch.setattr(Launch, "go", go)
    path = tmp_path / "a folder"
    goes_on = [str(path / "sweep.yaml"), "--dir", str(path)]
    for argv in (["tiny", "--dir", str(path), "--rl.flops=1e8"], goes_on):
        code, out, _ = said(capsys, *argv)
        assert code == 75 and out.splitlines()[-1] == f"next: {shlex.join(['scaling', 'sweep', *goes_on])}"
        assert {planned.config.rl.flops for planned in expand(Directory(path).sweep())} == {1e8}
    assert forgiven == [False, False], "what the stopping rule ended stays so"


def test_cancel_asks_whoever_launches_to_stop(directory, capsys):
    code, out, _ = said(capsys, "cancel", str(directory.path))
    assert code == 0 and "0 runs asked" in out and directory.stop_file.exists()
    facts = json.loads(said(capsys, "cancel", str(directory.path), "--json")[1])
    assert facts == {"sweep": str(directory.path), "asked_to_stop": []}
