"""Root search: find x with f(x) = target, by trying.

f is a chain of +, − and × with small constants, in saturating arithmetic on 0–49, so it never falls as x grows.
One line of thinking tries a candidate: `x op c r op c r … = t verdict`. The target is repeated, and the verdict
says whether the result is below (<), above (>) or equal to (!) it. After a hit the model writes ANSWER and the
candidate. How much a line is worth depends on which candidate it tries: blind guesses, bisection by the verdicts,
interpolation by the results, or the inverse of f in the head. Demonstrations guess mostly blindly; the rest is
left to RL. Each operation occurs at most once in a chain, so that what follows it can be looked up.

Difficulty is the number of steps of f. Two chains with the same a·x + b and the same target are the same equation,
and an equation belongs to one split only. A held-out equation's function may have been met with other targets.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from scaling.config import TaskConfig
from scaling.tasks import ANSWER, END, SPECIALS, Demonstration, Problem, Split, Verdict, draw

TOP = 49
OPS = "+-*"
CONSTANTS = {"+": range(1, 10), "-": range(1, 10), "*": range(2, 6)}
BELOW, ABOVE, HIT = "<", ">", "!"
VOCAB = (*SPECIALS, *map(str, range(TOP + 1)), *OPS, "=", BELOW, ABOVE, HIT)
ID = {text: i for i, text in enumerate(VOCAB)}
ZERO = ID["0"]
STEPS = (2, len(OPS))
"""Fewest and most steps: there are but three functions of one step."""
FOLLOW = 0.4
"""Share of demonstrated guesses that heed the verdicts so far; the others are blind."""

Steps = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Equation:
    steps: Steps
    target: int


def apply(op: str, c: int, value: int) -> int:
    """One step in saturating arithmetic."""
    return min(max(value + c if op == "+" else value - c if op == "-" else value * c, 0), TOP)


def evaluate(steps: Steps, x: int) -> int:
    for op, c in steps:
        x = apply(op, c, x)
    return x


def linear(steps: Steps) -> tuple[int, int]:
    """(a, b) of the unsaturated a·x + b."""
    a, b = 1, 0
    for op, c in steps:
        a, b = (a * c, b * c) if op == "*" else (a, b + c if op == "+" else b - c)
    return a, b


def _propose(n: int, rng: random.Random) -> tuple[str, Equation]:
    """A chain of n steps, × among them, and a target that it reaches from some x without touching 0 or 49.

    So exactly one x hits the target.
    """
    while True:
        steps = tuple((op, rng.choice(CONSTANTS[op])) for op in rng.sample(OPS, n))
        value = rng.randint(0, TOP)
        for op, c in steps:
            value = value + c if op == "+" else value - c if op == "-" else value * c
            if not 0 < value < TOP:
                break
        else:
            a, b = linear(steps)
            if a > 1:
                return f"{a}x{b:+d}={value}", Equation(steps, value)


def try_line(equation: Equation, x: int) -> tuple[list[int], str]:
    """The true line that tries x, and its verdict."""
    tokens, value = [ZERO + x], x
    for op, c in equation.steps:
        value = apply(op, c, value)
        tokens += [ID[op], ZERO + c, ZERO + value]
    verdict = BELOW if value < equation.target else ABOVE if value > equation.target else HIT
    return [*tokens, ID["="], ZERO + equation.target, ID[verdict]], verdict


@dataclass(frozen=True)
class RootSearch:
    difficulty_min: int
    difficulty_max: int
    vocab: tuple[str, ...] = VOCAB
    answer_tokens: int = 2
    step_tokens: tuple[int, ...] = (ID[BELOW], ID[ABOVE], ID[HIT])
    demos: tuple[str, ...] = ("drill", "trace")

    @property
    def prompt_tokens(self) -> int:
        return 2 * self.difficulty_max + 2

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """A problem of uniform difficulty; its key is the equation, whatever chain it is written as."""
        n = random.Random(f"{seed}/{split}/{index}/difficulty").randint(self.difficulty_min, self.difficulty_max)
        key, equation = draw(seed, split, index, partial(_propose, n))
        prompt = [token for op, c in equation.steps for token in (ID[op], ZERO + c)]
        return Problem(index, len(equation.steps), key, (*prompt, ID["="], ZERO + equation.target), equation)

    def demonstrate(self, problem: Problem, kind: str, budget: int, rng: random.Random) -> Demonstration:
        if kind not in self.demos:
            raise ValueError(
                f"demo: {kind!r} is not a demonstration of root_search; known: {', '.join(self.demos)}"
            )
        equation: Equation = problem.data
        a, b = linear(equation.steps)
        root, top = (equation.target - b) // a, min((TOP - b) // a, TOP)
        low, high, tokens, hit = 0, top, [], None

        def guess() -> int:
            if kind == "drill":
                return rng.choice((root, min(max(root + rng.randint(-2, 2), 0), TOP), rng.randint(0, top)))
            return rng.randint(low, high) if rng.random() < FOLLOW and low <= high else rng.randint(0, top)

        while len(tokens) < budget and hit is None:
            x = guess()
            line, verdict = try_line(equation, x)
            tokens += line
            if verdict == HIT:
                hit = x
            elif verdict == BELOW:
                low = max(low, x + 1)
            else:
                high = min(high, x - 1)
            if kind == "drill":
                break
        guessed = rng.randint(0, top) if kind == "drill" else guess()
        answer = [ANSWER, ZERO + (guessed if hit is None or len(tokens) > budget else hit), END]
        if hit is not None and len(tokens) <= budget:
            return Demonstration((*tokens, *answer), given=(0,) if kind == "drill" else ())
        thinking = tokens[:budget]
        given = (0, len(thinking) + 1) if kind == "drill" else ()
        return Demonstration((*thinking, *answer), forced=len(thinking), given=given)

    def verify(self, problem: Problem, completion: Sequence[int]) -> Verdict:
        equation: Equation = problem.data
        cut = next((i for i, t in enumerate(completion) if t in (ANSWER, END)), len(completion))
        lines, slip_at = self._check(equation, completion[:cut])
        answer = list(completion[cut:])
        if len(answer) != 3 or answer[0] != ANSWER or answer[2] != END or not ZERO <= answer[1] <= ZERO + TOP:
            return Verdict(False, None, lines, len(slip_at), slip_at)
        x = answer[1] - ZERO
        return Verdict(evaluate(equation.steps, x) == equation.target, str(x), lines, len(slip_at), slip_at)

    def _check(self, equation: Equation, thinking: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """Whole lines in the thinking, and where those that are not the true line of their candidate go wrong."""
        lines, start, slip_at = 0, 0, []
        for i, token in enumerate(thinking):
            if token in self.step_tokens:
                line, x = list(thinking[start : i + 1]), thinking[start] - ZERO
                true = try_line(equation, x)[0] if 0 <= x <= TOP else []
                if line != true:
                    wrong = (n for n, (has, right) in enumerate(zip(line, true, strict=False)) if has != right)
                    slip_at.append(start + next(wrong, min(len(true), len(line) - 1)))
                lines += 1
                start = i + 1
        return lines, tuple(slip_at)


def make(config: TaskConfig) -> RootSearch:
    """The task at difficulties (numbers of steps) within 2 … 3; raises ValueError beyond."""
    fewest, most = STEPS
    if not fewest <= config.difficulty_min <= config.difficulty_max <= most:
        raise ValueError(
            f"task.difficulty_min, task.difficulty_max: {config.difficulty_min}, {config.difficulty_max} are not "
            f"numbers of steps, from {fewest} to {most}, the least first"
        )
    return RootSearch(config.difficulty_min, config.difficulty_max)
