"""Processes of this machine, by number and by when they started, since numbers are used again."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
STARTED = 19
"""Place of the start time among the fields of /proc/PID/stat that follow the state: the 22nd of all, proc(5)."""


def started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; "" where the system does not say; None where there is none,
    or only what is left of one that ended (a zombie)."""
    if not (PROC / "self" / "stat").exists():
        return "" if _exists(pid) else None
    try:
        state, *rest = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return rest[STARTED - 1] if state not in ("Z", "X") else None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists, and belongs to somebody else
    return True
