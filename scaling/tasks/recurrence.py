"""Iterated recurrence: run one of four small recurrences for n steps, by thinking in series.

From x0 and x1, x_{i+1} = f(x_i, x_{i−1}) mod 10, n times; the answer is x_{n+1}. Difficulty is the horizon n,
log-uniform. Thinking is a countdown with values, two tokens a step, then `ANSWER` and the last value again:

    prompt  A 3 4 3:
    think   2: 8  1: 3  0: 2  <answer> 2 <end>

A model that slips once in 1/ε steps is right with probability (1−ε)^n, so over log-uniform horizons accuracy
is about linear in log(1/ε) and in the logarithm of the budget, with a ceiling at 1. The state holds two
values because orbits of one register are short, and a model then copies the earlier cycle instead of
computing; these rules have long orbits (periods of 41 to 60 on average).

A problem is its whole prompt: an evaluation problem may pass through states that training has seen, so what
is held out is the long run, not the single step. There are 400 problems a horizon, so begin at 4: in a
prototype, held-out problems of the shortest horizons were not learned.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import exp, log

from scaling.config import TaskConfig
from scaling.tasks import ANSWER, END, SPECIALS, Demonstration, Problem, Split, Task, Verdict, draw

MODULUS = 10
HORIZON = 64
"""Longest horizon."""
RULES: dict[str, Callable[[int, int], int]] = {
    "A": lambda x, y: (x + y + 1) % MODULUS,
    "B": lambda x, y: (3 * x + 3 * y + 1) % MODULUS,
    "C": lambda x, y: (x * x + x + 3 * y + 1) % MODULUS,
    "D": lambda x, y: (2 * x * x + 3 * y + 3) % MODULUS,
}
"""The next value from the last (x) and the one before it (y)."""
RULE = len(SPECIALS)
VALUE = RULE + len(RULES)
COUNT = VALUE + MODULUS
"""The token of the first rule, of value 0, of count 0."""
VOCAB = (*SPECIALS, *RULES, *map(str, range(MODULUS)), *(f"{count}:" for count in range(HORIZON + 1)))
DRILL_STEPS = 5


def make(config: TaskConfig) -> Task:
    """The task at difficulties (horizons) within 1 … 64; raises ValueError beyond."""
    return Recurrence(config.difficulty_min, config.difficulty_max)


class Recurrence:
    vocab = VOCAB
    prompt_tokens: int = 4
    answer_tokens: int = 2
    step_tokens: tuple[int, ...] = tuple(range(VALUE, COUNT))
    demos: tuple[str, ...] = ("drill", "trace")

    def __init__(self, shortest: int, longest: int):
        if not 1 <= shortest <= longest <= HORIZON:
            raise ValueError(
                f"task.difficulty_min, task.difficulty_max: {shortest}, {longest} are not horizons, "
                f"from 1 to {HORIZON}, the least first"
            )
        self.horizons = (shortest, longest)

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """A problem of log-uniform horizon; its key is the whole prompt."""
        shortest, longest = self.horizons
        level = random.Random(f"{seed}/{split}/{index}/difficulty").uniform(log(shortest), log(longest + 1))
        horizon = min(max(int(exp(level)), shortest), longest)

        def propose(rng: random.Random) -> tuple[str, tuple[str, int, int]]:
            rule, x0, x1 = rng.choice(tuple(RULES)), rng.randrange(MODULUS), rng.randrange(MODULUS)
            return f"{rule} {x0} {x1} {horizon}", (rule, x0, x1)

        key, (rule, x0, x1) = draw(seed, split, index, propose)
        prompt = (VOCAB.index(rule), VALUE + x0, VALUE + x1, COUNT + horizon)
        return Problem(index, horizon, key, prompt, _orbit(rule, x0, x1, horizon))

    def demonstrate(self, problem: Problem, kind: str, budget: int, rng: random.Random) -> Demonstration:
        """The whole countdown (trace) or its first steps (drill), then the true answer, forced where cut.

        A cut countdown is followed by the true answer too: what can be told from there is worth learning, and
        what cannot teaches even odds.
        """
        if kind not in self.demos:
            raise ValueError(f"demo: {kind!r} is not a demonstration of recurrence; known: {self.demos}")
        if kind == "drill":
            budget = min(budget, 2 * DRILL_STEPS)
        values = problem.data[2:]
        thinking = [
            token
            for step, value in enumerate(values, start=1)
            for token in (COUNT + problem.difficulty - step, VALUE + value)
        ]
        forced = budget if len(thinking) > budget else None
        return Demonstration((*thinking[:budget], ANSWER, VALUE + values[-1], END), forced)

    def verify(self, problem: Problem, completion: Sequence[int]) -> Verdict:
        """The answer is the one value between the first `ANSWER` and the `END` right after it.

        Lines are the steps of the countdown; a slip has the wrong count or does not follow from the two
        values written before it (so an error counts once).
        """
        stop = next((i for i, token in enumerate(completion) if token in (ANSWER, END)), len(completion))
        lines, slips = _check(problem, completion[:stop])
        tail = list(completion[stop : stop + 4])
        if len(tail) != 3 or tail[0] != ANSWER or tail[2] != END or not VALUE <= tail[1] < COUNT:
            return Verdict(False, None, lines, slips)
        answer = tail[1] - VALUE
        return Verdict(answer == problem.data[-1], str(answer), lines, slips)


def _orbit(rule: str, x0: int, x1: int, horizon: int) -> tuple[int, ...]:
    """x0 … x_{horizon+1}."""
    orbit, follow = [x0, x1], RULES[rule]
    for _ in range(horizon):
        orbit.append(follow(orbit[-1], orbit[-2]))
    return tuple(orbit)


def _check(problem: Problem, thinking: Sequence[int]) -> tuple[int, int]:
    """Steps of the countdown, and how many of them are false; stops at the first token out of place."""
    follow = RULES[VOCAB[problem.prompt[0]]]
    before, last, count = problem.data[0], problem.data[1], problem.difficulty
    lines = slips = 0
    for i in range(0, len(thinking) - 1, 2):
        written, value = thinking[i] - COUNT, thinking[i + 1] - VALUE
        if not (0 <= written <= HORIZON and 0 <= value < MODULUS):
            break
        lines += 1
        slips += written != count - 1 or value != follow(last, before)
        before, last, count = last, value, written
    return lines, slips
