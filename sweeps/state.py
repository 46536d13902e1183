"""What state a run is in, read from its directory; what an engine says is only a hint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaling.records import Run
from scaling.status import state
from scaling.structure import ConfigError
from sweeps.directory import Attempt
from sweeps.launchers import Hint, Launcher

State = Literal["waiting", "running", "done", "preempted", "failed", "dead", "ended"]
STATES: tuple[State, ...] = ("done", "running", "waiting", "preempted", "dead", "failed", "ended")
REFUSED = ConfigError.__name__
"""How the reason of a run begins that was given what cannot be used."""


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    waiting: not begun, in a queue or not. preempted: stopped by a signal, resumable. failed: ended with a reason.
    dead: ended without a word, or before it could say one. ended: by the stopping rule.
    """

    state: State
    stage: str = ""
    reason: str = ""
    heartbeat: float | None = None
    """Seconds since the epoch."""


def standing(path: Path, now: float, attempt: Attempt | None = None, hint: Hint = "unknown") -> Standing:
    """Where the run in a directory stands. A status older than the last attempt is a former attempt's; until that
    attempt writes its own, the hint tells one that is still to begin from one that is lost. Raises RecordError for
    a damaged one."""
    status = Run(path).read_status()
    if status is not None:
        said, why = state(status, now)
        if attempt is None or attempt.time <= status["heartbeat"] or said == "done":
            return Standing(said, status["stage"], why, status["heartbeat"])
    if attempt is not None and hint == "gone":
        return Standing("dead", "", "ended before it began")
    return Standing("waiting")


def hints(attempts: Sequence[Attempt], launchers: Callable[[str], Launcher]) -> Mapping[str, Hint]:
    """run → what its engine says of its last attempt."""
    found: dict[str, Hint] = {}
    for engine in {attempt.engine for attempt in attempts}:
        mine = [attempt for attempt in attempts if attempt.engine == engine]
        said = launchers(engine).poll([attempt.handle for attempt in mine])
        found |= {attempt.run: said.get(attempt.handle, "unknown") for attempt in mine}
    return found
