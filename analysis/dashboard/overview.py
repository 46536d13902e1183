"""All runs in one table: where each stands, what it has cost, what it found. As HTML, with all text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from analysis.dashboard.watch import FAILURES, Glance, Scene
from scaling.quantities import duration, flops, how_many
from scaling.schedule import next_threshold

ORDER = ("dead", "failed", "unreadable", "stalled", "running", "preempted", "waiting", "ended", "done")
"""States, what needs a person first."""
SHOWN = 500
"""Most rows of the table; a filter finds the others."""
SORTS = ("state", "name", "progress", "time left", "FLOPs", "seconds", "verdict")
COLUMNS = ("Run", "State", "Progress", "Next at", "Time left", "Cost", "Checkpoints", "Verdict")


@dataclass(frozen=True)
class Progress:
    """How far a run is in its phase, and what it cost so far."""

    phase: str
    done: float
    """FLOPs of the phase."""
    total: float
    """FLOPs at which the phase ends; estimated from its steps in the warm start."""
    threshold: float
    """FLOPs at which the next checkpoint falls."""
    left: float | None
    """Seconds to the phase's end at the speed of the last steps; None where that is not known."""
    flops: float
    seconds: float

    @property
    def share(self) -> float:
        """Of the phase that is done, at most 1."""
        return min(self.done / self.total, 1.0) if self.total > 0 else 0.0


def progress(run: Glance) -> Progress | None:
    """From the last training rows; None before the first, and where rows or config are of another format."""
    if not run.rows:
        return None
    try:
        return _progress(run.rows, run.fields)
    except (*FAILURES, ArithmeticError):
        return None


