"""Operator search: a hit counts only when the whole line is true, and attempts are honest random search."""

import itertools
import random
from collections import Counter

import pytest

from scaling.config import TaskConfig
from scaling.tasks import ANSWER, END, Problem, split_of, text
from scaling.tasks.operator_search import STEP, VOCAB, OperatorSearch, make

TASK = OperatorSearch(3, 5)
# 3 5 2 -> 16: solved by (3 + 5) × 2 and by nothing else
PROBLEM = Problem(0, 3, "", (), ((3, 5, 2), 16))
HIT, MISS = "3 + 5 8 × 2 16 16", "3 × 5 15 - 2 13 16"


def tokens(line: str) -> list[int]:
    names = {"|": STEP, "END": END, "ANSWER": ANSWER}
    return [names[word] if word in names else VOCAB.index(word) for word in line.split()]


@pytest.mark.parametrize(
    ("completion", "correct", "answer", "lines", "slips"),
    [
        (f"{HIT} END", True, "+×", 2, 0),
        (f"{MISS} | {HIT} END", True, "+×", 4, 0),
        (f"{MISS} | 3 + ANSWER {HIT} END", True, "+×", 4, 0),
        (f"{HIT} | {MISS} END", False, "×-", 4, 0),
        (f"{HIT} ANSWER {MISS} END", False, "×-", 4, 0),
        ("3 + 5 9 × 2 16 16 END", False, "+×!", 2, 2),
        ("3 + 5 8 × 2 16 15 END", False, "+×!", 2, 0),
        ("3 × 5 16 - 2 14 16 END", False, "×-!", 2, 1),
        ("3 - 5 0 - 2 0 16 END", False, "--!", 2, 2),
        ("3 + 2 5 × 5 25 16 END", False, "+×!", 2, 2),
        (f"{HIT}", False, None, 2, 0),
        (f"{HIT} |", False, None, 2, 0),
        (f"{HIT} | END", False, None, 2, 0),
        (f"{HIT} 16 END", False, None, 2, 0),
        (f"{HIT} END END", False, None, 2, 0),
        (f"ANSWER {HIT} | {HIT} END", False, None, 2, 0),
        (f"ANSWER {MISS} ANSWER {HIT} END", False, None, 4, 0),
        ("ANSWER 16 END", False, None, 0, 0),
        ("END", False, None, 0, 0),
        ("", False, None, 0, 0),
    ],
)
def test_verdicts(completion, correct, answer, lines, slips):
    verdict = TASK.verify(PROBLEM, tokens(completion))
    assert (verdict.correct, verdict.answer) == (correct, answer)
    assert (verdict.lines, verdict.slips) == (lines, slips)


def test_every_problem_has_a_solution_and_no_permutation_crosses_splits():
    for split in ("train", "eval"):
        for problem in (TASK.problem(3, split, i) for i in range(60)):
            operands, target = problem.data
            assert problem.difficulty == len(operands)
            assert all(split_of(f"{sorted(p)}") == split for p in itertools.permutations(operands))
            assert text(TASK, problem.prompt).split() == [str(target), *map(str, operands), "<step>"]
            trace = TASK.demonstrate(problem, "trace", 10**6, random.Random(0))
            assert trace.forced is None and TASK.verify(problem, trace.tokens).correct


def test_a_trace_tries_every_legal_attempt_at_most_once():
    problem = OperatorSearch(5, 5).problem(0, "train", 1)
    demo = TASK.demonstrate(problem, "trace", 10**6, random.Random(1))
    attempts = text(TASK, demo.tokens).replace("<end>", "").split("<step>")
    assert demo.forced is None
    assert len(set(attempts)) == len(attempts) > 1


def test_a_random_attempt_hits_as_often_as_the_docstring_says():
    for n, rate in ((3, 1 / 6), (4, 1 / 13), (5, 1 / 22)):
        task, rng = OperatorSearch(n, n), random.Random(0)
        hits = Counter(
            task.verify(p, task.demonstrate(p, "trace", 0, rng).tokens).correct
            for p in (task.problem(0, "train", i) for i in range(1500))
        )
        assert hits[True] / 1500 == pytest.approx(rate, rel=0.3)


def test_a_drill_is_one_attempt_and_a_hint_finds_hits_sooner():
    problems = [TASK.problem(0, "train", i) for i in range(1500)]
    for problem in problems[:50]:
        demo = TASK.demonstrate(problem, "drill", 100, random.Random(problem.index))
        assert demo.tokens.count(STEP) == (0 if demo.forced is None else 1)

    def mean_length(kind: str) -> float:
        rng = random.Random(0)
        return sum(len(TASK.demonstrate(p, kind, 10**6, rng).tokens) for p in problems) / len(problems)

    assert mean_length("hint") < 0.92 * mean_length("trace")


def test_a_hit_at_the_very_end_of_the_budget_is_the_forced_answer():
    for index in range(200):
        problem = TASK.problem(0, "train", index)
        whole = TASK.demonstrate(problem, "trace", 10**6, random.Random(index))
        cut = TASK.demonstrate(problem, "trace", len(whole.tokens) - 1, random.Random(index))
        assert cut.tokens[: cut.forced] == whole.tokens[:-1]
        assert TASK.verify(problem, cut.tokens).correct


@pytest.mark.parametrize(("low", "high"), [(1, 3), (3, 8), (5, 4)])
def test_impossible_difficulties_are_refused(low, high):
    with pytest.raises(ValueError, match="numbers of operands"):
        make(TaskConfig(name="operator_search", difficulty_min=low, difficulty_max=high))
