"""What models wrote: prompt, thinking, answer and verdict, across checkpoints and budgets. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from analysis.dashboard.watch import FAILURES
from scaling.files import Row

MOST = 60
"""Completions on a page; a search, or a choice of one problem or budget, finds the others."""
ANSWER = "<answer>"
"""The token with which thinking ends, as texts have it."""
LONG = 20_000
"""Characters of one text that are shown."""


@dataclass(frozen=True)
class Completion:
    """One text of a model, and what came of it."""

    checkpoint: str
    problem: int
    budget: int
    text: str
    prompt: str
    answer: str | None
    correct: bool
    stopped: bool
    """Whether the model stopped thinking by itself; else the budget ran out."""
    expected: str | None = None
    """An answer that was right at any checkpoint, with any budget; None where there was none."""

    @property
    def thinking(self) -> str:
        """What was written before the answer."""
        return self.text.partition(ANSWER)[0].strip()

    @property
    def rest(self) -> str:
        """The answer as it was written."""
        return self.text.partition(ANSWER)[2].strip()


def completions(shown: Mapping[str, Sequence[Row]]) -> list[Completion]:
    """Of evaluation rows by checkpoint; in order of problem, budget, checkpoint: a problem's history is together.

    Rows of another format are left out.
    """
    rows = [(checkpoint, row) for checkpoint, found in shown.items() for row in found]
    expected: dict[int, str] = {}
    out = []
    for checkpoint, row in rows:
        try:
            out.append(_completion(checkpoint, row))
            right = [str(answer) for answer, _, correct in row["answers"] if correct]
            expected |= dict.fromkeys([out[-1].problem] if right else [], *right[:1])
        except FAILURES:
            continue
    out = [Completion(**{**vars(one), "expected": expected.get(one.problem)}) for one in out]
    return sorted(out, key=lambda one: (one.problem, one.budget, one.checkpoint))


def _completion(checkpoint: str, row: Row) -> Completion:
    problem, budget = int(row["problem"]), int(row["budget"])
    shown = row["shown"]
    answer = None if shown["answer"] is None else str(shown["answer"])
    flags = bool(shown["correct"]), bool(shown["stopped"])
    return Completion(checkpoint, problem, budget, str(shown["text"]), str(shown["prompt"]), answer, *flags)


def choose(
    found: Iterable[Completion],
    text: str = "",
    *,
    checkpoint: str | None = None,
    problem: int | None = None,
    budget: int | None = None,
    verdict: str | None = None,
) -> list[Completion]:
    """Those in whose prompt or text the words occur, in this order and side by side; None takes all.

    verdict: right or wrong.
    """
    needle = " ".join(text.split()).lower()
    wanted = {"right": True, "wrong": False}.get(verdict or "")
    return [
        one
        for one in found
        if checkpoint in (None, one.checkpoint)
        and problem in (None, one.problem)
        and budget in (None, one.budget)
        and (wanted is None or one.correct == wanted)
        and needle in f"{one.prompt}\n{one.text}".lower()
    ]


def page(found: Sequence[Completion]) -> str:
    """A card a completion, as HTML."""
    if not found:
        return '<p class="note">No completion matches.</p>'
    cards = f'<div class="cards">{"".join(map(_card, found[:MOST]))}</div>'
    if (more := len(found) - MOST) <= 0:
        return cards
    return f'{cards}<p class="note">{more} more: search, or choose one checkpoint, problem or budget.</p>'


def _card(one: Completion) -> str:
    ends = "stopped by itself" if one.stopped else "cut by the budget"
    place = f"problem {one.problem}, checkpoint {one.checkpoint}, budget {one.budget}"
    head = f"<b>{escape(place)}</b> {_verdict(one)} <small>{ends}</small>"
    parts = {"Prompt": one.prompt, "Thinking": one.thinking or "none", "Answer": one.rest or "none"}
    if not one.correct and one.expected is not None:
        parts["Right"] = one.expected
    lines = "".join(f"<dt>{name}</dt><dd>{_text(text)}</dd>" for name, text in parts.items())
    return f'<div class="card"><div>{head}</div><dl>{lines}</dl></div>'


def _verdict(one: Completion) -> str:
    if one.correct:
        return '<span class="chip done">right</span>'
    return f'<span class="chip failed">{"wrong" if one.answer is not None else "no answer"}</span>'


def _text(text: str) -> str:
    rest = f" … ({len(text) - LONG:,} characters more)" if len(text) > LONG else ""
    return escape(text[:LONG]) + rest
