"""Answers as data and as text: what `scaling fit` prints and writes.

The JSON object of `scaling fit --json` has (a run's answer.json: `analysis.facts`)

    verdict      the sentences of all curves
    definition   what saturated, not saturated and cannot tell mean
    calibration  {reaches, factors, command, inputs}: what widths are multiplied by, and its origin
    notes        lines about the input, an empty list where there is nothing to say
    files        what was written
    predictions  with --at: a row a curve and compute, quantiles of its level
    curves       one object a curve: source; every field of `analysis.saturation.Answer` (an estimate is
                 {median, lo90, hi90}, null where it lies beyond what is named); sentence; table, a list of
                 [name, text]; fits, one object a form: form, formula, reference, parameters, weight, evidence,
                 skill, converged, starts_agreeing, replicates
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis import calibration, load
from analysis.fit import CurveFit, Fit, fit, predictions
from analysis.outputs import unusable, unusable_folder, write
from analysis.posterior import FormFit
from analysis.saturation import DEFINITION
from analysis.series import MIN_POINTS
from analysis.table import TableError
from analysis.words import describe, rows
from scaling.quantities import flops

PREDICTED = ("curve", "compute", "median", "lo50", "hi50", "lo90", "hi90", "source", "interval")
"""Columns of --predict: quantiles in the table's own metric, and what they are of: observed values or levels."""


@dataclass(frozen=True)
class Wanted:
    """What is to be made besides the answers."""

    predict: Path | None = None
    """A CSV of forecasts for the holdout rows, and for `at`."""
    at: tuple[float, ...] = ()
    """Computes at which every curve is forecast."""
    plot: Path | None = None
    """A folder for curves.png and curves.html."""


def answer(paths: Sequence[str | Path], x: str | None, y: str | None, wanted: Wanted) -> dict[str, Any]:
    """Load, fit, answer, write what is wanted: the facts, with `files` and, for `at`, `predictions`.

    Raises TableError where an input or what is wanted of it cannot be had; nothing is written then.
    """
    frame, notes = load.gather(paths, x, y)
    hidden = frame.filter(split="holdout")
    wrong = _unusable(wanted, not hidden.is_empty())
    if wrong:
        raise TableError(wrong)
    found = fit(frame)
    out = facts(found, [str(note) for note in notes])
    files: list[str] = []
    forecasts = []
    if not hidden.is_empty():
        forecasts.append(predictions(found, frame))
        out["notes"] += _not_forecast(hidden, forecasts[0])
    if wanted.at:
        made = found.predict(wanted.at).with_columns(interval=pl.lit("level"))
        forecasts.append(made)
        out["predictions"] = made.to_dicts()
    if wanted.predict is not None:
        write(pl.concat(forecasts).select(PREDICTED), wanted.predict)
        files.append(str(wanted.predict))
    if wanted.plot is not None:
        from analysis.curve_plot import plot_curves, save

        wanted.plot.mkdir(parents=True, exist_ok=True)
        chart = plot_curves(found)
        for name in ("curves.png", "curves.html"):
            save(chart, wanted.plot / name)
            files.append(str(wanted.plot / name))
    return out | {"files": files}


def _not_forecast(hidden: pl.DataFrame, made: pl.DataFrame) -> list[str]:
    """A line for each curve whose holdout rows have no forecast."""
    rows = hidden.join(made, on=["source", "curve"], how="anti", nulls_equal=True)
    counts = rows.group_by("source", "curve", maintain_order=True).len().iter_rows()
    return [
        f"{curve if source is None else f'{source}, {curve}'}: {count} holdout rows are not forecast; a fit needs "
        f"{MIN_POINTS} points with compute whose split is fit"
        for source, curve, count in counts
    ]


def unusable_computes(at: Sequence[float]) -> list[str]:
    """A line for each that nothing can be forecast at."""
    return [f"--at = {one}: must be a compute above 0" for one in at if not 0 < one < float("inf")]


def _unusable(wanted: Wanted, hidden: bool) -> list[str]:
    wrong = unusable_computes(wanted.at)
    if wanted.predict is not None:
        if not hidden and not wanted.at:
            wrong.append("--predict: needs rows whose split is holdout, or computes by --at")
        wrong += unusable("--predict", wanted.predict)
    if wanted.plot is not None:
        wrong += unusable_folder("--plot", wanted.plot)
    return wrong


def facts(found: Fit, notes: Sequence[str] = ()) -> dict[str, Any]:
    """A fit as plain data; the module's docstring is its schema."""
    curves = [curve(one) for one in found.curves]
    return {
        "verdict": " ".join(one["sentence"] for one in curves),
        "definition": DEFINITION,
        "calibration": calibration_facts(),
        "notes": list(notes),
        "curves": curves,
    }


def curve(found: CurveFit) -> dict[str, Any]:
    """One curve as plain data."""
    posterior = None if found.forecast is None else found.forecast.posterior
    return {
        "source": found.series.source,
        **found.answer.as_dict(),
        "sentence": describe(found.answer),
        "table": rows(found.answer, posterior),
        "fits": [] if posterior is None else [form(one) for one in posterior.fits],
    }


def form(found: FormFit) -> dict[str, Any]:
    """One fitted form as plain data; a parameter beyond what a float holds is null."""
    return {
        "form": found.curve.name,
        "formula": found.curve.formula,
        "reference": found.curve.reference,
        "parameters": {name: value if math.isfinite(value) else None for name, value in found.parameters.items()},
        "weight": found.weight,
        "evidence": found.evidence,
        "skill": found.skill,
        "converged": found.converged,
        "starts_agreeing": found.starts_agreeing,
        "replicates": len(found.replicates),
    }


def calibration_facts() -> dict[str, Any]:
    """The factors in use and what they were learned from."""
    known = json.loads(calibration.FILE.read_text())
    return {name: known[name] for name in ("reaches", "factors", "command", "inputs")}


def text(found: dict[str, Any]) -> str:
    """`facts` for a terminal."""
    lines, source = [], None
    for one in found["curves"]:
        if one["source"] != source:
            source = one["source"]
            lines += [] if source is None else [f"{source}:"]
        lines.append(one["sentence"])
        lines += [f"    {name:<30}{shown}" for name, shown in one["table"]]
        if one["reason"]:
            lines.append(f"    {one['reason']}")
        lines.append("")
    for row in found.get("predictions", ()):
        name, at = row["curve"], flops(row["compute"])
        ends = " to ".join(f"{row[end]:.4g}" for end in ("lo90", "hi90"))
        lines.append(f"{name} at {at}: {row['median']:.4g} (90%: {ends})")
    if "predictions" in found:
        lines.append("")
    return "\n".join([*lines, found["definition"]])
