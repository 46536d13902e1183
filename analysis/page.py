"""The report as one HTML page that needs nothing else, for a reader who was not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.curves import CURVES
from analysis.markup import STYLE, drawing, figure, listed, safe, table
from analysis.posterior import REPLICATES
from analysis.quantities import percent, times
from analysis.saturation import CERTAINTY, GAIN
from scaling.quantities import flops, seconds

Facts = Mapping[str, Any]
Specs = Mapping[str, Mapping[str, Any]]
FITTED = f"""
<p>Each of {len(CURVES)} formulas is fitted to each curve, to counts of right answers. No formula is trusted
alone: each has a weight, by how well it explains the points for the parameters it has (its evidence), and by
how well it forecast the curve's later points from its earlier ones (its skill). {REPLICATES} times over, the
problems are drawn anew, the same ones at every point, checkpoints scatter anew about the curve, and every
formula is fitted again: the spread of these fits is what chance could have done. Where a curve's first points
belong to an earlier regime, which the later ones contradict, they are left out, and the table of numbers says
so.</p>
<p>A forecast joins two views. One believes the formulas. The other, guarded one believes none: it continues
recent trends, damped, and drifts as far from them as its past forecasts were off. The further ahead, the less
the formulas are believed; the table of numbers says how often at 10×.</p>
"""


def page(facts: Facts, specs: Specs) -> str:
    """The whole page. facts: as `analysis.facts` has them; specs: a Vega-Lite chart for every name in it."""
    title = f"Run {facts['name']}: how far from saturating?"
    numbers = facts["numbers"]
    about = (
        f"Task {facts['task']}, {numbers['problems']} held-out problems, {numbers['checkpoints']} checkpoints, "
        f"seed {facts['seed']}."
    )
    lead, *others = facts["sentences"].values()
    left_out = facts["left_out"]
    warning = f'<div class="warning"><p>Left out:</p>{listed(left_out)}</div>' if left_out else ""
    sections = {
        "Accuracy against compute": _panels(facts, specs),
        "The answers in numbers": _answers(facts),
        "What train compute is worth in test compute": _train_test(facts, specs),
        "More samples than were drawn": _more_samples(facts["more_samples"]),
        "Where compute and time went": _compute(facts, specs),
        "Would this run's past have foreseen its end?": _backtest(facts, specs),
        "How it was fitted, and what was assumed": _fitted(facts),
        "Checkpoints": _checkpoints(facts),
        "To run it again": _reproduction(facts["reproduction"]),
    }
    body = "\n".join(f"<section><h2>{safe(name)}</h2>\n{text}</section>" for name, text in sections.items())
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe(title)}</title><style>{STYLE}</style></head><body><main>
<h1>{safe(title)}</h1>
<p>{safe(facts["question"])} {safe(about)}</p>
<div class="answer"><p>{safe(lead)}</p>{"".join(f"<p>{safe(sentence)}</p>" for sentence in others)}</div>
<p class="note">Saturated means: ten times the compute gains less than {100 * GAIN:g} points of accuracy (100
points are all problems right) with a probability of at least {CERTAINTY}. Not saturated: it gains more with
that probability. Otherwise it cannot be told. Compute is counted in floating-point operations (FLOPs).</p>
{warning}
{body}
</main>
{drawing(specs)}
</body></html>
"""


def _panels(facts: Facts, specs: Specs) -> str:
    numbers = facts["numbers"]
    before = numbers["accuracy_before_rl"]
    began = "" if before is None else f"from {percent(before)} before RL "
    seen = (
        f"Two charts of accuracy against compute on logarithmic axes. Training: {began}to "
        f"{percent(numbers['accuracy_last'])} at the last checkpoint. Answering: longer thinking and majority "
        f"votes, at up to three checkpoints. {' '.join(facts['sentences'].values())}"
    )
    caption = (
        "Left: training, by the FLOPs of RL. The state before RL stands apart at the left, because a logarithmic "
        "axis has no zero. Right: answering, at up to three checkpoints, by thinking longer and by a majority "
        f"vote of samples with {facts['votes_budget']} tokens of thinking each. Points carry 95% intervals. "
        "Bands: half and nine tenths of what is to be expected; dashed: extrapolated beyond the data. The left "
        f"panel shows the mean accuracy of one sample at the middle thinking budget ({facts['headline_budget']} "
        "tokens), the vote is at the largest budget with the most samples: both chosen by this rule, not by "
        "their result."
    )
    return figure("panels", specs["panels"], seen, caption)


