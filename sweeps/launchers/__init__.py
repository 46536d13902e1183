"""Engines that start runs: the interface that local processes, Slurm and Ray share.

What state a run is in stands in its own directory (`sweeps.state`). What an engine says is a hint: it tells a run
that waits in a queue from one that nobody will start any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Hint = Literal["queued", "running", "gone", "unknown"]
"""gone: the engine has no such job, or it ended, whatever came of it; unknown: the engine does not answer."""


@dataclass(frozen=True)
class Job:
    """A run to start."""

    name: str
    """That of its directory in the sweep's; unique in a sweep."""
    command: tuple[str, ...]
    """What a person could paste, from the folder where the sweep was started."""
    directory: Path
    """The run's."""
    log: Path
    """Where what the command prints is appended."""


class Launcher(Protocol):
    """An engine. A handle is text that any process can poll or cancel with later, such as a Slurm job's number."""

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Start the jobs, or put them in the engine's queue; a handle for each. Raises ConfigError where the
        engine is missing or refuses."""
        ...

    def poll(self, handles: Sequence[str]) -> Mapping[str, Hint]:
        """What the engine says of each job."""
        ...

    def cancel(self, handles: Sequence[str]) -> None:
        """Ask the jobs to save and stop: a signal first, an end later. Returns at once; lets unknown ones be."""
        ...
