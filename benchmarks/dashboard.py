"""How soon the dashboard shows many long runs: `python -m benchmarks.dashboard [--runs N] [--steps N]`.

Chromium is open already: seconds from the command to the table, from a running server to the table in a browser
that never saw the page, and in one that did; beside each the same of an app of marimo's that holds a table of one
cell and reads nothing, which is what marimo and the browser take themselves. Then, in this process: the first look
at the folder, one at which nothing has changed, one at which every run took a step, and what RL health makes of
one run. A clock times them: nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from scaling.files import Row
from scaling.records import Run, checkpoint_name

CHROMIUM = "/usr/bin/chromium"
METRICS = (
    "loss", "entropy", "mismatch", "clip_fraction", "grad_norm", "kl", "learning_rate", "reward",
    "zero_variance_fraction", "correct", "think_tokens", "answer_tokens", "cut_fraction", "malformed",
    "stopped_accuracy", "slip_rate", "correct/2", "correct/3", "seconds", "tokens_per_second",
)  # fmt: skip
"""Those that a run records."""
CHECKPOINTS = 30
TIMES = 5
"""Times that a page is opened."""
OPENED = {
    "cold": "from the command to the table",
    "fresh": "opened in a browser that is new to it",
    "again": "opened again",
}
EMPTY = """
import marimo
app = marimo.App(width="full")

@app.cell
def _():
    import marimo as mo
    mo.Html('<table class="runs"><tbody><tr><td>a cell</td></tr></tbody></table>')
"""
"""An app of marimo's that does nothing."""


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


def opened(command: Sequence[str], port: int) -> dict[str, float]:
    """Seconds to the table in a browser: of a server that starts, and of one that runs (medians)."""
    from playwright.sync_api import Page, sync_playwright

    address = f"http://127.0.0.1:{port}"

    def shown(page: Page, ask: Callable[[], object]) -> float:
        def wait() -> None:
            while not _answers(ask):
                time.sleep(0.02)
            page.wait_for_selector(".runs tbody tr", timeout=120_000)

        return _seconds(wait)

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])

        def new() -> Page:
            return browser.new_context(viewport={"width": 1280, "height": 800}).new_page()

        known = new()
        start = time.perf_counter()
        with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL) as server:
            shown(known, lambda: known.goto(address))
            cold = time.perf_counter() - start
            fresh = [shown(page, lambda page=page: page.goto(address)) for page in (new() for _ in range(TIMES))]
            again = [shown(known, known.reload) for _ in range(TIMES)]
            server.terminate()
        browser.close()
    return {"cold": cold, "fresh": statistics.median(fresh), "again": statistics.median(again)}


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
        root, empty, port = Path(folder, "runs"), Path(folder, "empty.py"), str(_free_port())
        write(root, asked.runs, asked.steps)
        empty.write_text(EMPTY)
        peer = opened(["marimo", "-q", "run", "--headless", "--no-token", "--port", port, str(empty)], int(port))
        own = opened(["scaling", "dashboard", str(root), "--port", port], int(port))
        found = looked(root, asked.steps)
    if asked.json:
        print(json.dumps({"dashboard": own, "empty app": peer, "looks": found}, indent=1))
        return 0
    table = Table("what", "seconds", "an empty app", title=f"{asked.runs} runs of {asked.steps} steps")
    for name, words in OPENED.items():
        table.add_row(words, f"{own[name]:.2f}", f"{peer[name]:.2f}")
    for words, seconds in found.items():
        table.add_row(words, f"{seconds:.2f}")
    Console().print(table)
    return 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
