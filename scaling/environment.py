"""What a process runs on, for the records of its run. Standard library only."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from scaling.files import Row


def _git_commit() -> str | None:
    """Commit of this source, with "-dirty" where tracked files differ; None where no repository tracks it."""
    here = Path(__file__).resolve()

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(here.parent), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", here.name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*")


def environment(argv: Sequence[str], devices: Sequence[str] = ()) -> Row:
    """What a process runs on: commit, versions, devices, command line. No environment variable is read."""
    packages = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    return {
        "time": time.time(),
        "command": shlex.join(argv),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "devices": list(devices),
        "packages": dict(sorted(packages.items())),
    }