def _answers(facts: Facts) -> str:
    curves = facts["answers"]
    tables = [dict(found["table"]) for found in curves]
    names = list(dict.fromkeys(name for one in tables for name in one))
    rows = [["verdict", *(found["verdict"] for found in curves)]]
    rows += [[name.strip(), *(one.get(name, "") for one in tables)] for name in names]
    reasons = [f"{found['curve']}: {found['reason']}." for found in curves if found["reason"]]
    note = (
        "Median and 90% interval. Test compute is FLOPs per problem. “Worth … items”: as many independent coin "
        "flips would be as certain. “Beyond”: further than the answer names. Headroom: what is left to gain up "
        "to the asymptote, the accuracy at endless compute. "
    )
    return (
        f"{table(['', *(found['curve'] for found in curves)], rows, 'text')}"
        f'<p class="note">{safe(note + facts["definition"])}</p>{listed(reasons) if reasons else ""}'
    )


def _train_test(facts: Facts, specs: Specs) -> str:
    traded = facts["train_test"]
    heat = figure(
        "heatmap",
        specs["heatmap"],
        "Heat map of the accuracy of one sample at every checkpoint and thinking budget.",
        "Measured: accuracy of one sample at every checkpoint (up) and thinking budget (right).",
    )
    if "points" not in traded:
        return f"<p>{safe(traded['reason'])}</p>{heat}"
    rate = traded["rate"]
    sentence = (
        f"No exchange rate is identified: {traded['reason']}."
        if rate is None
        else f"Ten times the train compute is worth {times(rate['median'])} the test compute "
        f"(90% interval: {times(rate['lo90'])} to {times(rate['hi90'])}), at equal accuracy."
    )
    misfit = 100 * traded["misfit"]
    caption = (
        f"A surface fitted to {traded['points']} points, with lines of equal accuracy; paler: extrapolated. "
        f"Points lie {misfit:.1f} points of accuracy (standard deviation) about it beyond what chance explains"
        f"{': trust no line more closely' if misfit >= 0.05 else ''}. Train compute counts the warm start too."
        f"{'' if traded['converged'] else ' Not every form of it converged.'}"
    )
    surface = figure("frontier", specs["frontier"], f"Map of fitted accuracy. {sentence}", caption)
    return f"<p>{safe(sentence)}</p>{surface}{heat}"


def _more_samples(found: Facts) -> str:
    if "drawn" not in found:
        return f"<p>{safe(found['reason'])}</p>"
    rows = [
        [f"{k}{' (drawn)' if int(k) == found['drawn'] else ''}", *(_estimate(found[way]["at"][k]) for way in WAYS)]
        for k in found["pass"]["at"]
    ]
    rows.append(["no bound", *(_estimate(found[way]["limit"]) for way in WAYS)])
    note = (
        f"Median and 90% interval, of the last checkpoint with {found['budget']} tokens of thinking, for these "
        f"{found['problems']} problems. That any sample is right helps where a verifier picks it out. Its limit "
        "is the share of problems that are solved at all; that of the majority, of problems whose commonest "
        "answer is right."
    )
    head = ["Samples k", "pass@k: any is right", "maj@k: their majority is right"]
    return f'{table(head, rows)}<p class="note">{safe(note)}</p>'


WAYS = ("pass", "maj")


