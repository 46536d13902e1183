"""The facts of a run's report as plain data: what answer.json holds and `scaling report --json` prints.

Compute is in FLOPs, test compute in FLOPs per problem, accuracy a share in [0, 1], budgets in thinking tokens,
time in seconds; an interval's ends are lo90, hi90 (90%) or lo95, hi95 (95%). One JSON object:

    question        what is asked
    answer          the answer on training in one sentence
    sentences       {rl, budget, votes}: a plain sentence on training, on thinking longer, on a majority vote
    verdict         the same curves as `scaling fit` words them
    definition      what saturated, not saturated and cannot tell mean
    name, task      of the run
    seed            of the run
    headline_budget, votes_budget   at which training is looked at; at which samples vote
    numbers         accuracy before RL and at the last checkpoint, sizes, and what each axis spans in decades
    left_out        a line for each evaluation that is incomplete or damaged, an empty list where none is
    answers         one object a curve, as in `analysis.answers`, with its table and fits
    train_test      {points, rate, reason, misfit, weights, converged}, rate the times of test compute that 10×
                    train compute is worth; or {reason}
    more_samples    {budget, drawn, problems, pass, maj}, each {at: {k: estimate}, limit}; or {reason}
    backtest        {forecasts, left_out}: of this run's curves with the last points hidden, each {curve,
                    hidden_times, seen, last_seen, hidden, inside, mean_error, points}, a point {compute, median,
                    lo90, hi90, came, inside}
    compute         rows {phase, flops, share, tokens, seconds}; flops, share, tokens null where a phase has none
    checkpoints     rows {checkpoint, step, phase, train_flops, rl_flops, accuracy, lo95, hi95} at headline_budget
    before_after    rows {budget, before, after}, each {accuracy, stopped_accuracy, malformed, slips}, a share null
                    of nothing
    calibration     as in `analysis.answers`
    assumptions     what was assumed, a sentence each
    reproduction    {commands, started_with, config_hash, seed, fit_seed, source, python, packages, platform,
                    devices}

`scaling report --json` adds run (the directory), state, files and next.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis import answers
from analysis.beyond import MoreSamples, TrainTest
from analysis.load import evaluation_seconds, last_ledgers
from analysis.run_backtest import RunBacktest
from analysis.saturation import DEFINITION
from analysis.study import Study
from analysis.words import describe, plain

QUESTION = "How far is this run from saturating, in the compute that trains it and in the compute it answers with?"
DOING = {
    "rl": "training with reinforcement learning (RL)",
    "budget": "answering with longer thinking",
    "votes": "answering by a majority vote of more samples",
}
PHASES = {
    "warm_start": "warm start (supervised)",
    "rollout": "RL rollouts",
    "update": "RL updates",
    "reference": "RL reference",
    "verify": "verifying",
    "compile": "compiling",
    "checkpoint": "checkpoints",
    "records": "records and tracking",
    "evaluate": "evaluation",
    "other": "other",
}
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "polars", "altair")
ASSUMPTIONS = (
    "The next decade of compute continues the regime of the last points. No formula foresees a late second rise; "
    "the guarded view leaves room for a drift as large as this curve's own past, or a usual curve's, has shown.",
    "The held-out problems stand for the ones that matter: every interval is over redrawing problems, the same "
    "ones at every point, and over the scatter of checkpoints about the curve.",
    "One run with one seed: what another seed would give is not in the intervals.",
    "What is said of more samples is said of these problems and of samples drawn like these ones.",
)


def facts(
    found: Study, traded: TrainTest | str, sampled: MoreSamples | str, checked: RunBacktest
) -> dict[str, Any]:
    """A run's report as plain data; the module's docstring is its schema."""
    sentences = {key: plain(found.curve(key).answer, doing) for key, doing in DOING.items()}
    return {
        "question": QUESTION,
        "answer": sentences["rl"],
        "sentences": sentences,
        "verdict": " ".join(describe(found.curve(key).answer) for key in DOING),
        "definition": DEFINITION,
        "name": found.run.path.resolve().name,
        "task": found.config.get("task", {}).get("name", ""),
        "seed": found.config.get("seed"),
        "headline_budget": found.headline,
        "votes_budget": found.votes,
        "numbers": _numbers(found),
        "left_out": list(found.left_out),
        "answers": [answers.curve(curve) for curve in found.curves],
        "train_test": _section(traded),
        "more_samples": _section(sampled),
        "backtest": checked.as_dict(),
        "compute": _compute(found),
        "checkpoints": _checkpoints(found),
        "before_after": _before_after(found),
        "calibration": answers.calibration_facts(),
        "assumptions": list(ASSUMPTIONS),
        "reproduction": _reproduction(found),
    }


def _section(found: TrainTest | MoreSamples | str) -> dict[str, Any]:
    return {"reason": found} if isinstance(found, str) else found.as_dict()


def _numbers(found: Study) -> dict[str, Any]:
    """Accuracies at the headline setting, and what each axis spans."""
    means = found.estimates.filter(estimator="mean", budget=found.headline)
    at = {row["checkpoint"]: row for row in means.to_dicts()}
    first, last = at[found.states[0]], at[found.states[-1]]
    return {
        "checkpoints": len(means),
        "problems": last["n"],
        "accuracy_before_rl": first["accuracy"] if first["rl_flops"] == 0 else None,
        "accuracy_last": last["accuracy"],
        "half_width_95_last": (last["hi95"] - last["lo95"]) / 2,
        "rl_decades": _decades(found.curve("rl").series.compute),
        "train_decades": _decades(means["train_flops"]),
        "budget_decades": _decades(found.curve("budget").series.compute),
        "votes_decades": _decades(found.curve("votes").series.compute),
    }


def _decades(compute: Any) -> float:
    inside = [float(c) for c in compute if c > 0]
    return math.log10(max(inside) / min(inside)) if inside else 0.0


def _compute(found: Study) -> list[dict[str, Any]]:
    """By phase, the last step's ledger, or the last checkpoint's where that counts more; evaluation by its own
    rows."""
    ledgers = [row["ledger"] for row in last_ledgers(found.run.path)]
    flops, tokens, seconds = (
        {
            phase: max(ledger[kind].get(phase, 0) for ledger in ledgers)
            for phase in dict.fromkeys(phase for ledger in ledgers for phase in ledger[kind])
        }
        for kind in ("flops", "tokens", "seconds")
    )
    evaluating, compiling = evaluation_seconds(found.run.path)
    seconds |= {"evaluate": evaluating, "compile": seconds.get("compile", 0.0) + compiling}
    whole = sum(flops.values())
    return [
        {
            "phase": PHASES.get(phase, phase),
            "flops": flops.get(phase) or None,
            "share": flops[phase] / whole if flops.get(phase) else None,
            "tokens": tokens.get(phase) or None,
            "seconds": float(seconds.get(phase, 0.0)),
        }
        for phase in dict.fromkeys([*PHASES, *flops, *seconds])
        if flops.get(phase) or seconds.get(phase)
    ]


def _checkpoints(found: Study) -> list[dict[str, Any]]:
    rows = found.estimates.filter(estimator="mean", budget=found.headline).sort("step")
    phase = (
        pl.when(pl.col("rl_flops") > 0).then(pl.lit("RL"))
        .when(pl.col("phase") == "rl").then(pl.lit("before RL"))
        .otherwise(pl.lit("warm start"))
    )  # fmt: skip
    columns = ("checkpoint", "step", phase.alias("phase"), "train_flops", "rl_flops", "accuracy", "lo95", "hi95")
    return rows.select(*columns).to_dicts()


def _before_after(found: Study) -> list[dict[str, Any]]:
    """Of the states before RL and last, by budget; empty where they are one."""
    if len(found.states) < 2:
        return []
    sums = (
        found.outcomes.filter(pl.col("checkpoint").is_in([found.states[0], found.states[-1]]))
        .group_by("step", "budget")
        .agg(pl.col("samples", "correct", "stopped", "stopped_correct", "malformed", "lines", "slips").sum())
        .sort("budget", "step")
    )
    rows = []
    for (budget,), pair in sums.partition_by("budget", as_dict=True, maintain_order=True).items():
        shares = [
            {
                "accuracy": _share(row["correct"], row["samples"]),
                "stopped_accuracy": _share(row["stopped_correct"], row["stopped"]),
                "malformed": _share(row["malformed"], row["samples"]),
                "slips": _share(row["slips"], row["lines"]),
            }
            for row in pair.to_dicts()
        ]
        rows.append({"budget": budget} | dict(zip(("before", "after"), shares, strict=True)))
    return rows


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _reproduction(found: Study) -> dict[str, Any]:
    first = found.run.environment()
    started: Sequence[dict[str, Any]] = [first, *first.get("later", [])]
    latest, path = started[-1], str(found.run.path)
    run, again, config, table = map(
        shlex.quote,
        (path, f"{path}-again", str(found.run.config_file), f"{found.run.path.resolve().name}.csv"),
    )
    packages = latest.get("packages", {})
    return {
        "commands": [
            f"scaling run {config} --dir {again}",
            f"scaling evaluate {run}",
            f"scaling fit {run}",
            f"scaling report {run}",
            f"scaling export {run} -o {table}",
        ],
        "started_with": list(dict.fromkeys(one["command"] for one in started if "command" in one)),
        "config_hash": found.run.config_hash(),
        "seed": found.config.get("seed"),
        "fit_seed": found.seed,
        "source": latest.get("git_commit"),
        "python": latest.get("python"),
        "packages": {name: packages[name] for name in PACKAGES if name in packages},
        "platform": latest.get("platform"),
        "devices": list(map(str, latest.get("devices", []))),
    }
