"""Iterated recurrence: the answer is the orbit's last value, and each slip of the countdown counts once."""

import random
from math import log

import pytest

from scaling.config import TaskConfig
from scaling.tasks import text
from scaling.tasks.recurrence import COUNT, RULES, VALUE, VOCAB, Recurrence, make

TASK = Recurrence(3, 3)
PROBLEM = next(
    p for p in (TASK.problem(0, "train", i) for i in range(10_000)) if text(TASK, p.prompt) == "A 3 4 3:"
)


def tokens(line: str) -> list[int]:
    return [VOCAB.index(word) for word in line.replace("END", "<end>").replace("ANSWER", "<answer>").split()]


@pytest.mark.parametrize(
    ("completion", "correct", "answer", "lines", "slips"),
    [
        ("2: 8 1: 3 0: 2 ANSWER 2 END", True, "2", 3, 0),
        ("ANSWER 2 END", True, "2", 0, 0),
        ("2: 8 1: 4 0: 3 ANSWER 3 END", False, "3", 3, 1),
        ("2: 8 0: 3 ANSWER 3 END", False, "3", 2, 1),
        ("2: 8 1: ANSWER 2 END", True, "2", 1, 0),
        ("2: 8 1 3 0: 2 ANSWER 2 END", True, "2", 1, 0),
        ("2: 8 1: 3 0: 2 END", False, None, 3, 0),
        ("2: 8 ANSWER 2", False, None, 1, 0),
        ("ANSWER 2 2 END", False, None, 0, 0),
        ("ANSWER 2 END END", False, None, 0, 0),
        ("ANSWER ANSWER 2 END", False, None, 0, 0),
        ("ANSWER 2: END", False, None, 0, 0),
        ("ANSWER END", False, None, 0, 0),
        ("", False, None, 0, 0),
    ],
)
def test_verdicts(completion, correct, answer, lines, slips):
    verdict = TASK.verify(PROBLEM, tokens(completion))
    assert (verdict.correct, verdict.answer, verdict.lines, verdict.slips) == (correct, answer, lines, slips)


def test_the_docstring_example_is_the_demonstration():
    demo = TASK.demonstrate(PROBLEM, "trace", 6, random.Random(0))
    assert text(TASK, demo.tokens) == "2: 8 1: 3 0: 2 <answer> 2 <end>"
    assert demo.forced is None
    assert TASK.demonstrate(PROBLEM, "trace", 5, random.Random(0)).forced == 5


def test_a_drill_is_the_first_five_steps_of_any_horizon():
    task = Recurrence(4, 64)
    for problem in (task.problem(0, "train", i) for i in range(50)):
        drill = task.demonstrate(problem, "drill", 128, random.Random(0))
        whole = task.demonstrate(problem, "trace", 128, random.Random(0))
        assert whole.forced is None and len(whole.tokens) == 2 * problem.difficulty + 3
        if problem.difficulty > 5:
            assert drill.forced == 10 and drill.tokens[:10] == whole.tokens[:10]


def test_horizons_are_log_uniform_and_reach_both_ends():
    task = Recurrence(4, 64)
    horizons = [task.problem(1, "train", i).difficulty for i in range(3000)]
    assert min(horizons) == 4 and max(horizons) == 64
    for edge in (8, 16, 32):
        share = sum(horizon < edge for horizon in horizons) / len(horizons)
        assert share == pytest.approx(log(edge / 4) / log(65 / 4), abs=0.04)


def test_orbits_seldom_repeat_within_a_trace():
    for follow in RULES.values():
        periods = []
        for start in range(100):
            state, steps = divmod(start, 10), 0
            while steps == 0 or state != divmod(start, 10):
                state, steps = (follow(*state), state[0]), steps + 1
            periods.append(steps)
        assert sum(periods) / len(periods) > 40


def test_values_and_counts_are_different_tokens():
    assert {VOCAB[VALUE + v] for v in range(10)} == set("0123456789")
    assert VOCAB[COUNT + 64] == "64:"


@pytest.mark.parametrize(("low", "high"), [(0, 3), (3, 65), (5, 4)])
def test_impossible_horizons_are_refused(low, high):
    with pytest.raises(ValueError, match="horizons"):
        make(TaskConfig(name="recurrence", difficulty_min=low, difficulty_max=high))