def _estimate(found: Mapping[str, float]) -> str:
    return f"{percent(found['median'])} ({_range(found)})"


def _range(row: Mapping[str, float], ends: Sequence[str] = ("lo90", "hi90")) -> str:
    return " to ".join(percent(row[end]) for end in ends)


def _compute(facts: Facts, specs: Specs) -> str:
    rows = [
        [
            row["phase"],
            "" if row["flops"] is None else flops(row["flops"]),
            "" if row["share"] is None else f"{row['share']:.1%}",
            "" if row["tokens"] is None else f"{row['tokens']:,}",
            seconds(row["seconds"]),
        ]
        for row in facts["compute"]
    ]
    sums = [sum(row[name] or 0 for row in facts["compute"]) for name in ("flops", "tokens", "seconds")]
    rows.append(["all", flops(sums[0]), "", f"{sums[1]:,}", seconds(sums[2])])
    told = "; ".join(f"{row[0]} {row[1] or 'no'} FLOPs, {row[4]}" for row in rows)
    charts = "".join(
        figure(name, specs[name], f"Bars of {what} by phase: {told}.")
        for name, what in (("compute", "train compute"), ("time", "wall time"))
    )
    note = '<p class="note">Evaluation is no train compute; its FLOPs are not counted here.</p>'
    head = ["Phase", "Train compute, FLOPs", "Share of FLOPs", "Tokens", "Wall time"]
    return f'{table(head, rows)}{note}<div class="charts two">{charts}</div>'


def _backtest(facts: Facts, specs: Specs) -> str:
    found = facts["backtest"]
    made, left_out = found["forecasts"], found["left_out"]
    gaps = f'<p class="note">Not tried:</p>{listed(left_out)}' if left_out else ""
    if not made:
        return f"<p>No curve has enough points to hide any and still forecast them.</p>{gaps}"
    inside, hidden = (sum(one[name] for one in made) for name in ("inside", "hidden"))
    told = (
        f"The last points of each curve were hidden, forecast from the points before them, and compared: "
        f"{inside} of {hidden} lay inside their 90% interval."
    )
    note = (
        "Points of one forecast move together, and the longer ranges hold the points of the shorter: the count "
        "is no count of independent trials. Widths of intervals were learned from public curves, not from this "
        "run. An interval is of what would be measured, with the noise of its samples."
    )
    counts = [
        [
            one["curve"], f"last {one['hidden_times']:.2g}×", one["seen"], flops(one["last_seen"]),
            f"{one['inside']} of {one['hidden']}", f"{100 * one['mean_error']:.1f} points",
        ]
        for one in made
    ]  # fmt: skip
    points = [
        [
            one["curve"], f"last {one['hidden_times']:.2g}×", flops(point["compute"]), percent(point["median"]),
            _range(point), percent(point["came"]), "yes" if point["inside"] else "NO",
        ]
        for one in made
        for point in one["points"]
    ]  # fmt: skip
    head = ["Curve", "Hidden", "Points seen", "Up to, FLOPs", "Inside", "Mean error of the median"]
    each = ["Curve", "Hidden", "Compute, FLOPs", "Forecast, median", "90% interval", "Came", "Inside"]
    seen = figure(
        "backtest",
        specs["backtest"],
        f"A chart for each forecast: points seen, intervals, and what came. {told}",
        "Grey: the points a forecast saw. Bars: its 90% and 50% intervals, and its median. Circles: what came, "
        "crosses where that is outside.",
    )
    return (
        f'<p>{safe(told)}</p>{table(head, counts)}{seen}<p class="note">{safe(note)}</p>{gaps}'
        f"<h3>Every hidden point</h3>{table(each, points)}"
    )


