"""One process at a time is at work in a directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from scaling.records import Run
from scaling.status import writer
from scaling.structure import ConfigError


@contextlib.contextmanager
def locked(file: Path, doing: str) -> Iterator[None]:
    """No other process has this file locked meanwhile; its folder is made if need be.

    The lock is the kernel's, on a file that names the process: it goes with the process, however that ends. A file
    system without locks is let be. Raises ConfigError that names the other process, and says that it is `doing`
    something to the folder.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            raise _taken(file.parent, held.read().strip() or "another process", doing) from None
        except OSError:
            pass
        held.truncate(0)
        held.write(f"{_named(os.getpid())}\n")
        held.flush()
        yield


def claimed(path: Path) -> contextlib.AbstractContextManager[None]:
    """This process alone trains and evaluates the run in a directory. Raises ConfigError that names another."""
    return locked(path / ".lock", "running")


def refuse_if_running(run: Run) -> None:
    """Two processes must not write one run. Raises ConfigError that names the other one."""
    pid = writer(run)
    if pid is not None:
        raise _taken(run.path, _named(pid), "running")


def _named(pid: int) -> str:
    return f"process {pid} on {socket.gethostname()}"


def _taken(path: Path, process: str, doing: str) -> ConfigError:
    return ConfigError([f"{path}: {process} is {doing} it; wait, or stop that one first"])
