"""What a run's curves say, as data, as text, and as a report: HTML, its figures as PNG, and answer.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis import answers, plots
from analysis.beyond import MoreSamples, TrainTest, more_samples, train_test
from analysis.drawing import Chart, save
from analysis.frontier_plot import plot_frontier
from analysis.load import evaluation_seconds, last_ledgers
from analysis.page import page
from analysis.saturation import DEFINITION
from analysis.study import Study, study
from analysis.words import describe, flops
from scaling.records import replace

PHASES = {
    "warm_start": "warm start",
    "rollout": "RL rollouts",
    "update": "RL updates",
    "reference": "RL reference",
}
TIMES = PHASES | {
    "verify": "verifying",
    "compile": "compiling",
    "checkpoint": "checkpoints",
    "records": "records and tracking",
    "evaluate": "evaluation",
    "other": "other",
}


def write_report(run_dir: str | Path, command: str | None = None) -> dict[str, Any]:
    """Write report.html, its figures (panels, heatmap, compute, time; frontier where the run allows it) as PNG,
    and answer.json into the run's directory.

    `command`: the exact command, where it is not the one that the run's environment recorded. Returns the
    facts: "verdict" (a sentence), "files" (paths), "numbers" (headline figures) and "answers".
    """
    found = study(run_dir)
    folder = found.run.path
    traded, sampled = train_test(found), more_samples(found)
    charts = _charts(found, traded)
    files = [save(chart, folder / f"{name}.png") for name, chart in charts.items()]
    facts = _answer(found) | {"train_test": _section(traded), "more_samples": _section(sampled)}
    files += [folder / "answer.json", folder / "report.html"]
    replace(files[-2], json.dumps(facts, indent=1, allow_nan=False).encode() + b"\n")
    specs = {name: chart.to_dict() for name, chart in charts.items()}
    replace(files[-1], page(found, facts, specs, traded, sampled, command).encode())
    return {
        "verdict": facts["verdict"],
        "files": [str(file) for file in files],
        "numbers": facts["numbers"],
        "answers": facts["answers"],
    }


def _charts(found: Study, traded: TrainTest | str) -> dict[str, Chart]:
    ledger = _ledger(found)
    evaluating, compiling = evaluation_seconds(found.run.path)
    ledger["seconds"] |= {"evaluate": evaluating, "compile": ledger["seconds"].get("compile", 0.0) + compiling}
    charts = {"panels": plots.panels(found), "heatmap": plots.heatmap(found)}
    if isinstance(traded, TrainTest):
        charts["frontier"] = plot_frontier(traded.surface, traded.points)
    return charts | {
        "compute": _bars(ledger["flops"], PHASES, flops, title="Train compute", axis="FLOPs", number=".1e"),
        "time": _bars(ledger["seconds"], TIMES, _seconds, title="Wall time", axis="Seconds", number=",.0f"),
    }


def _section(found: TrainTest | MoreSamples | str) -> dict[str, Any]:
    return {"reason": found} if isinstance(found, str) else found.as_dict()


def _answer(found: Study) -> dict[str, Any]:
    rl, longer, voted = (found.curve(key).answer for key in ("rl", "budget", "votes"))
    verdict = " ".join(describe(answer) for answer in (rl, longer, voted))
    return {
        "verdict": verdict,
        "run": found.run.path.resolve().name,
        "seed": found.config.get("seed"),
        "headline_budget": found.headline,
        "votes_budget": found.votes,
        "definition": DEFINITION,
        "numbers": _numbers(found),
        "answers": [answers.curve(curve) for curve in found.curves],
    }


def _numbers(found: Study) -> dict[str, Any]:
    """Accuracies at the headline setting, and what each axis spans."""
    means = found.estimates.filter(estimator="mean", budget=found.headline)
    at = {row["checkpoint"]: row for row in means.to_dicts()}
    first, last = at[found.states[0]], at[found.states[-1]]
    rl = found.curve("rl").series.compute
    inside = rl[rl > 0]
    return {
        "checkpoints": len(means),
        "problems": last["n"],
        "accuracy_before_rl": first["accuracy"] if first["rl_flops"] == 0 else None,
        "accuracy_last": last["accuracy"],
        "half_width_95_last": (last["hi95"] - last["lo95"]) / 2,
        "rl_decades": math.log10(inside[-1] / inside[0]) if len(inside) else 0.0,
        "train_decades": _decades(means["train_flops"]),
        "budget_decades": _decades(found.curve("budget").series.compute),
        "votes_decades": _decades(found.curve("votes").series.compute),
    }


def _decades(compute: Any) -> float:
    inside = [float(c) for c in compute if c > 0]
    return math.log10(max(inside) / min(inside)) if inside else 0.0


def _seconds(value: float) -> str:
    if value >= 3600:
        return f"{value / 3600:.1f} h"
    return f"{value / 60:.1f} min" if value >= 60 else f"{value:.1f} s"


def _ledger(found: Study) -> dict[str, dict[str, float]]:
    """FLOPs and seconds by phase so far: the last step's, or the last checkpoint's where that counts more."""
    rows = last_ledgers(found.run.path)
    return {
        kind: {
            phase: max(row["ledger"][kind].get(phase, 0) for row in rows)
            for phase in dict.fromkeys(phase for row in rows for phase in row["ledger"][kind])
        }
        for kind in ("flops", "seconds")
    }


def _bars(spent: Mapping[str, float], names: Mapping[str, str], show: Any, *, title: str, **axis: str) -> Any:
    named = {name: float(spent[key]) for key, name in names.items() if spent.get(key)}
    named |= {key: float(value) for key, value in spent.items() if key not in names and value}
    total = sum(named.values())
    label = [f"{show(value)} ({value / total:.0%})" for value in named.values()]
    return plots.bars(named, label, title=f"{title} by phase, {show(total)} in all", **axis)
