"""Where a training step's time goes: `python -m benchmarks.profile [uneven|full|wide]`, kernel by kernel.

One thread, the trace of jax.profiler over a few steps after a warm-up. A clock times the kernels: nothing else
should run. Kernels of one name and different numbers are added up. Matrix products are held against the FLOPs of
the step (padding not counted) and the peak of the machine.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import PINNED, pin

STEPS = 3
TOP = 25
TRACED = "--xla_cpu_enable_xprof_traceme=true"
"""Of XLA's flags: the kernels are in the trace."""
PRODUCTS = ("dot", "ynn", "onednn", "custom-call")
"""Kernels whose names begin so are matrix products, with what XLA fuses into them."""


@dataclass(frozen=True)
class Kernel:
    name: str
    calls: float
    """A step."""
    seconds: float
    """A step."""


def kernels(step: Callable[[], object], steps: int = STEPS) -> list[Kernel]:
    """The kernels that a step runs, the longest first. Threads are pinned, and kernels traced, by `main`."""
    import jax

    step()
    seconds, calls = Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                step()
        (file,) = Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    name = dict(event.stats).get("hlo_op")
                    if name is not None:
                        kind = re.sub(r"[.\d]+$", "", str(name))
                        seconds[kind] += event.duration_ns / 1e9
                        calls[kind] += 1
    return [Kernel(name, calls[name] / steps, spent / steps) for name, spent in seconds.most_common()]


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("rows", nargs="?", default="uneven", choices=("uneven", "full", "wide"))
    asked = parser.parse_args(args)
    os.environ["XLA_FLAGS"] = f"{PINNED['XLA_FLAGS']} {TRACED}"
    pin()
    from benchmarks import engine, peers
    from scaling import flops

    config, rows, vocab = engine.case(asked.rows)
    lengths = rows.fed()
    work = sum(flops.train_sequence(config.model, vocab, int(n)) for n in lengths)
    found = kernels(engine.our_step(config, rows))
    whole = sum(kernel.seconds for kernel in found)
    products = sum(kernel.seconds for kernel in found if kernel.name.startswith(PRODUCTS))
    shown = Table(title=f"A training step, {len(lengths)} rows, {int(lengths.sum())} tokens, one thread")
    for name in ("kernel", "calls", "ms", "share"):
        shown.add_column(name, justify="left" if name == "kernel" else "right")
    for kernel in found[:TOP]:
        spent = kernel.seconds
        shown.add_row(kernel.name, f"{kernel.calls:.0f}", f"{1e3 * spent:.1f}", f"{spent / whole:.0%}")
    console = Console()
    console.print(shown)
    console.print(
        f"All kernels {1e3 * whole:.0f} ms. Matrix products {1e3 * products:.0f} ms, {work / products / 1e9:.0f} "
        f"GFLOP/s; the whole step {work / whole / 1e9:.0f}; this machine's peak {peers.jax_peak() / 1e9:.0f}.",
        highlight=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
