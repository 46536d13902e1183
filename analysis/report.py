"""A run's report: an HTML page, its figures as PNG, and answer.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis import plots
from analysis.beyond import TrainTest, more_samples, train_test
from analysis.drawing import Chart, save
from analysis.facts import facts
from analysis.frontier_plot import plot_frontier
from analysis.page import page
from analysis.run_backtest import RunBacktest, run_backtest
from analysis.run_backtest_plot import plot_run_backtest
from analysis.study import Study, study
from scaling.files import replace
from scaling.quantities import flops, seconds


def write_report(run_dir: str | Path) -> dict[str, Any]:
    """Write report.html, answer.json and the figures as PNG into the run's directory: panels, heatmap, compute,
    time; frontier and backtest where the run has the points.

    Returns what answer.json holds (`analysis.facts` documents it), and "files": the paths. Raises RecordError
    where no evaluation is complete and sound, or the run's config, manifests or training rows are damaged.
    """
    found = study(run_dir)
    folder = found.run.path
    traded, checked = train_test(found.estimates), run_backtest(found.estimates)
    said = facts(found, traded, more_samples(found), checked)
    charts = _charts(found, traded, checked, said["compute"])
    files = [save(chart, folder / f"{name}.png") for name, chart in charts.items()]
    files += [folder / "answer.json", folder / "report.html"]
    replace(files[-2], json.dumps(said, indent=1, allow_nan=False).encode() + b"\n")
    replace(files[-1], page(said, {name: chart.to_dict() for name, chart in charts.items()}).encode())
    return said | {"files": [str(file) for file in files]}


def _charts(
    found: Study, traded: TrainTest | str, checked: RunBacktest, spent: Sequence[Mapping[str, Any]]
) -> dict[str, Chart]:
    charts = {"panels": plots.panels(found), "heatmap": plots.heatmap(found.estimates)}
    if isinstance(traded, TrainTest):
        charts["frontier"] = plot_frontier(traded.surface, traded.points)
    if checked.comparisons:
        charts["backtest"] = plot_run_backtest(checked)
    return charts | {
        "compute": _bars(spent, "flops", flops, title="Train compute", axis="FLOPs", number=".1e"),
        "time": _bars(spent, "seconds", seconds, title="Wall time", axis="Seconds", number=",.0f"),
    }


def _bars(spent: Sequence[Mapping[str, Any]], kind: str, show: Callable[[float], str], *, title: str, **axis: str):
    named = {row["phase"]: float(row[kind]) for row in spent if row[kind]}
    total = sum(named.values())
    label = [f"{show(value)} ({value / total:.0%})" for value in named.values()]
    return plots.bars(named, label, title=f"{title} by phase, {show(total)} in all", **axis)
