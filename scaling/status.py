"""What the status of a run says: where it stands, and which process is at work on it."""

from __future__ import annotations

import os
import socket
import time
from typing import Literal

from scaling.files import RecordError, Row
from scaling.processes import started
from scaling.records import STAGES, Run

Said = Literal["done", "running", "preempted", "failed", "dead"]
STALE_SECONDS = 600.0
"""A process that says running and whose heartbeat is older than this is taken for dead."""


def state(status: Row, now: float) -> tuple[Said, str]:
    """What a status says at `now`, seconds since the epoch: done, running, preempted, failed or dead; and why.

    Only a run that has its report is done. Dead is one that says it is at work, and is not.
    """
    if status["state"] == "done" and status["stage"] == STAGES[-1]:
        return "done", ""
    if status["state"] in ("failed", "preempted"):
        return status["state"], status["reason"]
    why = _dead(status, now)
    return ("dead", why) if why else ("running", status["reason"])


def _dead(status: Row, now: float) -> str:
    """Why a process that says it is at work is not; empty where it may be."""
    start = started(status["pid"])
    if status["host"] == socket.gethostname() and (start is None or start != status.get("start", start)):
        return f"process {status['pid']} is gone"
    age = now - status["heartbeat"]
    return f"silent for {age:.0f} s" if age > STALE_SECONDS else ""


def writer(run: Run) -> int | None:
    """The other process that writes a run now, if it is one of this host: of no other can one be sure."""
    try:
        status = run.read_status()
    except RecordError:  # it will be written anew, and the lock keeps others out
        return None
    if status is None or status["state"] != "running" or status["host"] != socket.gethostname():
        return None
    return None if status["pid"] == os.getpid() or _dead(status, time.time()) else status["pid"]
