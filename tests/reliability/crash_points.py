"""What a process that is killed can leave behind: the directory before each change that the process makes to it.

Python announces every file operation to audit hooks (`sys.addaudithook`) before it is carried out; the directory
is copied there, with all other threads that touch files waiting. Writes to records are cut in half, for the state
within. What C++ writes inside orbax is seen between two operations of Python, not within one.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from scaling.records import Run

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_hooks: list[Snapshots] = []
"""Of the process; an audit hook stays for ever, so there is one, for those that are recording."""


class Snapshots:
    """A context in which every state of a run's directory is copied into a folder, `moments`, in order."""

    def __init__(self, path: Path, folder: Path):
        self.run, self.folder, self.moments = Run(path), folder, []
        self._lock, self._busy, self._seen = threading.Lock(), threading.local(), None
        self._write = os.write

    def __enter__(self) -> Snapshots:
        if not hasattr(sys, "_crash_points"):
            sys._crash_points = True  # type: ignore[attr-defined]
            sys.addaudithook(lambda event, args: [hook.look(event, args) for hook in _hooks] and None)
        _hooks.append(self)
        self._patch = mock.patch.object(os, "write", self._half_and_half)
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()
        _hooks.remove(self)

    def look(self, event: str, args: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and (args[2] or 0) & WRITING):
            self._take(args[0])

    def _half_and_half(self, handle: int, data: bytes) -> int:
        half = self._write(handle, data[: len(data) // 2])
        self._take(os.readlink(f"/proc/self/fd/{handle}"))
        return half + self._write(handle, data[half:])

    def _take(self, place: Any) -> None:
        if getattr(self._busy, "now", False) or not isinstance(place, str | bytes | os.PathLike):
            return
        if not os.fsdecode(place).startswith(str(self.run.path)):
            return
        with self._lock:
            self._busy.now = True
            try:
                self._copy()
            finally:
                self._busy.now = False

    def _copy(self) -> None:
        """A copy, if anything has changed since the last one; once more where C++ moved a file meanwhile."""
        moment = self.folder / f"{len(self.moments):04d}" / "run"
        while True:
            try:
                stats = [(str(file), file.stat()) for file in self.run.path.rglob("*")]
                seen = sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
                if seen and seen != self._seen:
                    shutil.copytree(self.run.path, moment)
                    self._seen = seen
                    self.moments.append(moment)
                return
            except (FileNotFoundError, shutil.Error):
                shutil.rmtree(moment, ignore_errors=True)
