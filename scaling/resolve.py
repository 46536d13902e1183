"""Which config a command means, and which run directory: said in one line where the two do not fit."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from scaling.config import Config, config_hash, identity, load, parse
from scaling.locks import refuse_if_running, refuse_lost_folders
from scaling.records import Run
from scaling.structure import ConfigError, hint
from scaling.tasks import held_out, make_problem, make_task

ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def load_config(preset_or_file: str, overrides: Sequence[str]) -> Config:
    """A config whose task has the problems and demonstrations that it asks for. Raises ConfigError."""
    config = load(preset_or_file, overrides)
    check_task(config)
    return config


def check_task(config: Config) -> None:
    """Raise ConfigError where a config's task lacks the problems or demonstrations that it asks for."""
    task = make_task(config.task)
    make_problem(task, config.seed, "train", 0)
    held_out(task, config.evaluation.problems)
    lines = [
        f"warm_start.stages.{i}.demo = {stage.demo!r}: not a demonstration of {config.task.name}"
        + hint(stage.demo, task.demos)
        for i, stage in enumerate(config.warm_start.stages)
        if stage.demo not in task.demos
    ]
    if lines:
        raise ConfigError(lines)


def config_and_directory(
    preset_or_file: str | None, path: Path | None, overrides: Sequence[str]
) -> tuple[Config, Path]:
    """The config to run (default: that of an existing directory, else demo) and where (default: `_directory`).

    Raises ConfigError where the directory holds another experiment, or where a process is running it.
    """
    if preset_or_file is None:
        stored = Run(path).config_file if path else None
        preset_or_file = str(stored) if stored and stored.is_file() else "demo"
    config = load_config(preset_or_file, overrides)
    path = path or _directory(Path(preset_or_file).stem, config)
    if Run(path).config_file.is_file():
        run, stored_config = open_run(path)
        before, after = identity(stored_config), identity(config)
        other = [name for name in sorted({**before, **after}) if before.get(name) != after.get(name)]
        if other:
            raise ConfigError([f"{path}: holds a run with other {', '.join(other)}; choose another directory"])
        refuse_if_running(run)
    return config, path


def _directory(name: str, config: Config) -> Path:
    """Under runs/, by the seed; where an agent of a W&B sweep chose the config, by what it chose."""
    if sweep := agent_id("WANDB_SWEEP_ID"):
        return Path("runs") / sweep / f"{name}-s{config.seed}-{config_hash(config)[:8]}"
    return Path("runs") / f"{name}-s{config.seed}"


def agent_id(variable: str) -> str:
    """An id that an agent of a W&B sweep sets in the environment; "" where there is none.

    Raises ConfigError for what is no plain id: it becomes part of a path.
    """
    value = os.environ.get(variable, "")
    if value and not ID.fullmatch(value):
        raise ConfigError([f"{variable} = {value[:100]!r}: must be at most 128 letters, digits, - and _"])
    return value


def open_run(path: Path) -> tuple[Run, Config]:
    """An existing run and its config. Raises RecordError, or ConfigError where config.yaml was edited or a disk is
    missing."""
    run = Run.open(path)
    refuse_lost_folders(run)
    config = parse(run.config_text())
    if config_hash(config) != run.config_hash():
        raise ConfigError([f"{run.config_file}: edited since the run began, whose hash is {run.config_hash()}"])
    return run, config
