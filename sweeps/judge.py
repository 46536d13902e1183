"""An optional rule that ends arms which will hardly be the best, asked in a process of its own.

stop: {by: [rl.recipe], target: 8e12, probability: 0.05}     # in a sweep file; without it, nothing is ended

The question is `analysis.stopping.decide`; docs/forecasting.md has how much it saves, and how often it is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.records import Run
from scaling.structure import ConfigError, structure
from sweeps.directory import Directory, Ended
from sweeps.expand import Planned
from sweeps.file import field

PAUSE_SECONDS = 60.0
"""Between questions, at the least."""


@dataclass(frozen=True)
class Rule:
    """When an arm is ended before its time."""

    by: tuple[str, ...] = ()
    """Fields that tell arms apart."""
    target: float = 0.0
    """RL compute of a run at which arms are judged, FLOPs."""
    probability: float = 0.05
    """An arm is ended where it is better than the leading one at the target with less than this probability."""


def rule(given: Any) -> Rule:
    """That of a sweep file. Raises ConfigError for fields that there are not."""
    try:
        return structure(given, Rule)
    except ConfigError as error:
        raise ConfigError([f"stop.{line}" for line in error.lines]) from None


def arms(rule: Rule, runs: Sequence[Planned]) -> dict[str, list[str]]:
    """Names of runs by arm. Raises ConfigError for a rule that cannot be meant."""
    lines = [] if rule.by else ["stop.by: missing; the fields that tell arms apart, such as [rl.recipe]"]
    if not rule.target > 0:
        lines.append(f"stop.target = {rule.target}: must be above 0, FLOPs of RL")
    if not 0 < rule.probability < 1:
        lines.append(f"stop.probability = {rule.probability}: must be between 0 and 1")
    if lines:
        raise ConfigError(lines)
    found: dict[str, list[str]] = {}
    for planned in runs:
        arm = ", ".join(f"{path} = {field(planned.config, path)}" for path in rule.by)
        found.setdefault(arm, []).append(planned.name)
    return found


class Judge:
    """Asks which arms to end whenever there are new evaluations, and hears the answer some seconds later."""

    def __init__(
        self,
        rule: Rule,
        directory: Directory,
        runs: Sequence[Planned],
        say: Callable[[str], None],
        pause: float = PAUSE_SECONDS,
    ):
        self._rule, self._directory, self._arms, self._say = rule, directory, arms(rule, runs), say
        self._pause, self._asked, self._seen = pause, -pause, 0
        self._child: subprocess.Popen | None = None

    def ended(self) -> list[Ended]:
        """Runs of arms that are ended now; none while nothing is known yet."""
        if self._child is not None:
            return self._heard() if self._child.poll() is not None else []
        begun = [Run(self._directory.run(name)) for names in self._arms.values() for name in names]
        seen = sum(len(run.evaluation_names()) for run in begun)
        if seen > self._seen and time.monotonic() - self._asked >= self._pause:
            self._seen, self._asked = seen, time.monotonic()
            self._child = self._ask()
        return []

    def _ask(self) -> subprocess.Popen:
        begun = {arm: [self._directory.run(name) for name in names] for arm, names in self._arms.items()}
        dirs = {arm: [str(d) for d in each if Run(d).config_file.is_file()] for arm, each in begun.items()}
        question = {"arms": dirs, "target": self._rule.target, "probability": self._rule.probability}
        words = [sys.executable, "-m", "analysis.stopping", json.dumps(question)]
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def _heard(self) -> list[Ended]:
        """The answer; a question that could not be answered is said, and ends nothing."""
        assert self._child is not None
        out, err = self._child.communicate()
        failed, self._child = self._child.returncode, None
        if failed:
            last = err.decode(errors="replace").strip().rpartition("\n")[2]
            self._say(f"the arms could not be judged, and none is ended: {last}")
            return []
        decisions: list[Mapping] = json.loads(out)
        now = time.time()
        return [
            Ended(run, now, decision["arm"], decision["probability"], decision["reason"])
            for decision in decisions
            if decision["stop"]
            for run in self._arms[decision["arm"]]
        ]
