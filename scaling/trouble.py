"""Trouble of the machine, as against damage and bad input: it passes when its cause is gone.

A full disk, no file handles, a directory that is read-only, no memory. Needs no JAX.
"""

from __future__ import annotations

import errno
import os

CODES = tuple(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "ENFILE", "EROFS", "EACCES", "EPERM", "EIO", "ENOMEM")
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, or the device through XLA, had no memory left."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def is_trouble(error: BaseException) -> bool:
    """Whether the machine is to blame. Tensorstore has the system's word for it in its message alone."""
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno in CODES):
        return True
    return is_out_of_memory(error) or _word(error) is not None


def _word(error: BaseException) -> str | None:
    return next((word for word in map(os.strerror, CODES) if word in str(error)), None)


def line(error: BaseException) -> str:
    """What to print of such an error: one line."""
    if not isinstance(error, OSError) and (word := _word(error)):
        return word
    if is_out_of_memory(error):
        return f"out of memory ({first_line(error)}); a smaller microbatch, chunk or model needs less"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """An error in at most 300 characters: its type where its text says nothing."""
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
