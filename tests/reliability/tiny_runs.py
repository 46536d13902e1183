"""The smallest run with every stage, through the command line; and all of it that no clock had a part in."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from scaling import cli, stages
from scaling.files import Row
from scaling.records import Run

ALL = os.environ.get("RELIABILITY") == "all"
"""Whether the whole bench runs, and not the sample of it."""
SEED = int(os.environ.get("RELIABILITY_SEED", "0"))
"""Chooses the sample, and the random moments."""
SETTINGS = (
    "tracking.wandb=disabled",
    "model.layers=1",
    "warm_start.stages.0.steps=2",
    "warm_start.stages.1.steps=1",
    "rl.flops=6e7",
    "rl.problems=8",
    "rl.samples=8",
    "rl.budgets=[5, 3]",
    "rl.claim_penalty=0.5",
    "schedule.first=1e7",
    "schedule.rl_first=1e7",
    "schedule.points_per_decade=3",
    "schedule.train_points_per_decade=1",
    "evaluation.problems=4",
    "evaluation.budgets=[0, 4]",
    "evaluation.samples=[1, 4]",
    "evaluation.chunk=8",
)
"""Of tiny. A wrong answer that the model chose costs something, so that RL learns from the first step on."""


def command(verb: str, path: Path, *overrides: str) -> list[str]:
    """Words after `scaling` for this run in a directory."""
    place = ["--dir", str(path)] if verb == "run" else [str(path)]
    config = ["tiny"] if verb in ("run", "train") else []
    settings = [word for setting in (*SETTINGS, *overrides) for word in ("--set", setting)] if config else []
    return [verb, *(config + place if verb == "run" else place + config), *settings]


def here(verb: str, path: Path, *overrides: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command in this process; `run` without its report, whose fits take long."""
    out, err = io.StringIO(), io.StringIO()
    report = {"verdict": "none", "files": ()}
    with (
        mock.patch.object(stages, "report", lambda path: report),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = cli.main(command(verb, path, *overrides))
    return code, out.getvalue(), err.getvalue()


def record(run: Run) -> dict[str, Any]:
    """What two runs that did the same have in common: parameters and optimiser as the hashes of their leaves, the
    ledger, all rows and answers. A row that stands twice in a file is seen."""
    lines = run.train_file.read_text().splitlines() if run.train_file.exists() else []
    evaluations = {
        name: sorted(
            (_timeless(json.loads(line)) for line in run.evaluation_file(name).read_text().splitlines()),
            key=lambda row: (row["problem"], row["budget"]),
        )
        for name in run.evaluation_names()
    }
    return {
        "config": run.config_text(),
        "train": [_timeless(json.loads(line)) for line in lines],
        "checkpoints": [_timeless(manifest) for manifest in run.manifests()],
        "evaluations": evaluations,
    }


def verdict(run: Run) -> Row:
    """What the report concludes; the rest of it names the directory, the clock and the commands."""
    facts = json.loads((run.path / "answer.json").read_text())
    return {name: facts[name] for name in ("verdict", "numbers", "answers", "backtest")}


def _timeless(value: Any) -> Any:
    """Without what a clock said: time, seconds of any kind, and speeds."""
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if name != "time" and "second" not in name}
        return {name: _timeless(item) for name, item in kept.items()}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def sample(things: list, most: int) -> list:
    """All of them in the whole bench; else so many, chosen by SEED, in their order."""
    if ALL or len(things) <= most:
        return things
    return [things[i] for i in sorted(random.Random(SEED).sample(range(len(things)), most))]


def python(*words: str) -> list[str]:
    return [sys.executable, *words]
