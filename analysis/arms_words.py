"""Arms compared, as data and as text: what `scaling fit --by` prints and writes.

The JSON object of `scaling fit --by FIELD --json` has

    verdict      one sentence: which arm is best at the end of the data, and ten times beyond
    definition   what ahead, best, efficiency and crosses mean
    calibration  as in `analysis.answers`
    notes        lines about the input, an empty list where there is nothing to say
    files        what was written
    arms         one object an arm: arm, runs, and all that `analysis.answers.curve` says of a curve
    compared     [least, greatest] compute at which arms are compared
    pairs        one object for every two arms: every field of `analysis.arms.Pair`
    wins         one object a compute: every field of `analysis.arms.Win`
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.alignment import common_range
from analysis.answers import calibration_facts, curve, unusable_computes
from analysis.arms import DEFINITION, Comparison, Win, compare
from analysis.outputs import unusable_folder
from analysis.pairs import PAST
from analysis.quantities import chance, percent, points, signed, times
from analysis.saturation import Estimate
from analysis.table import TableError
from analysis.words import interval
from scaling.quantities import flops, how_many


def answer(
    paths: Sequence[str | Path], by: Sequence[str], x: str | None, y: str | None, at: Sequence[float],
    plot: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Compare, and draw what is wanted: the facts. Raises TableError for what cannot be had."""
    wrong = unusable_computes(at)
    if plot is not None:
        wrong += unusable_folder("--plot", plot)
    if wrong:
        raise TableError(wrong)
    found = compare(paths, by, x, y, at)
    files: list[str] = []
    if plot is not None:
        from analysis.arms_plot import plot_arms
        from analysis.drawing import save

        plot.mkdir(parents=True, exist_ok=True)
        chart = plot_arms(found)
        files = [str(save(chart, plot / name)) for name in ("arms.png", "arms.html")]
    return facts(found) | {"files": files}


def facts(found: Comparison) -> dict[str, Any]:
    """A comparison as plain data; the module's docstring is its schema."""
    low, high = common_range(found.arms)
    return {
        "verdict": verdict(found.wins, high),
        "definition": DEFINITION,
        "calibration": calibration_facts(),
        "arms": [{"arm": arm.name, "runs": arm.runs} | curve(arm.found) for arm in found.arms],
        "compared": [low, PAST * high],
        **found.as_dict(),
    }


def verdict(wins: Sequence[Win], end: float) -> str:
    """Which arm is best at the greatest compute of the data, and at ten times that."""
    shown = [
        max((win for win in wins if win.compute <= at * (1 + 1e-9)), key=lambda win: win.compute)
        for at in (end, PAST * end)
    ]
    return "Best at " + "; at ".join(f"{flops(win.compute)}: {_best(win)}" for win in shown) + "."


def _best(win: Win) -> str:
    leader = max(win.probability, key=lambda name: win.probability[name])
    shown = f"{leader} (probability {chance(win.probability[leader])})"
    return shown if win.best == leader else f"cannot tell; most likely {shown}"


def text(found: dict[str, Any]) -> str:
    """`facts` for a terminal."""
    arms, unit = found["arms"], found["arms"][0]["unit"]
    lines = [found["verdict"], ""]
    for arm in arms:
        many = how_many(arm["runs"], "run")
        lines.append(f"{arm['arm']} ({many}): {arm['sentence'].removeprefix(arm['curve'] + ': ')}")
    for pair in found["pairs"]:
        said = rows(pair, arms[0]["metric"], found["compared"])
        lines += [
            "",
            f"{pair['first']} against {pair['second']}",
            *(f"    {name:<30}{shown}" for name, shown in said),
        ]
    names = [arm["arm"] for arm in arms]
    width = max(10, *(len(name) + 2 for name in names))
    where = "compute" if unit == "compute" else unit
    lines += ["", f"probability that an arm is best, by {where} (*: an arm has no data there)"]
    lines.append(f"    {'':<12}{''.join(f'{name:>{width}}' for name in names)}  best")
    for win in found["wins"]:
        shown = "".join(f"{chance(win['probability'][name]):>{width}}" for name in names)
        lines.append(f"    {flops(win['compute']) + '*' * win['extrapolated']:<12}{shown}  {win['best']}")
    return "\n".join([*lines, "", found["definition"]])


def rows(pair: dict[str, Any], metric: str, compared: Sequence[float]) -> list[tuple[str, str]]:
    """What is said of a pair, as (name, text). pair, compared: of `facts`; metric: of its arms."""
    first, second = pair["first"], pair["second"]
    loss = metric == "loss"
    common = f"{pair['common']:.3g}" if loss else percent(pair["common"])
    apart = interval(Estimate(**pair["asymptote"]), signed if loss else points)
    needs = interval(Estimate(**pair["efficiency"]), times)
    crossing = "" if pair["crossing"] is None else f", at {interval(Estimate(**pair['crossing']), flops)}"
    ahead = [
        (f"{first} ahead at {flops(at)}", f"probability {chance(pair[name])}")
        for at, name in zip(compared, ("start_probability", "end_probability"), strict=True)
    ]
    return [
        ("asymptotes differ by", f"{apart}: {_verdict(pair['asymptote_verdict'], 'is better')}"),
        (f"compute to reach {common}", f"{second}'s is {needs} {first}'s: "
                                       f"{_verdict(pair['efficiency_verdict'], 'needs less')}"),
        *ahead,
        ("crossing", f"{pair['crossing_verdict']} (probability {chance(pair['crossing_probability'])}){crossing}"),
    ]  # fmt: skip


def _verdict(name: str, words: str) -> str:
    return name if name == "cannot tell" else f"{name} {words}"
