"""How good the stopping rule is: arms whose ends are known, ended or not by what was known at their beginnings.

    python -m analysis.stopping_backtest TABLE

Curves that are of one data set compete (`competition`), up to the least of their last computes, the target. At
1/8, 1/4 and 1/2 of it the rule of `analysis.stopping` ends arms, which stay ended. The winner is the arm whose
measured value is best at the target. For each source the threshold is chosen on the other sources, as the largest
at which none of them loses more than `ALLOWED` of its winners; forecasts are calibrated without it too.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis import calibration
from analysis.arrays import Floats
from analysis.backtest import REPLICATES
from analysis.estimators import wilson
from analysis.fit import CURVES_A_CALL
from analysis.forecast import forecast
from analysis.posterior import chunks, posteriors
from analysis.series import MIN_POINTS, Series, series_of
from analysis.stopping import against_leader

SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of the target compute at which arms are looked at."""
THRESHOLDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
ALLOWED = 0.05
"""Share of the competitions whose winner may be ended."""
NEAR_END = 1.25
"""Measurements from the target over this up to it are averaged."""


@dataclass(frozen=True)
class Competition:
    """Arms of one data set, what was forecast of them on the way, and how they ended."""

    source: str
    name: str
    ends: dict[str, float]
    """What each arm measured at the target of what falls as it gets better: error or loss."""
    levels: tuple[dict[str, Floats], ...]
    """Of each share, forecasts [D] of the same by arm; arms with too few points are left out."""


@dataclass(frozen=True)
class Outcome:
    """What the rule would have done in one competition."""

    saved: float
    """Share of all arms' compute up to the target that is not spent."""
    ended: int
    """Arms."""
    lost: bool
    """Whether the winner was ended."""
    regret: float
    """How far the best arm that is left falls short of the winner, in error or loss."""


def competition(source: str, curve: str, group: str) -> str:
    """Which curves compete. Of the public sources: learners on one data set (lcdb11), model sizes on one task at
    one multiple of the compute-optimal length (olmo_ladder), models on one few-shot data set (revisiting_nsl); of
    other tables, those of one group."""
    parts = curve.split("|")
    if source == "lcdb11":
        return parts[0]
    if source == "olmo_ladder":
        return f"{parts[1]} {parts[0].split('-')[1]}"
    return "|".join(parts[:-1]) if source == "revisiting_nsl" else group


def competitions(frame: pl.DataFrame, say: Callable[[str], None] = lambda text: None) -> list[Competition]:
    """Every competition of a canonical frame with two arms or more, and its forecasts."""
    rows = frame.filter(~pl.col("source").is_in(calibration.UNLICENSED), pl.col("compute") > 0)
    names = [competition(s or "", c, g or "") for s, c, g in rows.select("source", "curve", "group").iter_rows()]
    parts = rows.with_columns(name=pl.Series(names)).partition_by(
        "source", "name", as_dict=True, maintain_order=True
    )
    pasts: list[tuple[int, int, Series, float]] = []  # competition, look, what is known, target
    found: list[Competition] = []
    for (source, name), part in parts.items():
        target = float(part.group_by("curve").agg(pl.col("compute").max())["compute"].min())  # type: ignore[arg-type]
        arms = series_of(part.drop("name").filter(pl.col("compute") <= target).with_columns(split=pl.lit("fit")))
        if len(arms) < 2:
            continue
        ends = {arm.name: _end(arm, target) * abs(arm.factor) for arm in arms}
        for look, share in enumerate(SHARES):
            known = part.drop("name").filter(pl.col("compute") <= share * target).with_columns(split=pl.lit("fit"))
            for past in series_of(known):
                if len(np.unique(past.compute)) >= MIN_POINTS:
                    pasts.append((len(found), look, past, target))
        found.append(Competition(str(source), str(name), ends, tuple({} for _ in SHARES)))
    for at, part in enumerate(chunks([past for _, _, past, _ in pasts], CURVES_A_CALL)):
        fitted = posteriors([pasts[i][2] for i in part], REPLICATES)
        for i, posterior in zip(part, fitted, strict=True):
            index, look, past, target = pasts[i]
            paths = forecast(posterior, calibration.load(found[index].source)).paths(np.array([target]))[:, 0]
            # Nothing that arms have in common is known here: their paths are put side by side at random.
            own = np.random.default_rng(zlib.crc32(past.name.encode()))
            found[index].levels[look][past.name] = own.permutation(paths) * abs(past.factor)
        say(f"{min((at + 1) * CURVES_A_CALL, len(pasts))} of {len(pasts)} forecasts")
    return found


