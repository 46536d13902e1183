"""`python -m benchmarks [NAME…] [--json]`: how fast, beside whom. Some peers come with the extra `bench`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks import Row, pin


def registry() -> dict[str, Callable[[], list[Row]]]:
    """Benchmarks by name. Imported here and not above, so that threads are pinned first."""
    from benchmarks.bootstrap import bootstrap, families
    from benchmarks.engine import grid_tokens, peak, sampling, train_step

    return {
        "bootstrap": bootstrap,
        "families": families,
        "peak": peak,
        "train_step": train_step,
        "sampling": sampling,
        "grid_tokens": grid_tokens,
    }


def table(rows: Sequence[Row]) -> Table:
    found = Table(title="Benchmarks: medians of interleaved repetitions, one thread")
    for name in ("benchmark", "ours", "peer", "times as fast", "unit"):
        found.add_column(name, justify="right" if name in ("ours", "peer", "times as fast") else "left")
    for row in rows:
        found.add_row(row.name, f"{row.ours:.4g}", f"{row.peer:.4g}", f"{row.ratio:.3g}", row.unit)
    return found


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks; all, if none is named")
    parser.add_argument("--json", action="store_true", help="a list of rows: name, ours, peer, ratio, unit, note")
    asked = parser.parse_args(args)
    pin()
    known = registry()
    if wrong := [name for name in asked.names if name not in known]:
        parser.error(f"no benchmark {', '.join(wrong)}; there are {', '.join(known)}")
    rows = [row for name in asked.names or known for row in known[name]()]
    if asked.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        console = Console()
        console.print(table(rows))
        for row in rows:
            console.print(f"{row.name}: {row.note}.", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
