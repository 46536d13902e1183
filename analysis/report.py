"""What a run's curves say, as data, as text, and as a report: HTML, four PNGs and answer.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vl_convert

from analysis import plots
from analysis.fit import Fit
from analysis.load import evaluation_seconds
from analysis.page import page
from analysis.saturation import DEFINITION, Answer, Estimate, describe, percent, points
from analysis.study import Study, study
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
    "evaluate": "evaluation",
    "other": "other",
}


def fit_run(run_dir: str | Path) -> dict[str, Any]:
    """Every curve of a run with its answer and its fits, as plain data; also what answer.json holds."""
    return _answer(study(run_dir))


def write_report(run_dir: str | Path, command: str | None = None) -> dict[str, Any]:
    """Write report.html, panels, heatmap, compute and time as PNG, and answer.json into the run's directory.

    `command`: the exact command, where it is not the one that the run's environment recorded. Returns the
    facts: "verdict" (a sentence), "files" (paths), "numbers" (headline figures) and "answers".
    """
    found = study(run_dir)
    folder = found.run.path
    ledger = _ledger(found)
    ledger["seconds"]["evaluate"] = evaluation_seconds(folder)
    charts = {
        "panels": plots.panels(found),
        "heatmap": plots.heatmap(found),
        "compute": _bars(ledger["flops"], PHASES, plots.flops, title="Train compute", axis="FLOPs", number=".1e"),
        "time": _bars(ledger["seconds"], TIMES, _seconds, title="Wall time", axis="Seconds", number=",.0f"),
    }
    specs = {name: chart.to_dict() for name, chart in charts.items()}
    files = []
    for name, spec in specs.items():
        files.append(folder / f"{name}.png")
        replace(files[-1], vl_convert.vegalite_to_png(spec, scale=2))
    facts = _answer(found)
    files.append(folder / "answer.json")
    replace(files[-1], json.dumps(facts, indent=1, allow_nan=False).encode() + b"\n")
    files.append(folder / "report.html")
    replace(files[-1], page(found, facts, specs, command).encode())
    return {
        "verdict": facts["verdict"],
        "files": [str(file) for file in files],
        "numbers": facts["numbers"],
        "answers": facts["answers"],
    }


def format_answer(facts: Mapping[str, Any]) -> str:
    """The answers of `fit_run` as text for a terminal."""
    lines = [facts["verdict"], ""]
    for found in facts["answers"]:
        lines.append(f"{found['curve']}: {found['verdict']}")
        lines += [f"    {name:<28}{value}" for name, value in found["table"]]
        if found["reason"]:
            lines.append(f"    {found['reason']}")
        lines.append("")
    return "\n".join([*lines, facts["definition"]])


def _answer(found: Study) -> dict[str, Any]:
    answers = [
        curve.answer.as_dict()
        | {"sentence": describe(curve.answer), "table": _rows(curve.answer)}
        | {"fits": [_fit(f) for f in curve.mixture.fits] if curve.mixture else []}
        for curve in found.curves
    ]
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
        "answers": answers,
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


def _fit(found: Fit) -> dict[str, Any]:
    return {
        "form": found.curve.name,
        "formula": found.curve.formula,
        "reference": found.curve.reference,
        "parameters": found.parameters,
        "log_likelihood": found.log_likelihood,
        "converged": found.converged,
        "starts_agreeing": found.starts_agreeing,
        "held_out_rmse": found.held_out_rmse,
        "origins": found.origins,
        "replicates": len(found.replicates),
    }


def _rows(found: Answer) -> list[tuple[str, str]]:
    """The numbers of an answer, with what they rest on, as (name, text)."""
    rows = []
    if found.data_range is not None:
        low, high = map(plots.flops, found.data_range)
        rows.append(("data", f"{found.points} points, {found.problems} problems, {low} to {high} FLOPs"))
    if found.now is None or found.gain_2x is None or found.extrapolated_to is None:
        return rows
    rows.append(("accuracy at the last point", _interval(found.now, percent)))
    rows.append(("gain from the next 2×", _interval(found.gain_2x, points)))
    rows.append(("gain from the next 10×", _interval(found.gain_10x, points)))
    rows.append(("  extrapolated to", f"{plots.flops(found.extrapolated_to)} FLOPs"))
    rows.append(("P(gain of 10× < .02)", f"{found.probability:.2f}"))
    asymptote = _interval(found.asymptote, percent)
    rows.append(("asymptote", asymptote if found.identified else f"not identified: {asymptote}"))
    rows.append(("headroom", _interval(found.headroom, points)))
    rows.append(("share of the gain realised", _interval(found.realised, percent)))
    rows.append(("compute to 95% of asymptote", _interval(found.compute_95, _compute)))
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in (found.weights or {}).items())
    rows.append(("weight of each form", weights))
    return rows


def _interval(value: Estimate | None, show: Any) -> str:
    if value is None:
        return ""
    return f"{show(value.median)} ({show(value.lo90)} to {show(value.hi90)})"


def _compute(value: float | None) -> str:
    return "beyond" if value is None else plots.flops(value)


def _seconds(value: float) -> str:
    if value >= 3600:
        return f"{value / 3600:.1f} h"
    return f"{value / 60:.1f} min" if value >= 60 else f"{value:.1f} s"


def _ledger(found: Study) -> dict[str, dict[str, float]]:
    """FLOPs and seconds by phase so far: the last step's, or the last checkpoint's where that counts more."""
    rows = [*found.run.train_rows()[-1:], *found.run.manifests()[-1:]]
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
