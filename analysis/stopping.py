"""Which arms of a sweep need not go on: those that will hardly be the best where the sweep is to end.

An arm is ended if the probability that it is better at the target compute than the arm that is most likely best
there falls below a threshold. Each is held against that one arm and not against all together: of forty equal arms
each is best with a probability of 1/40, and none should be ended for it. The threshold is a probability as the
forecasts have it; `python -m analysis.stopping_backtest TABLE` measures how often it ends the true winner.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from analysis.alignment import aligned, best, chance_ahead
from analysis.arrays import Floats
from analysis.grouping import arm_frame
from analysis.posterior import REPLICATES
from analysis.series import Series, series_of


@dataclass(frozen=True)
class Decision:
    """Whether one arm goes on, and why."""

    arm: str
    stop: bool
    probability: float | None
    """That it is better at the target than the leading arm (for that one: that it is best of all); None where
    too little is known for a forecast."""
    reason: str


def decide(
    run_dirs_by_arm: Mapping[str, Sequence[Path]], target: float, probability: float
) -> tuple[Decision, ...]:
    """A decision for every arm, by what its runs' evaluations say so far.

    target: RL compute of each run at which arms are judged, FLOPs; probability: threshold below which an arm is
    ended, in (0, 1). Raises ValueError for numbers outside their range.
    """
    if not target > 0 or not 0 < probability < 1:
        raise ValueError(f"target = {target}, probability = {probability}: must be above 0, and between 0 and 1")
    reasons: dict[str, str] = {}
    series = []
    for arm, runs in run_dirs_by_arm.items():
        frame, left_out = arm_frame(arm, runs)
        reasons[arm] = "; ".join(left_out)
        series += series_of(frame)
    decided = {one.arm: one for one in decide_series(series, target, probability)}
    unknown = {arm: Decision(arm, False, None, reasons[arm] or "no run yet") for arm in run_dirs_by_arm}
    return tuple((unknown | decided).values())


def decide_series(
    series: Sequence[Series], target: float, probability: float, replicates: int = REPLICATES
) -> tuple[Decision, ...]:
    """As `decide`, of curves, each named by its arm. An arm that cannot be forecast goes on, and ends no other."""
    fitted = [aligned(s, replicates) for s in series]
    at = np.array([target])
    levels = {arm.name: arm.levels(at)[:, 0] for arm in fitted if arm.found.forecast is not None}
    chances = against_leader(levels) if levels else {}
    leader = next(iter(chances), "")
    found = []
    for arm in fitted:
        if arm.name not in chances:
            found.append(Decision(arm.name, False, None, arm.found.answer.reason))
        elif arm.name == leader:
            found.append(Decision(leader, False, chances[leader], f"most likely best at {target:.2g}"))
        else:
            chance = chances[arm.name]
            relation = "<" if chance < probability else ">="
            text = f"better than {leader} at {target:.2g} with probability {chance:.3f} {relation} {probability}"
            found.append(Decision(arm.name, chance < probability, chance, text))
    return tuple(found)


def against_leader(levels: Mapping[str, Floats]) -> dict[str, float]:
    """The leading arm first, with its probability to be best; then the others', each to be better than it.

    levels: [D] at the target by arm, paths side by side.
    """
    names = list(levels)
    chances = best(np.stack([levels[name] for name in names])[:, :, None])[:, 0]
    leader = names[int(chances.argmax())]
    others = {name: chance_ahead(levels[leader] - levels[name]) for name in names if name != leader}
    return {leader: float(chances.max())} | others


def main(args: Sequence[str]) -> int:
    """`python -m analysis.stopping QUESTION`: `decide` as JSON, of the JSON {arms, target, probability}."""
    (text,) = args
    asked = json.loads(text)
    arms = {arm: [Path(run) for run in runs] for arm, runs in asked["arms"].items()}
    print(json.dumps([asdict(found) for found in decide(arms, asked["target"], asked["probability"])]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
