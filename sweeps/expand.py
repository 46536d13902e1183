"""From a sweep to its runs: a pure function. A value more adds runs and changes no other."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from scaling.config import Config, config_hash
from scaling.resolve import check_task
from scaling.rules import check
from scaling.structure import ConfigError, put, structure
from sweeps import conditions
from sweeps.conditions import Expression
from sweeps.file import Sweep, expression, field, reference
from sweeps.parameters import Parameter

MOST_RUNS = 10_000
TRIES = 100
"""Draws for each combination that a random sweep asks for, before it is said that there are no more."""
MOST_LINES = 20
LONGEST_ARM = 80
"""Characters of a run's name before its hash."""

Settings = dict[str, Any]
"""path → value of every parameter, references still in their place."""


@dataclass(frozen=True)
class Planned:
    """A run of a sweep."""

    name: str
    """What varies in it, its seed, and 8 digits of its config's hash: that of its directory."""
    config: Config
    hash: str


def expand(sweep: Sweep) -> list[Planned]:
    """All runs, in the order of the file. Raises ConfigError: a line for every value or combination that cannot
    work, and for a sweep that is too large (said before any is built) or empty."""
    most = _count(sweep)
    if most > MOST_RUNS:
        raise ConfigError([f"parameters: {most:,} runs; at most {MOST_RUNS:,} are taken at once"])
    build, found, lines, built = _Builder(sweep), {}, {}, 0
    for settings in _settings(sweep):
        built += 1
        try:
            planned = build(settings)
        except ConfigError as error:
            lines |= dict.fromkeys(error.lines)
            continue
        if planned is None:
            continue
        if planned.hash not in found:
            found[planned.hash] = planned
        elif sweep.method == "grid":
            lines[f"parameters: {found[planned.hash].name} and {planned.name} are the same run"] = None
        if sweep.method == "random" and len(found) == most:
            break
    if not found and not lines:
        lines[f"where: leaves none of {built:,} runs"] = None
    if len(found) < most and sweep.method == "random" and not lines:
        lines[f"run_cap = {sweep.draws}: {built:,} draws gave only {len(found)} different runs"] = None
    if lines:
        more = [f"… and {len(lines) - MOST_LINES:,} lines more"] if len(lines) > MOST_LINES else []
        raise ConfigError([*list(lines)[:MOST_LINES], *more])
    return list(found.values())


def _axes(sweep: Sweep) -> list[list[Parameter]]:
    """Parameters that take their values together, in the order of the file; most of them alone."""
    group = {path: paths for paths in sweep.groups for path in paths}
    by_path = {p.path: p for p in sweep.parameters}
    return [
        [by_path[path] for path in group.get(p.path, (p.path,))]
        for p in sweep.parameters
        if p.path == group.get(p.path, (p.path,))[0]
    ]


def _count(sweep: Sweep) -> int:
    seeds = max(len(sweep.seeds), 1)
    if sweep.method == "random":
        return sweep.draws * seeds
    return math.prod(len(axis[0].values) for axis in _axes(sweep)) * seeds


def _settings(sweep: Sweep) -> Iterator[Settings]:
    seeds: Sequence[Settings] = [{"seed": seed} for seed in sweep.seeds] or [{}]
    chosen = _axes(sweep)
    if sweep.method == "grid":
        choices = [[{p.path: p.values[i] for p in axis} for i in range(len(axis[0].values))] for axis in chosen]
        combinations: Iterator[Settings] = (_joined(parts) for parts in itertools.product(*choices))
    else:
        combinations = (_drawn(sweep, chosen, i) for i in range(TRIES * sweep.draws))
    return (settings | seed for settings in combinations for seed in seeds)


def _joined(parts: Sequence[Settings]) -> Settings:
    return {path: value for part in parts for path, value in part.items()}