def _progress(rows: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> Progress:
    last, phase = rows[-1], str(rows[-1]["phase"])
    axis, grid, begin = (
        ("rl_flops", "schedule.points_per_decade", "schedule.rl_first")
        if phase == "rl"
        else ("train_flops", "schedule.train_points_per_decade", "schedule.first")
    )
    done = float(last[axis])
    if phase == "rl":
        total = float(fields["rl.flops"])
    else:
        total = done * sum(stage["steps"] for stage in fields["warm_start.stages"]) / last["phase_step"]
    threshold = min(next_threshold(int(done), int(fields[grid]), float(fields[begin])), total)
    first = next(row for row in rows if row["phase"] == phase)
    seconds = _spent(last, "seconds") - _spent(first, "seconds")
    speed = (done - float(first[axis])) / seconds if seconds > 0 else 0.0
    left = max(total - done, 0.0) / speed if speed > 0 else None
    return Progress(phase, done, total, threshold, left, _spent(last, "flops"), _spent(last, "seconds"))


def _spent(row: Mapping[str, Any], kind: str) -> float:
    return float(sum(row["ledger"][kind].values()))


def settings(fields: Iterable[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
    """Thinking budgets and numbers of samples that the configs of runs have."""
    found = list(fields)
    budgets = {int(b) for one in found for b in one.get("evaluation.budgets", ())}
    samples = {int(k) for one in found for k in one.get("evaluation.samples", ())}
    return sorted(budgets), sorted(samples)


# Which runs, in which order ----------------------------------------------------------------------------------


def fields_that_vary(runs: Iterable[Glance]) -> tuple[str, ...]:
    """Config fields in which runs differ, by which they can be grouped."""
    configs = [run.fields for run in runs if run.fields]
    values: dict[str, set[str]] = {name: set() for fields in configs for name in fields}
    for name, found in values.items():
        found |= {_plain(fields.get(name)) for fields in configs}
    return tuple(name for name, found in values.items() if len(found) > 1)


def found(runs: Iterable[Glance], text: str) -> list[Glance]:
    """Runs in which every word of the text occurs: in name, state, reason, verdict, or a field as NAME=VALUE."""
    words = text.lower().split()
    return [run for run in runs if all(word in _searched(run) for word in words)]


def _searched(run: Glance) -> str:
    fields = (f"{name}={_plain(value)}" for name, value in run.fields.items())
    return "\n".join((run.name, run.state, run.stage, run.why, run.verdict, *run.damage, *fields)).lower()


def ordered(runs: Iterable[Glance], by: str) -> list[Glance]:
    """Runs by a column of `SORTS`: names rising, numbers falling, what is not known last."""
    return sorted(runs, key=lambda run: (_rank(run, by), run.name))


def _rank(run: Glance, by: str) -> tuple:
    if by == "name":
        return ()
    if by == "state":
        return (ORDER.index(run.state),)
    if by == "verdict":
        return (not run.verdict, run.verdict)
    at = progress(run)
    value = {"progress": "share", "time left": "left", "FLOPs": "flops", "seconds": "seconds"}[by]
    number = None if at is None else getattr(at, value)
    phase = at is not None and at.phase == "rl" and by == "progress"
    return (number is None, not phase, -(number or 0.0))


def groups(runs: Sequence[Glance], by: str | None) -> list[tuple[str, list[Glance]]]:
    """(heading, runs) in order of first occurrence; one without a heading where `by` is None."""
    if by is None:
        return [("", list(runs))]
    out: dict[str, list[Glance]] = {}
    for run in runs:
        key = (run.sweep or "no sweep") if by == "sweep" else f"{by} = {_plain(run.fields.get(by, '?'))}"
        out.setdefault(key, []).append(run)
    return list(out.items())


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# HTML --------------------------------------------------------------------------------------------------------


def summary(scene: Scene) -> str:
    """How many runs are in which state."""
    if scene.note:
        return f'<p class="note">{escape(scene.note)}</p>'
    counts = {state: sum(run.state == state for run in scene.runs) for state in ORDER}
    chips = " ".join(f"{_chip(state, f'{n} {state}')}" for state, n in counts.items() if n)
    sweeps = f" in {len(scene.sweeps)} sweeps" if len(scene.sweeps) > 1 else ""
    sweeps = f" in sweep {escape(scene.sweeps[0])}" if len(scene.sweeps) == 1 else sweeps
    return f'<p class="summary"><b>{how_many(len(scene.runs), "run")}{sweeps}</b> {chips}</p>'


def table(scene: Scene, text: str = "", sort: str = "state", by: str | None = None) -> str:
    """The runs that `found` finds, sorted and grouped, each a row."""
    runs = ordered(found(scene.runs, text), sort)
    if not runs:
        return '<p class="note">No run matches.</p>' if scene.runs else ""
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    body = []
    for heading, members in groups(runs[:SHOWN], by):
        if heading:
            states = ", ".join(f"{sum(r.state == s for r in members)} {s}" for s in ORDER
                               if any(r.state == s for r in members))  # fmt: skip
            body.append(f'<tr class="group"><td colspan="{len(COLUMNS)}">{escape(heading)}: {states}</td></tr>')
        body += map(_row, members)
    more = f'<p class="note">{len(runs) - SHOWN} more; filter to see them.</p>' if len(runs) > SHOWN else ""
    return f'<table class="runs"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>{more}'


def _row(run: Glance) -> str:
    at = progress(run)
    ahead = at is not None and at.done < at.total and run.state != "done"
    words = "".join(f'<div class="damage">{escape(line)}</div>' for line in run.damage)
    why = f'<div class="why">{escape(run.why)}</div>' if run.why else ""
    stage = f" <small>{escape(run.stage)}</small>" if run.state in ("running", "stalled", "dead", "failed") else ""
    cells = [
        f"{escape(run.name)}{words}",
        f"{_chip(run.state, run.state)}{stage}{why}",
        _bar(at) if at else "",
        flops(at.threshold) if at and ahead else "",
        duration(at.left) if at and ahead and at.left is not None and run.state in ("running", "stalled") else "",
        f"{flops(at.flops)} FLOPs<br>{duration(at.seconds)}" if at else "",
        f"{run.checkpoints} saved<br>{run.evaluations} evaluated" if run.checkpoints or run.evaluations else "",
        escape(run.verdict),
    ]
    return f'<tr class="{run.state}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _chip(state: str, text: str) -> str:
    return f'<span class="chip {state}">{escape(text)}</span>'


def _bar(at: Progress) -> str:
    phase = "RL" if at.phase == "rl" else at.phase.replace("_", " ")
    return (
        f'<div class="bar"><div style="width:{100 * at.share:.1f}%"></div></div>'
        f"<small>{escape(phase)} {at.share:.0%} of {flops(at.total)}</small>"
    )


def lines(texts: Iterable[str], kind: str) -> str:
    """Each text that says something a paragraph of a kind (note, damaged, alarm), escaped, as HTML."""
    return "".join(f'<p class="{kind}">{escape(text)}</p>' for text in texts if text)
