"""Operator search: choose +, − and × between digits so that they make a target.

Given a target t and n digits in order, find the n−1 operators that lead from the first digit to t, evaluated
from left to right, with every value on the way within 0 … 99. Difficulty is n. Thinking is trying: an
attempt is a line `x1 (op x result)… t` that ends in a step mark (a miss) or in `END` (the model claims a hit
and stops). At the budget `ANSWER` is injected, and one last attempt is the answer.

    prompt  7 3 4 2 <step>           (the target, the operands)
    think   3 + 4 7 × 2 14 7 <step>  3 × 4 12 - 2 10 7 <step>  3 + 4 7 - 2 5 7 …

Two choices come from a prototype in which the opposite failed. The target is repeated at the end of every
attempt, because a model that saw it only in the prompt did not learn when to stop. The answer is the whole
last line, and all of it is checked: a verifier that looked at the operators only let arithmetic decay in RL.

A uniform guess among the legal attempts hits 1 in 2.5, 6, 13, 22, 36 and 51 for n = 2 … 7.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from scaling.config import TaskConfig
from scaling.tasks import ANSWER, END, SPECIALS, Demonstration, Problem, Split, Task, Verdict, draw

STEP = len(SPECIALS)
PLUS, MINUS, TIMES = OPERATORS = (STEP + 1, STEP + 2, STEP + 3)
ZERO = TIMES + 1
"""The token of 0; the token of value v is ZERO + v."""
VALUES = 100
DIGITS = (1, 9)
VOCAB = (*SPECIALS, "<step>", "+", "-", "×", *map(str, range(VALUES)))
OPERANDS = (2, 7)
"""Fewest and most operands."""
HINT_SHARE = 0.3
"""Share of a hint demonstration's attempts that look one operator ahead."""


def make(config: TaskConfig) -> Task:
    """The task at difficulties (numbers of operands) within 2 … 7; raises ValueError beyond."""
    return OperatorSearch(config.difficulty_min, config.difficulty_max)


class OperatorSearch:
    vocab = VOCAB
    step_tokens: tuple[int, ...] = (STEP,)
    demos: tuple[str, ...] = ("drill", "trace", "hint")

    def __init__(self, fewest: int, most: int):
        if not OPERANDS[0] <= fewest <= most <= OPERANDS[1]:
            raise ValueError(
                f"task.difficulty_min, task.difficulty_max: {fewest}, {most} are not numbers of operands, "
                f"from {OPERANDS[0]} to {OPERANDS[1]}, the least first"
            )
        self.operands = (fewest, most)
        self.prompt_tokens = most + 2
        self.answer_tokens = 3 * most

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """A problem with a solution, of uniform difficulty; no permutation of operands crosses splits."""
        n = random.Random(f"{seed}/{split}/{index}/difficulty").randint(*self.operands)

        def propose(rng: random.Random) -> tuple[str, tuple[tuple[int, ...], int]]:
            operands = tuple(rng.randint(*DIGITS) for _ in range(n))
            return f"{sorted(operands)}", (operands, _attempt(operands, rng)[1][-1])

        key, (operands, target) = draw(seed, split, index, propose)
        prompt = (ZERO + target, *(ZERO + x for x in operands), STEP)
        return Problem(index, n, key, prompt, (operands, target))

    def demonstrate(self, problem: Problem, kind: str, budget: int, rng: random.Random) -> Demonstration:
        """Attempts in random order, none twice, until one hits or the budget cuts.

        drill: cut after one attempt; trace: as it is; hint: some attempts choose the last operator that hits
        where the ones before it allow a hit. A forced answer is an attempt at random, unless the hit stands
        at the very end of the thinking.
        """
        if kind not in self.demos:
            raise ValueError(f"demo: {kind!r} is not a demonstration of operator_search; known: {self.demos}")
        operands, target = problem.data
        if kind == "drill":
            budget = min(budget, 3 * len(operands))
        thinking: list[int] = []
        hit = None
        for operators, values in _attempts(operands, target, HINT_SHARE if kind == "hint" else 0.0, rng):
            if len(thinking) >= budget:
                break
            line = _line(operands, target, operators, values)
            thinking += line
            if values[-1] == target:
                if len(thinking) < budget:
                    return Demonstration((*thinking, END))
                hit = line if len(thinking) == budget else None
                break
            thinking.append(STEP)
        last = hit or _line(operands, target, *_attempt(operands, rng))
        return Demonstration((*thinking[:budget], ANSWER, *last, END), forced=budget)

    def verify(self, problem: Problem, completion: Sequence[int]) -> Verdict:
        """The answer is the line after `ANSWER`, or without one the last line before `END`.

        The vote is its operators; a line with a false result or target votes apart (`!`), so that one vote is
        either always right or always wrong. Lines and slips count arithmetic steps over the whole completion.
        """
        operands, target = problem.data
        lines, answered, ended = _split(completion)
        checked = [_steps(operands, line) for line in lines]
        answer = _read(operands, target, lines[-1]) if ended and answered <= 1 else None
        return Verdict(
            correct=answer is not None and answer[1],
            answer=answer and answer[0],
            lines=sum(steps for steps, _ in checked),
            slips=sum(slips for _, slips in checked),
        )


