"""Wall time by phase, with compilation counted apart from the phase that waited for it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from time import perf_counter

import jax

COMPILE_EVENTS = ("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration", "backend_compile_duration")


@functools.cache
def _compile_seconds() -> list[float]:
    """A running total that jax keeps up to date from the first call on."""
    total = [0.0]

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith(COMPILE_EVENTS):
            total[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return total


class Stopwatch:
    """Seconds by phase since the last `take`."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a block as `phase`; what jax spends on tracing and compiling in it goes to `compile`."""
        compiled, start = _compile_seconds()[0], perf_counter()
        try:
            yield
        finally:
            elapsed = perf_counter() - start
            compile_ = min(_compile_seconds()[0] - compiled, elapsed)
            self._add(phase, elapsed - compile_)
            self._add("compile", compile_)

    def _add(self, phase: str, seconds: float) -> None:
        self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """The seconds so far, and start again."""
        taken, self._seconds = self._seconds, {}
        return taken