def _end(arm: Series, target: float) -> float:
    near = arm.compute >= target / NEAR_END
    return float(arm.level[near].mean()) if near.any() else float(arm.level[-1])


def play(one: Competition, threshold: float) -> Outcome:
    """The rule at every share, ended arms staying so."""
    ended: dict[str, float] = {}
    for share, levels in zip(SHARES, one.levels, strict=True):
        left = {name: drawn for name, drawn in levels.items() if name not in ended}
        if len(left) > 1:
            leader, *others = against_leader(left).items()
            ended |= {name: share for name, chance in others if chance < threshold and name != leader[0]}
    winner = min(one.ends, key=lambda name: one.ends[name])
    kept = min(level for name, level in one.ends.items() if name not in ended)
    saved = sum(1 - share for share in ended.values()) / len(one.ends)
    return Outcome(saved, len(ended), winner in ended, kept - one.ends[winner])


def choose(played: Sequence[Competition]) -> float:
    """The largest threshold up to which no source loses more than `ALLOWED` of its winners; 0, which ends nothing,
    where there is none."""
    chosen = 0.0
    for threshold in THRESHOLDS:
        by_source: dict[str, list[bool]] = {}
        for one in played:
            by_source.setdefault(one.source, []).append(play(one, threshold).lost)
        if max((float(np.mean(lost)) for lost in by_source.values()), default=1.0) > ALLOWED:
            break
        chosen = threshold
    return chosen


def row(source: str, threshold: float, outcomes: Sequence[Outcome], arms: int) -> str:
    """A line of the table: compute saved, winners lost with the 95% interval of their share, regret."""
    lost = sum(o.lost for o in outcomes)
    lo, hi = wilson(lost / len(outcomes), len(outcomes))
    saved, regret = np.mean([o.saved for o in outcomes]), np.mean([o.regret for o in outcomes])
    ended = sum(o.ended for o in outcomes)
    return (
        f"{source:<16}{threshold:>10.3f}{len(outcomes):>14}{arms:>7}{ended:>7}{saved:>8.1%}"
        f"{lost:>7} ({lost / len(outcomes):.1%}, {lo:.1%} to {hi:.1%}){regret:>10.4f}"
    )


def text(found: Sequence[Competition]) -> str:
    """Every source by the threshold that the others chose; then all sources by every threshold."""
    sources: Mapping[str, list[Competition]] = {s: [c for c in found if c.source == s] for s in
                                                dict.fromkeys(c.source for c in found)}  # fmt: skip
    head = (
        f"{'source':<16}{'threshold':>10}{'competitions':>14}{'arms':>7}{'ended':>7}{'saved':>8}"
        f"{'':>7}winners lost (95%)    regret"
    )
    lines = ["threshold chosen on the other sources", head]
    for source, mine in sources.items():
        threshold = choose([c for c in found if c.source != source])
        lines.append(row(source, threshold, [play(c, threshold) for c in mine], sum(len(c.ends) for c in mine)))
    lines += ["", "each threshold", head]
    for threshold in THRESHOLDS:
        for source, mine in sources.items():
            lines.append(
                row(source, threshold, [play(c, threshold) for c in mine], sum(len(c.ends) for c in mine))
            )
    lines += ["", f"chosen on all sources: {choose(found)}"]
    return "\n".join(lines)


def main(args: Sequence[str]) -> int:
    """Play all competitions of a table, and print what the rule saves and loses."""
    from analysis.table import read

    (path,) = args
    print(text(competitions(read(path)[0], lambda said: print(said, file=sys.stderr))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