def _apply(operator: int, x: int, y: int) -> int:
    return x + y if operator == PLUS else x - y if operator == MINUS else x * y


def _values(operands: Sequence[int], operators: Sequence[int]) -> list[int] | None:
    """The result after each operator, or None where one leaves 0 … 99."""
    value, values = operands[0], []
    for operator, y in zip(operators, operands[1:], strict=True):
        value = _apply(operator, value, y)
        if not 0 <= value < VALUES:
            return None
        values.append(value)
    return values


def _attempt(operands: Sequence[int], rng: random.Random) -> tuple[list[int], list[int]]:
    """Operators drawn uniformly among the legal ones, and their values."""
    while True:
        operators = rng.choices(OPERATORS, k=len(operands) - 1)
        if (values := _values(operands, operators)) is not None:
            return operators, values


def _attempts(
    operands: Sequence[int], target: int, hint: float, rng: random.Random
) -> Iterator[tuple[list[int], list[int]]]:
    """All legal attempts in random order, drawn as they are asked for (a shuffle of indices, done lazily)."""
    gaps = len(operands) - 1
    moved: dict[int, int] = {}
    for left in range(len(OPERATORS) ** gaps, 0, -1):
        place = rng.randrange(left)
        code = moved.get(place, place)
        moved[place] = moved.get(left - 1, left - 1)
        operators = []
        for _ in range(gaps):
            code, digit = divmod(code, len(OPERATORS))
            operators.append(OPERATORS[digit])
        values = _values(operands, operators)
        if values is None:
            continue
        if hint and rng.random() < hint:
            before = values[-2] if gaps > 1 else operands[0]
            for last in OPERATORS:
                if _apply(last, before, operands[-1]) == target:
                    operators[-1], values[-1] = last, target
        yield operators, values


def _line(operands: Sequence[int], target: int, operators: Sequence[int], values: Sequence[int]) -> list[int]:
    line = [ZERO + operands[0]]
    for operator, y, value in zip(operators, operands[1:], values, strict=True):
        line += (operator, ZERO + y, ZERO + value)
    line.append(ZERO + target)
    return line


def _split(completion: Sequence[int]) -> tuple[list[list[int]], int, bool]:
    """Lines of the completion, how many `ANSWER`s it has, and whether it ends in its only `END`.

    After `ANSWER` a step mark does not begin a line, so it spoils the answer: only one line may follow.
    """
    lines: list[list[int]] = [[]]
    answered = 0
    for position, token in enumerate(completion):
        if token == END:
            return lines, answered, position == len(completion) - 1
        if token == ANSWER:
            answered += 1
            lines.append([])
        elif token == STEP and not answered:
            lines.append([])
        else:
            lines[-1].append(token)
    return lines, answered, False


def _steps(operands: Sequence[int], line: Sequence[int]) -> tuple[int, int]:
    """Arithmetic steps of a line, and the false ones: with another operand, or another result than its own
    left-hand side gives (so an error counts once). Stops at the first token that is out of place."""
    steps = slips = 0
    if not line or not 0 <= line[0] - ZERO < VALUES:
        return 0, 0
    value = line[0] - ZERO
    for i, expected in enumerate(operands[1:]):
        step = line[3 * i + 1 : 3 * i + 4]
        if len(step) < 3 or step[0] not in OPERATORS or not all(0 <= t - ZERO < VALUES for t in step[1:]):
            break
        steps += 1
        y, result = step[1] - ZERO, step[2] - ZERO
        slips += y != expected or result != _apply(step[0], value, y)
        value = result
    return steps, slips


def _read(operands: Sequence[int], target: int, line: Sequence[int]) -> tuple[str, bool] | None:
    """Vote and truth of a whole attempt line, or None where it is not one."""
    if len(line) != 3 * len(operands) - 1:
        return None
    operators = line[1:-1:3]
    numbers = [line[0], *line[2:-1:3], *line[3:-1:3], line[-1]]
    if not all(t in OPERATORS for t in operators) or not all(0 <= t - ZERO < VALUES for t in numbers):
        return None
    vote = "".join(VOCAB[t] for t in operators)
    values = _values(operands, operators)
    if values is None or list(line) != _line(operands, target, operators, values):
        return vote + "!", False
    return vote, values[-1] == target
