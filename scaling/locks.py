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
    something to the folder; or where something else than a folder is in the way.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError([f"{file.parent}: cannot be a directory ({error.strerror}); choose another"]) from None
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
    """This process alone trains and evaluates the run in a directory.

    Raises ConfigError that names another, and where checkpoints or evaluations are a link to a disk that is gone.
    """
    refuse_lost_folders(Run(path))
    return locked(path / ".lock", "running")


def refuse_if_running(run: Run) -> None:
    """Two processes must not write one run. Raises ConfigError that names the other one."""
    pid = writer(run)
    if pid is not None:
        raise _taken(run.path, _named(pid), "running")


def refuse_lost_folders(run: Run) -> None:
    """Raises ConfigError where checkpoints or evaluations are a link to a disk that is not there."""
    for folder in (run.checkpoints, run.evals):
        if folder.is_symlink() and not folder.is_dir():
            raise ConfigError([f"{folder}: a link to {os.readlink(folder)}, where no directory is"])


def _named(pid: int) -> str:
    return f"process {pid} on {socket.gethostname()}"


def _taken(path: Path, process: str, doing: str) -> ConfigError:
    return ConfigError([f"{path}: {process} is {doing} it; wait, or stop that one first"])
