"""What mirroring to W&B costs a run: `python -m benchmarks.mirror [--pairs N] [CONFIG] [--a.b=c …]`.

The same run with W&B off and offline, in turns (ABBA), each a command of its own with a warm compilation cache:
seconds of the whole command, and those that its ledger has for training without compilation, as ratios; and what
the mirror took of the time of all processors until the run ended, whatever else ran. Medians of the pairs, with
the smallest and the largest. For the ratios, nothing else should run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scaling.records import Run

MODES = ("disabled", "offline")
SHARE = "mirror, share of all processors' time"
RUN = (
    "demo",
    "--warm_start.stages.0.steps=10",
    "--warm_start.stages.1.steps=10",
    "--rl.flops=3e11",
    "--evaluation.problems=32",
)
"""What is run: the demo, all of it shorter: a minute."""


def seconds(path: Path, words: Sequence[str], mode: str) -> dict[str, float]:
    """Of one run: the whole command, the work in its ledger, and what its mirror took of the processors."""
    start, mirror = time.perf_counter(), 0.0
    command = [sys.executable, "-m", "scaling", "run", *words, "--dir", str(path), "--json"]
    with subprocess.Popen(command, env=os.environ | {"WANDB_MODE": mode}, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            mirror = max(mirror, spent(path))
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    whole = time.perf_counter() - start
    *_, last = Run(path).train_rows()
    work = {name: value for name, value in last["ledger"]["seconds"].items() if name != "compile"}
    return {"the whole command": whole, "training": sum(work.values()), "mirror": mirror}


def spent(path: Path) -> float:
    """Processor seconds so far of the mirror of a run and of what it started (Linux)."""
    parents, ticks, mirrors = {}, {}, set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            parents[place.name], ticks[place.name] = fields[1], int(fields[11]) + int(fields[12])
            words = (place / "cmdline").read_bytes().split(b"\0")
            if b"analysis.mirror" in words and str(path).encode() in words:
                mirrors.add(place.name)
    return sum(n for p, n in ticks.items() if mirrors & {p, parents[p]}) / os.sysconf("SC_CLK_TCK")


def ratios(folder: Path, pairs: int, words: Sequence[str]) -> dict[str, list[float]]:
    """Seconds with the mirror by those without, of each pair; and the mirror's share of all processors' time."""
    seconds(folder / "warm-up", words, MODES[1])
    found: dict[str, list[float]] = {}
    for pair in range(pairs):
        order = MODES if pair % 2 == 0 else MODES[::-1]
        took = {mode: seconds(folder / f"{pair}-{mode}", words, mode) for mode in order}
        print(json.dumps(took), file=sys.stderr, flush=True)
        mirror = took["offline"].pop("mirror") / (os.cpu_count() or 1)
        found.setdefault(SHARE, []).append(mirror / took["offline"]["the whole command"])
        for name, value in took["offline"].items():
            found.setdefault(f"{name}, with by without", []).append(value / took["disabled"][name])
    return found


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mirror", description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="figures of each pair, by name")
    asked, words = parser.parse_known_args(args)
    with tempfile.TemporaryDirectory() as folder:
        found = ratios(Path(folder), asked.pairs, words or RUN)
    if asked.json:
        print(json.dumps(found, indent=1))
        return 0
    table = Table("what", "median", "least", "most", title=f"W&B offline over none, {asked.pairs} pairs")
    for name, values in found.items():
        table.add_row(name, *(f"{x:.3f}" for x in (statistics.median(values), min(values), max(values))))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
