"""Jobs as processes of this machine, each on cores of its own. They outlive the launcher."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from scaling.processes import started
from scaling.structure import ConfigError
from sweeps.launchers import Hint, Job

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
"""XLA takes as many threads as the process may use cores."""
GRACE_SECONDS = 300.0
"""Between the signal of a cancelled job and its end."""


def cores() -> list[int]:
    """The cores that this process may use; those of the machine where the system cannot say."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Local:
    """Processes, each the head of a session of its own. A handle is PID:START, so that a number that is used
    again is not taken for the job. Whoever submits sees to it that no more than `jobs` run at once."""

    def __init__(self, jobs: int):
        mine = cores()
        size = max(len(mine) // jobs, 1)
        self._shares = [mine[i * size : (i + 1) * size] for i in range(min(jobs, len(mine)))]
        self._children: dict[str, subprocess.Popen] = {}
        self._known: set[str] = set()
        self._deadlines: dict[str, float] = {}

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Start the jobs at once. Raises ConfigError where a command cannot be started."""
        return [self._start(job) for job in jobs]

    def _start(self, job: Job) -> str:
        share = self._free_share()
        environment = os.environ | dict.fromkeys(THREADS, str(len(share)))
        with open(job.log, "ab") as log:
            try:
                child = subprocess.Popen(
                    job.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise ConfigError([f"{job.command[0]}: cannot be started: {error}"]) from None
        if hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(child.pid, share)
        handle = f"{child.pid}:{started(child.pid) or ''}"
        self._children[handle] = child
        self._known.add(handle)
        return handle

    def _free_share(self) -> list[int]:
        """The cores that the fewest jobs use."""
        pids = [pid for handle in self._known if (pid := _pid(handle)) is not None]
        if not hasattr(os, "sched_getaffinity"):
            return self._shares[len(pids) % len(self._shares)]
        used = [core for pid in pids for core in _affinity(pid)]
        return min(self._shares, key=lambda share: sum(used.count(core) for core in share))

    def poll(self, handles: Sequence[str]) -> Mapping[str, Hint]:
        """Running or gone. A job that was cancelled and is there after its grace is killed."""
        for handle, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[handle]
        self._known |= set(handles)
        self._known = {handle for handle in self._known if _pid(handle) is not None}
        for handle, deadline in list(self._deadlines.items()):
            if handle not in self._known:
                del self._deadlines[handle]
            elif time.monotonic() > deadline:
                _signal(handle, signal.SIGKILL, group=True)
        return {handle: "running" if handle in self._known else "gone" for handle in handles}

    def cancel(self, handles: Sequence[str]) -> None:
        """SIGTERM, and SIGKILL to the whole group by a `poll` after the grace."""
        for handle in handles:
            _signal(handle, signal.SIGTERM, group=False)
            self._deadlines.setdefault(handle, time.monotonic() + GRACE_SECONDS)


def _pid(handle: str) -> int | None:
    """The process of a handle, while it lives."""
    pid, _, start = handle.partition(":")
    return int(pid) if pid.isdecimal() and started(int(pid)) == start else None


def _affinity(pid: int) -> set[int]:
    try:
        return os.sched_getaffinity(pid)
    except ProcessLookupError:
        return set()


def _signal(handle: str, number: signal.Signals, group: bool) -> None:
    pid = _pid(handle)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, number)
