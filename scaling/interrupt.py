"""Stopping on request: signals set a flag that loops poll, so that what is under way is saved first."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
"""USR2 is what submitit and Slurm send ahead of a preemption, where they can be told to."""
STDERR = 2


class Stop:
    """A context in which SIGTERM, SIGINT and SIGUSR2 make `stop()` true; another SIGINT then kills.

    Must be entered in the main thread, as signal handlers are; leaving it restores the handlers before it.
    """

    def __init__(self) -> None:
        self._requested = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._requested

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, _: FrameType | None) -> None:
        if self._requested:
            if number == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGINT)
            return
        self._requested = True
        name = signal.Signals(number).name
        line = f"\n{name}: saving and stopping; press Ctrl-C again to stop at once\n"
        with contextlib.suppress(OSError):  # not through sys.stderr, amid whose writing the signal may have come
            os.write(STDERR, line.encode())
