"""The stopping rule's question and answer; what it decides is tested in tests/analysis."""

import json
import subprocess
import sys

import pytest

from scaling.structure import ConfigError
from sweeps import judge
from sweeps.directory import Directory
from sweeps.expand import expand
from sweeps.file import parse
from sweeps.judge import Judge, Rule, arms, rule

SWEEP = parse({"base": "tiny", "parameters": {"rl.recipe": {"values": ["rloo", "grpo"]}}, "seeds": 2}, "test")
RUNS = expand(SWEEP)
RULE = Rule(("rl.recipe",), 1e9, 0.1)


def test_arms_are_the_runs_with_the_same_fields():
    found = arms(RULE, RUNS)
    assert list(found) == ["rl.recipe = rloo", "rl.recipe = grpo"]
    assert [name for names in found.values() for name in names] == [planned.name for planned in RUNS]


def test_a_rule_that_cannot_be_meant_is_a_line_for_each_field():
    with pytest.raises(ConfigError) as error:
        arms(Rule((), 0.0, 1.0), RUNS)
    assert [line.split(" ")[0].strip(":") for line in error.value.lines] == [
        "stop.by",
        "stop.target",
        "stop.probability",
    ]
    with pytest.raises(ConfigError, match=r"^stop\.tarjet = 1: unknown field; did you mean 'target'"):
        rule({"tarjet": 1})
    with pytest.raises(ConfigError, match=r"^rl\.recipes: unknown field"):
        arms(Rule(("rl.recipes",), 1e9, 0.1), RUNS)


def judged(monkeypatch, tmp_path, code):
    """(what is ended, what is said) after an evaluation, the question answered by some Python."""
    directory, said = Directory(tmp_path), []
    asking = Judge(RULE, directory, RUNS, said.append, pause=0)
    monkeypatch.setattr(
        judge.subprocess,
        "Popen",
        lambda words, real=subprocess.Popen, **options: real([sys.executable, "-c", code, *words[3:]], **options),
    )
    assert asking.ended() == [], "nothing has been evaluated"
    file = directory.run(RUNS[0].name) / "evals" / "00000001.jsonl"
    file.parent.mkdir(parents=True)
    file.touch()
    assert asking.ended() == [], "it is asked"
    asking._child.wait()
    found = asking.ended()
    assert asking.ended() == [] and asking._child is None, "nothing new is there to ask about"
    return found, said


def test_all_runs_of_an_ended_arm_are_ended(monkeypatch, tmp_path):
    decisions = [
        {"arm": "rl.recipe = rloo", "stop": True, "probability": 0.02, "reason": "worse"},
        {"arm": "rl.recipe = grpo", "stop": False, "probability": 0.98, "reason": "leads"},
    ]
    code = f"import json, sys; json.loads(sys.argv[1])['target']; print({json.dumps(decisions)!r})"
    ended, said = judged(monkeypatch, tmp_path, code)
    assert [one.run for one in ended] == arms(RULE, RUNS)["rl.recipe = rloo"] and said == []
    assert {(one.probability, one.reason) for one in ended} == {(0.02, "worse")}


def test_a_question_that_fails_is_said_and_ends_nothing(monkeypatch, tmp_path):
    ended, said = judged(monkeypatch, tmp_path, "import sys; sys.exit('no points yet')")
    assert ended == [] and said == ["the arms could not be judged, and none is ended: no points yet"]


def test_the_question_is_one_that_the_analysis_answers():
    """Of runs that have not begun: nothing is known, and nothing is ended."""
    question = {"arms": {"a": [], "b": []}, "target": 1e9, "probability": 0.1}
    words = [sys.executable, "-m", "analysis.stopping", json.dumps(question)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert [(d["arm"], d["stop"]) for d in json.loads(done.stdout)] == [("a", False), ("b", False)]
