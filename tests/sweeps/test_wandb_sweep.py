"""A W&B sweep of a file has the file's runs, and its agents' arguments mean the same configs."""

import itertools
import json

import pytest
import wandb

from scaling.arguments import overridden
from scaling.cli import main
from scaling.config import config_hash
from scaling.resolve import config_and_directory
from scaling.structure import ConfigError
from sweeps import wandb_sweep
from sweeps.expand import expand
from sweeps.file import parse

FILE = {
    "base": "tiny",
    "parameters": {
        "model.width": {"values": [16, 32]},
        "rl": {"recipe": {"values": ["rloo", "grpo"]}, "budgets": {"value": [8, 4]}},
        "rl.learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2, "num": 3},
    },
    "seeds": [3, 7],
}


def arguments(description):
    """Those that an agent passes, run by run: `--name=value`, values of lists as JSON."""
    choices = [
        [(path, value) for value in given.get("values", [given.get("value")])]
        for path, given in description["parameters"].items()
    ]
    for chosen in itertools.product(*choices):
        yield [f"--{path}={value if isinstance(value, str) else json.dumps(value)}" for path, value in chosen]


def test_the_arguments_of_agents_give_the_runs_of_the_file(tmp_path, monkeypatch):
    sweep = parse(FILE, "both")
    description = wandb_sweep.described(sweep, tmp_path / "base.yaml")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    theirs, directories = set(), set()
    for words in arguments(description):
        overrides = [word for word in overridden(words) if word != "--set"]
        config, directory = config_and_directory("tiny", None, overrides)
        theirs.add(config_hash(config))
        directories.add(directory)
    assert theirs == {planned.hash for planned in expand(sweep)} and len(theirs) == 24
    assert len(directories) == 24


def test_what_is_drawn_is_drawn_by_wandb():
    given = {"base": "tiny", "method": "random", "run_cap": 4, "seeds": 2}
    drawn = {
        "rl.learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "rl.samples": {"distribution": "int_uniform", "min": 2, "max": 8},
        "rl.kl": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
        "model.width": {"distribution": "q_log_uniform_values", "min": 16, "max": 64, "q": 8},
    }
    found = wandb_sweep.described(parse({**given, "parameters": drawn}, "drawn"), "base.yaml")
    assert found["parameters"] == {**drawn, "seed": {"values": [0, 1]}} and found["run_cap"] == 8


def test_whole_numbers_are_drawn_whole():
    given = {"base": "tiny", "method": "random", "run_cap": 4}
    drawn = {"rl.samples": {"distribution": "log_uniform_values", "min": 2, "max": 64}}
    found = wandb_sweep.described(parse({**given, "parameters": drawn}, "drawn"), "base.yaml")["parameters"]
    samples = found["rl.samples"]
    assert samples == {"distribution": "q_log_uniform_values", "min": 2, "max": 64, "q": 1}
    assert all(isinstance(samples[name], int) for name in ("min", "max", "q"))


def test_what_wandb_has_no_words_for_is_a_line_each():
    more = {
        "zip": [["model.width", "rl.recipe"]],
        "where": ["model.width < 64"],
        "parameters": {**FILE["parameters"], "model.ff": {"value": "${2 * model.width}"}},
    }
    with pytest.raises(ConfigError) as error:
        wandb_sweep.described(parse({**FILE, **more}, "more"), "base.yaml")
    words = [line.split(":")[0] for line in error.value.lines]
    assert words == ["where", "zip", "parameters.model.ff", "`scaling sweep` runs this file without W&B's sweeps"]


def test_the_command_creates_it_and_says_how_agents_start(tmp_path, monkeypatch, capsys):
    """wandb.sweep is stood in for: creating one needs an account."""
    asked = []
    monkeypatch.setattr(wandb, "sweep", lambda given, project: asked.append((given, project)) or "abc")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both.yaml").write_text(json.dumps({**FILE, "project": "mine"}))
    assert main(["sweep", "wandb", "both.yaml"]) == 0
    assert "wandb agent abc" in capsys.readouterr().out
    ((given, project),) = asked
    assert project == "mine" and given["command"][2:4] == ["run", "runs/both/base.yaml"]
    assert (tmp_path / "runs/both/base.yaml").is_file()


def test_without_an_account_it_is_one_line(tmp_path, monkeypatch, capsys):
    def refused(*_, **__):
        raise wandb.errors.UsageError("api_key not configured (no-tty)\nmore")

    monkeypatch.setattr(wandb, "sweep", refused)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both.yaml").write_text(json.dumps(FILE))
    assert main(["sweep", "wandb", "both.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "W&B: no sweep was created (UsageError: api_key not configured (no-tty))"
