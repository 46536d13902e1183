"""What mirroring to W&B costs a run: `python -m benchmarks.mirror [--pairs N] [CONFIG] [--a.b=c …]`.

The same run with W&B off and offline, in turns (ABBA), each a command of its own with a warm compilation cache:
seconds of the whole command, and those that its ledger has for training and evaluation without compilation. The
median of the pairs' ratios, with the smallest and the largest. A clock times them: nothing else should run.
"""

from __future__ import annotations

import argparse
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
RUN = (
    "demo",
    "--warm_start.stages.0.steps=10",
    "--warm_start.stages.1.steps=10",
    "--rl.flops=3e11",
    "--evaluation.problems=32",
)
"""What is run: the demo, all of it shorter: a minute."""


def seconds(path: Path, words: Sequence[str], mode: str) -> dict[str, float]:
    """Of one run: the whole command, and the work in its ledger."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "scaling", "run", *words, "--dir", str(path), "--json"]
    subprocess.run(command, env=os.environ | {"WANDB_MODE": mode}, stdout=subprocess.DEVNULL, check=True)
    whole = time.perf_counter() - start
    *_, last = Run(path).train_rows()
    work = {name: value for name, value in last["ledger"]["seconds"].items() if name != "compile"}
    return {"the whole command": whole, "training": sum(work.values())}


def ratios(folder: Path, pairs: int, words: Sequence[str]) -> dict[str, list[float]]:
    """Seconds with the mirror by those without, of each pair."""
    seconds(folder / "warm-up", words, MODES[1])
    found: dict[str, list[float]] = {}
    for pair in range(pairs):
        order = MODES if pair % 2 == 0 else MODES[::-1]
        took = {mode: seconds(folder / f"{pair}-{mode}", words, mode) for mode in order}
        print(json.dumps(took), file=sys.stderr, flush=True)
        for name, value in took["offline"].items():
            found.setdefault(name, []).append(value / took["disabled"][name])
    return found


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mirror", description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="ratios by name")
    asked, words = parser.parse_known_args(args)
    with tempfile.TemporaryDirectory() as folder:
        found = ratios(Path(folder), asked.pairs, words or RUN)
    if asked.json:
        print(json.dumps(found, indent=1))
        return 0
    table = Table("seconds", "median ratio", "least", "most", title=f"W&B offline over none, {asked.pairs} pairs")
    for name, values in found.items():
        table.add_row(name, *(f"{x:.3f}" for x in (statistics.median(values), min(values), max(values))))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
