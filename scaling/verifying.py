"""A task's verdicts, and what is said where its verifier raises or does not come to an end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from scaling.tasks import PAD, Problem, Task, TaskError, Verdict, raised, task_name, text

PATIENCE_SECONDS = 60.0
"""A verifier is given this long for one completion, and at most twice as long."""
SHOWN_CHARACTERS = 200


class _Hangs(BaseException):
    """Raised in a verifier; a BaseException, so that none takes it for its own."""


def verify(task: Task, problems: Sequence[Problem], tokens_BxT: np.ndarray) -> list[Verdict]:
    """The task's verdict on every completion; row p·G + g belongs to problem p.

    Raises TaskError where the verifier raises, or takes longer than `PATIENCE_SECONDS` over one completion (in
    the main thread, where there are signals).
    """
    group, lengths = len(tokens_BxT) // len(problems), (tokens_BxT != PAD).sum(axis=1)
    rows = [row[:n] for row, n in zip(tokens_BxT.tolist(), lengths.tolist(), strict=True)]
    verdicts: list[Verdict] = []
    try:
        with _watched(lambda: len(verdicts)):
            for i, row in enumerate(rows):
                verdicts.append(task.verify(problems[i // group], row))
    except _Hangs:
        what = f"takes more than {PATIENCE_SECONDS:g} s over"
    except Exception as error:
        what = f"{raised(error)} at"
    else:
        return verdicts
    i = len(verdicts)
    shown = text(task, rows[i])[:SHOWN_CHARACTERS]
    place = f"problem {problems[i // group].index}, completion {i % group}: {shown!r}"
    raise TaskError(f"task {task_name(task)}: its verifier {what} {place}")


@contextlib.contextmanager
def _watched(done: Callable[[], int]) -> Iterator[None]:
    """Raises _Hangs where `done()` stays the same from one alarm to the next: nothing is paid per completion."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = -1

    def look(*_: object) -> None:
        nonlocal seen
        if done() == seen:
            raise _Hangs
        seen = done()

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
