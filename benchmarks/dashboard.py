"""How soon the dashboard shows many long runs: `python -m benchmarks.dashboard [--runs N] [--steps N]`.

A server that starts cold, and Chromium, which is open already: seconds from the command to the table, and from a
reload to the table. Then, in this process: the first look at the folder, one at which nothing has changed, one at
which every run took a step, and what RL health makes of one run. A clock times them: nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from scaling.records import Row, Run, checkpoint_name

CHROMIUM = "/usr/bin/chromium"
METRICS = (
    "loss", "entropy", "mismatch", "clip_fraction", "grad_norm", "kl", "learning_rate", "reward",
    "zero_variance_fraction", "correct", "think_tokens", "answer_tokens", "cut_fraction", "malformed",
    "stopped_accuracy", "slip_rate", "reward/2", "reward/3", "seconds", "tokens_per_second",
)  # fmt: skip
"""Those that a run records."""
CHECKPOINTS = 30


def rows(steps: int) -> Iterator[Row]:
    """Training rows as wide as a run's: 1.2 kB."""
    values = np.random.default_rng(0).uniform(size=(steps, len(METRICS)))
    for step in range(1, steps + 1):
        flops = {name: 10**9 * step for name in ("warm_start", "rollout", "update", "reference")}
        ledger = {"flops": flops, "tokens": flops, "seconds": {name: 0.37 * step for name in (*flops, "compile")}}
        yield {
            "step": step, "phase": "rl", "phase_step": step, "budget": 64, "train_flops": 4 * 10**9 * step,
            "rl_flops": 3 * 10**9 * step, "ledger": ledger, "time": float(step),
            "metrics": dict(zip(METRICS, values[step - 1].tolist(), strict=True)),
        }  # fmt: skip


def write(root: Path, runs: int, steps: int) -> None:
    """Runs in the middle of their RL, in sweeps of fifty; checkpoints are manifests alone."""
    from scaling import config

    settings = config.Config()
    first = Run.create(root / "sweep-0" / "run-0", config.dump(settings), config.config_hash(settings), {})
    first.append_train(rows(steps))
    for name in map(checkpoint_name, range(1, CHECKPOINTS + 1)):
        (first.checkpoints / f"{name}.json").write_text("{}")
        first.append_evaluation(name, [{"problem": 0, "budget": 0}])
    for i in range(runs):
        path = root / f"sweep-{i // 50}" / f"run-{i}"
        if i:
            shutil.copytree(first.path, path)
        path.with_name("sweep.yaml").touch()
        Run(path).write_status("running", "train")


def opened(root: Path) -> tuple[float, float]:
    """Seconds to the table in a browser: from the start of a server, and from a reload."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        start = time.perf_counter()
        command = [sys.executable, "-m", "scaling", "dashboard", str(root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().rpartition(" ")[2].strip()
            while not _answers(lambda: page.goto(address)):
                time.sleep(0.02)
            page.wait_for_selector(".runs tbody tr", timeout=120_000)
            cold = time.perf_counter() - start
            start = time.perf_counter()
            page.reload()
            page.wait_for_selector(".runs tbody tr", timeout=120_000)
            again = time.perf_counter() - start
            server.terminate()
        browser.close()
    return cold, again


def _answers(ask: Callable[[], object]) -> bool:
    from playwright.sync_api import Error

    try:
        ask()
    except Error:
        return False
    return True


def looked(root: Path, steps: int) -> dict[str, float]:
    """Seconds of each kind of look, in this process."""
    from analysis.dashboard import health, overview
    from analysis.dashboard.watch import Watch

    watch = Watch(root)
    name = "sweep-0/run-0"

    def look() -> None:
        overview.table(watch.look())

    found = {"first look": _seconds(look), "a look, nothing new": _seconds(look)}
    *_, last = rows(steps + 1)
    for path in sorted(root.glob("*/run-*")):
        Run(path).append_train([last])
    found["a look, a step of every run"] = _seconds(look)
    found["all rows of a run, read"] = _seconds(lambda: watch.train_rows(name))
    read, _ = watch.train_rows(name)
    found["RL health of it, drawn"] = _seconds(lambda: health.charts({name: health.frame(read)}).to_dict())
    return found


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=5000, help="of each run")
    parser.add_argument("--json", action="store_true", help="seconds by name")
    asked = parser.parse_args(args)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, asked.runs, asked.steps)
        cold, again = opened(root)
        found = {"command to table, cold": cold, "reload to table": again, **looked(root, asked.steps)}
    if asked.json:
        print(json.dumps(found, indent=1))
        return 0
    table = Table("what", "seconds", title=f"The dashboard over {asked.runs} runs of {asked.steps} steps")
    for name, seconds in found.items():
        table.add_row(name, f"{seconds:.2f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