def _drawn(sweep: Sweep, chosen: Sequence[Sequence[Parameter]], index: int) -> Settings:
    """Draw `index`: each axis by a stream of its own, so that another parameter or draw changes none."""
    settings: Settings = {}
    for axis in chosen:
        rng = random.Random(f"{sweep.seed}/{axis[0].path}/{index}")
        if axis[0].range is not None:
            settings[axis[0].path] = axis[0].range.draw(rng)
        else:
            place = rng.randrange(len(axis[0].values))
            settings |= {p.path: p.values[place] for p in axis}
    return settings


class _Builder:
    """Runs from settings; what is the same for many of them is done once."""

    def __init__(self, sweep: Sweep):
        self.sweep = sweep
        self.plain = asdict(sweep.base)
        self.fixed = {p.path for p in sweep.parameters if p.fixed}
        self.expressions: dict[str, Expression] = {}
        self.feasible: dict[Any, tuple[str, ...]] = {}

    def __call__(self, settings: Settings) -> Planned | None:
        """None where a condition leaves it out. Raises ConfigError."""
        referring = {path: text for path, value in settings.items() if (text := reference(value)) is not None}
        config = self._config({path: value for path, value in settings.items() if path not in referring})
        if referring:
            values: Settings = {}
            for path in referring:
                self._resolve(path, referring, values, config)
            config = self._config({**settings, **values})
        for condition in self.sweep.where:
            try:
                if not conditions.holds(condition, lambda path: field(config, path)):
                    return None
            except ValueError as error:
                raise ConfigError([f"where: {condition.text!r}: {error}"]) from None
        check(config)
        self._check_task(config)
        code = config_hash(config)
        named = {path: field(config, path) for path in settings if path not in self.fixed}
        return Planned(f"{arm(named)}-{code[:8]}", config, code)

    def _config(self, settings: Mapping[str, Any]) -> Config:
        data = self.plain
        lines = []
        for path, value in settings.items():
            try:
                data = put(data, path.split("."), value)
            except ValueError as error:
                lines.append(f"{path} = {value!r}: {error}")
        if lines:
            raise ConfigError(lines)
        return structure(data, Config)

    def _resolve(self, path: str, referring: Mapping[str, str], values: Settings, config: Config) -> Any:
        """The value of a reference, those that it refers to first; all are kept in `values`."""

        def look_up(name: str) -> Any:
            return self._resolve(name, referring, values, config) if name in referring else field(config, name)

        if path not in values:
            text = referring[path]
            if text not in self.expressions:
                self.expressions[text] = expression(text, f"parameters.{path}", self.sweep.base)
            try:
                values[path] = conditions.compute(self.expressions[text], look_up)
            except ValueError as error:
                raise ConfigError([f"parameters.{path}: {text!r}: {error}"]) from None
        return values[path]

    def _check_task(self, config: Config) -> None:
        """Once for each task and what is asked of it, because counting held-out problems takes a while."""
        demos = tuple(stage.demo for stage in config.warm_start.stages)
        asked = (config.task, config.evaluation.problems, demos)
        if asked not in self.feasible:
            self.feasible[asked] = ()
            try:
                check_task(replace(config, seed=0))
            except ConfigError as error:
                self.feasible[asked] = error.lines
        if self.feasible[asked]:
            raise ConfigError(self.feasible[asked])


def arm(settings: Mapping[str, Any]) -> str:
    """Settings as a part of a file's name: width32-rloo-s0."""
    parts = [_label(path, value) for path, value in settings.items()]
    return "-".join(parts)[:LONGEST_ARM].strip("-")


def _label(path: str, value: Any) -> str:
    name = "s" if path == "seed" else path.rpartition(".")[2]
    if isinstance(value, float):
        text = f"{name}{value:.6g}".replace("e+", "e")
    elif isinstance(value, str):
        text = value
    elif isinstance(value, tuple):
        text = name + "_".join(str(item) for item in value if isinstance(item, int | float | str))
    elif isinstance(value, int):
        text = f"{name}{value}"
    else:
        text = name
    return re.sub(r"[^A-Za-z0-9._]+", "_", text)
