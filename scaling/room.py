"""Decoding in the memory that there is: half as many completions at once, each time that it runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from scaling import hosts, trouble

T = TypeVar("T")
_found: dict[str, int] = {}
"""Setting → completions at once that this process had room for, where it was less than the setting."""


def within_memory(
    draw: Callable[[int], T], setting: str, chunk: int, fewest: int, warn: Callable[[str], None]
) -> T:
    """`draw(chunk)`, or with as many completions at once as there is memory for, from `fewest` on.

    The tokens drawn are the same whatever the chunk, their log-probabilities but for rounding. What was found
    holds for the rest of the process and is said in a line; no run keeps it. Raises the error where the fewest are
    too many, and on several hosts, which could not agree.
    """
    size = min(chunk, _found.get(setting, chunk))
    while True:
        try:
            return draw(size)
        except (MemoryError, RuntimeError) as error:
            if not trouble.is_out_of_memory(error) or size <= fewest or hosts.several():
                raise
            reason = trouble.first_line(error)
        size = _found[setting] = max(size // 2, fewest)
        warn(f"out of memory ({reason}): {setting} is {size} from here on; results differ by rounding alone")
