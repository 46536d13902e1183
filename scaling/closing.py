"""What a command prints last, be it that nobody reads it, and the exit code that it ends with."""

from __future__ import annotations

import contextlib
import errno
import json as jsons
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from scaling import hosts, trouble

DONE, FAILED, BAD_INPUT, PREEMPTED = 0, 1, 2, 75
OURS = ("scaling", "analysis", "sweeps")
NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP)
"""What the system says of a name that cannot be that of such a file or folder: it was given, so it is input."""
LONGEST = 500
"""Characters of a line; of a longer one, which quotes what it complains of, the middle is left out."""


def exit_code(error: Exception) -> int | None:
    """The code of an error that a line explains: bad input, or what a run could not go on with. None for a
    mistake of the program, whose traceback is to be seen."""
    if _is_ours(error):
        return BAD_INPUT if isinstance(error, ValueError) else FAILED
    if trouble.is_trouble(error):
        return FAILED
    return BAD_INPUT if isinstance(error, OSError) and error.errno in NAMES else None


def said(error: Exception) -> str:
    """What is printed of an error with an exit code: lines that break no terminal."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error) if _is_ours(error) else trouble.line(error)
    return "\n".join(map(_line, text.split("\n")))


def _line(text: str) -> str:
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST // 2]} … {shown[-LONGEST // 2 :]}"


def _is_ours(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in OURS


@contextlib.contextmanager
def unless_lost(stream: TextIO) -> Iterator[None]:
    """Who reads the stream may be gone: nothing fails for it, and what is written from then on goes nowhere."""
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):  # one that is no file has no number
            silence(stream)


def silence(stream: TextIO) -> None:
    """What is written to the stream from now on, and what it still holds, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def reported(path: Path, facts: dict[str, Any], json: bool) -> int:
    """Prints what a report found and where it is; returns the exit code."""
    following = f"scaling export {path} -o {path.name}.csv; scaling dashboard {path.parent}"
    return finish(path, "done", json, **facts, next=following)


def finish(path: Path, state: str, json: bool, **facts: Any) -> int:
    """Prints what came of a command and what to do next (the first host); returns the exit code of its state."""
    code = PREEMPTED if state == "preempted" else DONE
    if not hosts.is_first():
        return code
    if state == "preempted":
        facts = {"next": f"scaling run --dir {path}"}
    if json:
        print_json({"run": str(path), "state": state, **facts})
    else:
        if "verdict" in facts:
            print(f"\n{facts['verdict']}\n")
        print("\n".join([f"{path}: {state}", *(f"  {file}" for file in facts.get("files", ()))]))
        print(f"next: {facts['next']}")
    return code


def print_plan(facts: dict[str, Any], json: bool) -> int:
    """Prints a plan; returns the exit code."""
    from scaling.plan import describe

    if json:
        print_json(facts)
    else:
        print(describe(facts))
    return DONE


def print_json(value: Any) -> None:
    """Prints one JSON object, what JSON has no word for as text."""
    print(jsons.dumps(value, default=str))