def _fitted(facts: Facts) -> str:
    curves, widths = facts["answers"], facts["calibration"]
    learned = ", ".join(f"{f:.2f} at {r:g}×" for r, f in zip(widths["reaches"], widths["factors"], strict=True))
    calibrated = (
        "Intervals are calibrated: their width is multiplied by a factor of how far they reach, learned from "
        f"public curves and not from this run ({learned}); by all of it where the formulas are not believed, and "
        "the less the more they are."
    )
    rows = [
        [
            found["curve"],
            fit["form"],
            ", ".join(
                f"{name} {'beyond' if value is None else format(value, '.3g')}"
                for name, value in fit["parameters"].items()
            ),
            f"{fit['weight']:.2f}",
            f"{fit['evidence']:.1f}",
            "none" if fit["skill"] is None else f"{fit['skill']:.2f}",
            f"{'yes' if fit['converged'] else 'NO'}, {fit['starts_agreeing']:.0%}",
        ]
        for found in curves
        for fit in found["fits"]
    ]
    forms = {fit["form"]: fit for found in curves for fit in found["fits"]}
    formulas = listed(f"{fit['form']}: {fit['formula']} ({fit['reference']})" for fit in forms.values())
    head = ["Curve", "Formula", "Parameters", "Weight", "Log-evidence", "Skill", "Converged, starts that agree"]
    note = (
        "C: compute, FLOPs; y: accuracy. Weight: share of the formula among those believed. Log-evidence: 0 for "
        "one that met every point without a parameter. Skill: mean log-density of later points, forecast from "
        "earlier."
    )
    fits = f'{formulas}{table(head, rows, "text")}<p class="note">{safe(note)}</p>' if rows else ""
    return f"{FITTED}<p>{safe(calibrated)}</p><p>Assumed:</p>{listed(facts['assumptions'])}{fits}"


def _checkpoints(facts: Facts) -> str:
    budget = facts["headline_budget"]
    rows = [
        [
            row["step"], row["phase"], flops(row["train_flops"]), flops(row["rl_flops"]),
            percent(row["accuracy"]), _range(row, ("lo95", "hi95")),
        ]
        for row in facts["checkpoints"]
    ]  # fmt: skip
    head = ["Step", "Phase", "Train compute, FLOPs", "RL compute, FLOPs", f"Accuracy, {budget} tokens",
            "95% interval"]  # fmt: skip
    return f"{table(head, rows)}<h3>Before and after RL</h3>{_before_after(facts['before_after'])}"


def _before_after(rows: Sequence[Facts]) -> str:
    if not rows:
        return "<p>No checkpoint of RL was evaluated.</p>"
    shares = ("accuracy", "stopped_accuracy", "malformed", "slips")
    cells = [
        [row["budget"], *(f"{_share(row['before'][name])} → {_share(row['after'][name])}" for name in shares)]
        for row in rows
    ]
    head = ["Thinking budget, tokens", "Accuracy", "Accuracy where stopped by itself", "Malformed", "Slips"]
    note = (
        "Stopped by itself: samples whose thinking ended before the budget forced it. Malformed: samples without "
        "an answer that could be read. Slips: checkable lines of thinking that are false."
    )
    return f'{table(head, cells)}<p class="note">{safe(note)}</p>'


def _share(value: float | None) -> str:
    return "none" if value is None else percent(value)


def _reproduction(found: Facts) -> str:
    rows = [
        ("Seed of the run", found["seed"]),
        ("Seed of the fits", found["fit_seed"]),
        ("Config hash", found["config_hash"]),
        ("Source, git commit", found["source"] or "not in a repository"),
        ("Python", found["python"] or "unknown"),
        ("Packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items()) or "unknown"),
        ("Platform", found["platform"] or "unknown"),
        ("Devices", ", ".join(found["devices"]) or "unknown"),
        ("Started with", "; ".join(found["started_with"]) or "unknown"),
    ]
    commands = "\n".join(found["commands"])
    return (
        "<p>The whole experiment again, from its own config, into a new directory; then the stages on this run, "
        f"each by itself: evaluate, fit, report, and the table of all points.</p><pre>{safe(commands)}</pre>"
        f"{table(['', ''], rows, 'text')}"
    )
