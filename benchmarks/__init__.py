"""Speed beside named peers, both sides in one run (`python -m benchmarks`); verdicts beside a known truth
(`python -m benchmarks.verdicts`)."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

REPETITIONS = 5
PINNED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
"""One thread each: SciPy's loop has no use for more, and neither side then depends on the machine's cores."""


@dataclass(frozen=True)
class Row:
    """One comparison, in one run on one machine."""

    name: str
    ours: float
    peer: float
    ratio: float
    """How many times faster ours is."""
    unit: str
    """Of ours and peer."""
    note: str
    """The work, who the peer is, and how its figure was scaled where it was not run in full."""


def pin() -> None:
    """Pin threads and prepare JAX as `scaling` does; before NumPy and JAX start."""
    from scaling.backend import prepare_jax

    for name, value in PINNED.items():
        os.environ.setdefault(name, value)
    prepare_jax()


def interleaved(
    *sides: Callable[[], object],
    repetitions: int = REPETITIONS,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, ...]:
    """Median seconds of each, run in turns so that all meet the same noise; a first turn of each is a warm-up."""
    seconds: list[list[float]] = [[] for _ in sides]
    for repetition in range(repetitions + 1):
        for run, kept in zip(sides, seconds, strict=True):
            start = clock()
            run()
            if repetition:
                kept.append(clock() - start)
    return tuple(map(statistics.median, seconds))


def faster(name: str, ours: float, peer: float, unit: str, note: str) -> Row:
    """A row of two costs, of which less is better."""
    return Row(name, ours, peer, peer / ours, unit, note)
