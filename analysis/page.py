"""The report as one HTML page that needs nothing else: charts drawn by a Vega bundle inside it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
import vl_convert

from analysis import calibration
from analysis.beyond import MoreSamples, TrainTest
from analysis.calibration import Calibration
from analysis.curves import Floats
from analysis.frontier_plot import headline
from analysis.posterior import REPLICATES
from analysis.saturation import DEFINITION
from analysis.study import Study
from analysis.surface import FORMS
from analysis.words import describe, flops, percent

QUESTION = "How far is this run from saturating, in the compute that trains it and in the compute it answers with?"
ASSUMPTIONS = (
    "The next decade of compute continues the regime of the last points. No form foresees a late second rise; the "
    "guarded view leaves room for a drift as large as this curve's own past, or a usual curve's, has shown.",
    "The held-out problems stand for the ones that matter: every interval of the posterior view is over redrawing "
    "problems, the same ones at every point, and over the scatter of checkpoints about the curve.",
    "One run with one seed: what another seed would give is not in the intervals.",
    "What is said of more samples is said of these problems and of samples drawn like these ones.",
)
FITTED = f"""
<p>The forms are fitted by their penalised binomial likelihood under weak priors, each point at the sample
size that its variance amounts to, from several starts: to all points, to those after each candidate for the
beginning of the regime that goes on, and to the past of rolling origins. Where leaving an earlier regime
out gains more evidence than it costs, it is left out, and the table above says so. A form's weight follows
from its evidence (Laplace's approximation, by half) and from how well it forecast the curve's own points
past those origins. Each form has {REPLICATES} bootstrap replicates, with redrawn problems (the same at
every point), scatter of checkpoints, and a redrawn centre of the prior. Forms with a level at no compute
take the state before RL as a point; the others leave it out.</p>
<p>Paths come from two views. The posterior view believes the forms: its paths are their replicates. It is
held only where counts say how far off a point can be, and less where the reach exceeds the range of the
data. The guarded view believes no form: it takes a mean of all of them and of damped recent trends, with a
drift that nothing explains, as large as errors of past forecasts. Each counts as often as the curve's own
past bears it out: the table above says how often the forms are believed at 10×.</p>
"""
STYLE = """
body { font: 16px/1.5 system-ui, Helvetica, Arial, sans-serif; color: #222; margin: 2.5em auto;
       max-width: 1180px; padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: .2em; } h2 { font-size: 1.2em; margin: 2em 0 .5em; }
.answer { font-size: 1.1em; background: #f2f6fa; border-left: 4px solid #0072B2; padding: .7em 1em; }
.wide { overflow-x: auto; } .note { color: #555; font-size: .92em; }
table { border-collapse: collapse; font-size: .92em; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th { font-weight: 600; } td:first-child, th:first-child { text-align: left; }
pre { background: #f5f5f5; padding: .7em 1em; overflow-x: auto; font-size: .88em; }
"""


def page(
    found: Study, facts: Mapping[str, Any], specs: Mapping[str, Any], traded: TrainTest | str,
    sampled: MoreSamples | str, command: str | None,
) -> str:  # fmt: skip
    """The whole page. facts: what answer.json holds; specs: a Vega-Lite chart for every name in it."""
    environment = found.run.environment()
    latest = [environment, *environment.get("later", [])][-1]
    headline = [describe(found.curve(key).answer) for key in ("rl", "budget", "votes")]
    sentences = "".join(f"<p>{_safe(sentence)}</p>" for sentence in headline)
    spec_lines = "".join(
        f"vegaEmbed('#{name}', {_script(spec)}, {{renderer: 'svg', actions: false}});\n"
        for name, spec in specs.items()
    )
    task = found.config.get("task", {}).get("name", "")
    title = f"Run {facts['run']}: how far from saturating?"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{_safe(title)}</title><style>{STYLE}</style></head><body>
<h1>{_safe(title)}</h1>
<p>{QUESTION} Task {_safe(task)}, {facts["numbers"]["problems"]} held-out problems,
{facts["numbers"]["checkpoints"]} checkpoints, seed {_safe(facts["seed"])}.</p>
<div class="answer">{sentences}</div>
<h2>Accuracy against compute</h2>
<div class="wide" id="panels"></div>
<p class="note">Left: training. RL's FLOPs count from its first one; the state before RL stands apart at the
left, because a logarithmic axis has no zero. Right: answering, at up to three checkpoints, by thinking longer
and by a majority vote of samples at budget {found.votes}. Points have 95% intervals. Curves: the median of the
forecast's paths with bands of 50% and 90%; past the last point (dashed) they are extrapolation. The setting on
the left is the middle one of the thinking budgets ({found.headline} tokens), mean accuracy of one sample: chosen
by this rule, not by its result. So is the budget of the vote: the largest one that has the grid's largest number
of samples.</p>
<h2>The answers in numbers</h2>
<div class="wide">{_answers_table(facts["answers"])}</div>
<p class="note">Median and 90% interval; gains and headroom in points of accuracy. {_safe(DEFINITION)}</p>
{_reasons(facts["answers"])}
<h2>Checkpoints</h2>
<div class="wide">{_checkpoint_table(found)}</div>
<h2>Before and after RL</h2>
<div class="wide">{_before_after_table(found)}</div>
<p class="note">Stopped by itself: samples whose thinking ended before the budget forced it. Malformed:
samples without an answer that could be read. Slips: checkable lines of thinking that are false.</p>
<h2>Train compute × test compute</h2><div class="wide" id="heatmap"></div>
{_train_test(traded)}
<h2>Test compute beyond the samples drawn</h2>
{_more_samples(sampled)}
<h2>Where compute and time went</h2>
<div class="wide" id="compute"></div><div class="wide" id="time"></div>
<p class="note">Evaluation is no train compute and is not counted in FLOPs here.</p>
<h2>How it was fitted</h2>
{FITTED}
<p>{_safe(_calibrated(calibration.load()))}</p>
<div class="wide">{_fit_table(facts["answers"])}</div>
<p class="note">Weight: share of the posterior view's paths. Log-evidence: 0 for a form that met every point
without a parameter. Skill: mean log-density of the points past rolling origins, as the form forecast them.</p>
<p>Assumed:</p><ul>{"".join(f"<li>{_safe(text)}</li>" for text in ASSUMPTIONS)}</ul>
<h2>To run it again</h2>
<pre>{_safe(command or latest.get("command", "unknown"))}</pre>
{_versions(latest, facts["seed"], found.run.config_hash())}
<script>{vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")}</script>
<script>
{spec_lines}</script>
</body></html>
"""


def _safe(value: Any) -> str:
    return html.escape(str(value))


def _script(spec: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(spec, allow_nan=False).replace("<", "\\u003c")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table; every cell is escaped here."""
    top = "".join(f"<th>{_safe(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _answers_table(answers: Sequence[Mapping[str, Any]]) -> str:
    tables = [dict(found["table"]) for found in answers]
    names = list(dict.fromkeys(name for table in tables for name in table))
    rows = [["verdict", *(found["verdict"] for found in answers)]]
    rows += [[name.strip(), *(table.get(name, "") for table in tables)] for name in names]
    return _table(["", *(found["curve"] for found in answers)], rows)


def _reasons(answers: Sequence[Mapping[str, Any]]) -> str:
    items = [f"<li>{_safe(a['curve'])}: {_safe(a['reason'])}.</li>" for a in answers if a["reason"]]
    return f"<ul class='note'>{''.join(items)}</ul>" if items else ""


def _train_test(traded: TrainTest | str) -> str:
    if isinstance(traded, str):
        return f"<p>{_safe(traded)}</p>"
    surface = traded.surface
    off = [name for name, fits in zip((f.name for f in FORMS), surface.converged, strict=True) if not fits]
    warning = f" Not converged: {', '.join(off)}." if off else ""
    reason = f" ({traded.exchange.reason})" if traded.exchange.reason else ""
    words = (
        f"{headline(traded.exchange)}{reason}: at equal accuracy, along lines across the data. The surface is a "
        "mean of forms that rise along both axes; points lie "
        f"{100 * surface.misfit:.1f} points of accuracy (standard deviation) about the form that follows them "
        "best, beyond what problems and scatter explain: trust no line more closely. The train axis counts the "
        f"warm start too, since the state before RL has no RL compute.{warning}"
    )
    return f'<div class="wide" id="frontier"></div><p class="note">{_safe(words)}</p>'


def _more_samples(sampled: MoreSamples | str) -> str:
    if isinstance(sampled, str):
        return f"<p>{_safe(sampled)}</p>"
    rows = [
        [f"{k}{' (drawn)' if k == sampled.drawn else ''}", _quantiles(one), _quantiles(other)]
        for k, one, other in zip(sampled.ks, sampled.passed, sampled.voted, strict=True)
    ]
    rows.append(["no bound", _quantiles(sampled.passed_limit), _quantiles(sampled.voted_limit)])
    table = _table(["Samples k", "pass@k: any is right", "maj@k: their majority is right"], rows)
    return f"""<div class="wide">{table}</div>
<p class="note">Median and 90% interval, of the last checkpoint at budget {sampled.budget}, for these
{sampled.problems} problems. pass@k follows from the rates at which problems are solved, over five families of such
rates weighed by how well they predict all samples from one in eight; its limit is the share of problems whose rate
is not 0. maj@k follows from every problem's distribution of answers; its limit is the share of problems whose most
probable answer is right. pass@k needs a verifier to pick the right sample.</p>"""


def _quantiles(row: Floats) -> str:
    return f"{percent(float(row[2]))} ({percent(float(row[0]))} to {percent(float(row[-1]))})"


def _calibrated(found: Calibration) -> str:
    factors = ", ".join(f"{f:.2f} at {r:g}×" for r, f in zip(found.reaches, found.factors, strict=True))
    return (
        "Intervals past the data are calibrated: the guarded view's width is multiplied by a factor of how far it "
        f"reaches, learned from public curves with their counts hidden ({factors}; never below 1). The posterior "
        "view, held only where counts exist, is not widened: its intervals rest on the counts and the forms."
    )


def _checkpoint_table(found: Study) -> str:
    rows = found.estimates.filter(estimator="mean", budget=found.headline).sort("step").to_dicts()
    head = ["Step", "Phase", "Train FLOPs", "RL FLOPs", f"Accuracy (budget {found.headline})", "95% interval"]
    return _table(
        head,
        [
            [
                row["step"], _phase(row), flops(row["train_flops"]), flops(row["rl_flops"]),
                percent(row["accuracy"]), f"{percent(row['lo95'])} to {percent(row['hi95'])}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _phase(row: Mapping[str, Any]) -> str:
    return "RL" if row["rl_flops"] > 0 else ("before RL" if row["phase"] == "rl" else "warm start")


def _before_after_table(found: Study) -> str:
    """Per budget: accuracy, accuracy where thinking ended by itself, malformed answers and slips."""
    if len(found.states) < 2:
        return "<p>No checkpoint of RL was evaluated.</p>"
    sums = (
        found.outcomes.filter(pl.col("checkpoint").is_in([found.states[0], found.states[-1]]))
        .group_by("step", "budget")
        .agg(pl.col("samples", "correct", "stopped", "stopped_correct", "malformed", "lines", "slips").sum())
        .sort("budget", "step")
    )
    rows = []
    for (budget,), pair in sums.partition_by("budget", as_dict=True, maintain_order=True).items():
        shares = [
            [_share(row["correct"], row["samples"]), _share(row["stopped_correct"], row["stopped"]),
             _share(row["malformed"], row["samples"]), _share(row["slips"], row["lines"])]
            for row in pair.to_dicts()
        ]  # fmt: skip
        rows.append([budget, *(f"{before} → {after}" for before, after in zip(*shares, strict=True))])
    head = ["Thinking budget", "Accuracy", "Accuracy where stopped by itself", "Malformed", "Slips"]
    return _table(head, rows)


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "none"


def _fit_table(answers: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            found["curve"],
            f["form"],
            ", ".join(f"{name} {_number(value)}" for name, value in f["parameters"].items()),
            f"{f['weight']:.2f}",
            f"{f['evidence']:.1f}",
            "none" if f["skill"] is None else f"{f['skill']:.2f}",
            f"{'yes' if f['converged'] else 'NO'}, {f['starts_agreeing']:.0%}",
        ]
        for found in answers for f in found["fits"]
    ]  # fmt: skip
    forms = {f["form"]: f for found in answers for f in found["fits"]}
    items = "".join(
        f"<li>{_safe(f['form'])}: {_safe(f['formula'])} ({_safe(f['reference'])})</li>" for f in forms.values()
    )
    head = ["Curve", "Form", "Parameters", "Weight", "Log-evidence", "Skill", "Converged, starts that agree"]
    return f"<ul>{items}</ul>{_table(head, rows)}"


def _number(value: float | None) -> str:
    return "beyond" if value is None else f"{value:.3g}"


def _versions(environment: Mapping[str, Any], seed: Any, config_hash: str) -> str:
    packages = environment.get("packages", {})
    wanted = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "polars", "altair", "optimistix")
    versions = ", ".join(f"{name} {packages[name]}" for name in wanted if name in packages)
    rows = [
        ("Seed", seed),
        ("Config hash", config_hash),
        ("Source", environment.get("git_commit") or "not in a repository"),
        ("Python", environment.get("python", "unknown")),
        ("Packages", versions or "unknown"),
        ("Platform", environment.get("platform", "unknown")),
        ("Devices", ", ".join(map(str, environment.get("devices", []))) or "unknown"),
    ]
    return _table(["", ""], rows)
