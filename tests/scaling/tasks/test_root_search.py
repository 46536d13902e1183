import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config import TaskConfig
from scaling.tasks import ANSWER, END, PAD, make_task, split_of, text
from scaling.tasks.root_search import (
    CONSTANTS,
    ID,
    OPS,
    TOP,
    ZERO,
    Equation,
    RootSearch,
    evaluate,
    linear,
    try_line,
)

TASK = RootSearch(2, 3)
EQUATION = Equation((("+", 3), ("*", 2), ("-", 5)), 11)
"""2x + 1 = 11: the root is 5."""

chains = st.lists(st.sampled_from(OPS), min_size=1, max_size=3, unique=True).flatmap(
    lambda ops: st.tuples(*(st.tuples(st.just(op), st.sampled_from(CONSTANTS[op])) for op in ops))
)


def problems(split, count, task=TASK, seed=0):
    return [task.problem(seed, split, index) for index in range(count)]


def tokens(line: str) -> list[int]:
    return [ID[word] for word in line.split()]


def parts(sequence, size):
    return [sequence[i : i + size] for i in range(0, len(sequence), size)]


def hand_made(equation: Equation):
    problem = TASK.problem(0, "train", 0)
    return type(problem)(0, len(equation.steps), "", problem.prompt, equation)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_the_verifier_accepts_the_one_root_and_nothing_else(split):
    for problem in problems(split, 150):
        equation = problem.data
        roots = [x for x in range(TOP + 1) if evaluate(equation.steps, x) == equation.target]
        accepted = [x for x in range(TOP + 1) if TASK.verify(problem, [ANSWER, ZERO + x, END]).correct]
        assert len(roots) == 1 and accepted == roots, text(TASK, problem.prompt)
        a, b = linear(equation.steps)
        assert a * roots[0] + b == equation.target


@pytest.mark.parametrize("word", ["<pad>", "<end>", "<answer>", "+", "*", "=", "<", ">", "!"])
def test_an_answer_is_a_number(word):
    problem = hand_made(EQUATION)
    verdict = TASK.verify(problem, [ANSWER, ID[word], END])
    assert (verdict.correct, verdict.answer) == (False, None)
    assert TASK.verify(problem, tokens("<answer> 5 <end>")).answer == "5"


@given(chains, st.integers(0, TOP), st.integers(0, TOP))
@settings(max_examples=300, deadline=None)
def test_a_line_is_true_arithmetic(steps, x, target):
    line, verdict = try_line(Equation(steps, target), x)
    words = text(TASK, line).split()
    value = int(words[0])
    assert value == x
    for (op, c), (written_op, written_c, result) in zip(steps, parts(words[1:-3], 3), strict=True):
        assert (written_op, int(written_c)) == (op, c)
        exact = {"+": value + c, "-": value - c, "*": value * c}[op]
        value = min(max(exact, 0), 49)
        assert int(result) == value
    assert words[-3:] == ["=", str(target), verdict]
    assert verdict == ("!" if value == target else "<" if value < target else ">")


@given(chains, st.integers(0, TOP))
@settings(max_examples=300, deadline=None)
def test_the_linear_form_is_the_function_where_nothing_saturates(steps, x):
    a, b = linear(steps)
    value, saturates = x, False
    for op, c in steps:
        value = {"+": value + c, "-": value - c, "*": value * c}[op]
        saturates |= not 0 <= value <= TOP
    assert a * x + b == value
    if not saturates:
        assert evaluate(steps, x) == value


@given(chains)
@settings(max_examples=200, deadline=None)
def test_the_function_never_falls(steps):
    values = [evaluate(steps, x) for x in range(TOP + 1)]
    assert values == sorted(values) and values[0] >= 0 and values[-1] <= TOP


def test_equal_equations_share_a_key_and_so_a_split():
    by_function: dict[tuple[int, int, int], set[str]] = {}
    keys = {"train": set(), "eval": set()}
    chains_of: dict[str, set] = {}
    for split in keys:
        for problem in problems(split, 600):
            assert split_of(problem.key) == split
            by_function.setdefault((*linear(problem.data.steps), problem.data.target), set()).add(problem.key)
            chains_of.setdefault(problem.key, set()).add(problem.data.steps)
            keys[split].add(problem.key)
    assert all(len(names) == 1 for names in by_function.values())
    assert len(by_function) == len(chains_of) == len(keys["train"]) + len(keys["eval"])
    assert max(map(len, chains_of.values())) > 1  # different chains of one equation do occur


def test_difficulty_is_uniform_in_both_splits_and_does_not_depend_on_which_problems_are_rejected():
    for split in ("train", "eval"):
        counts = Counter(len(problem.data.steps) for problem in problems(split, 600))
        assert set(counts) == {2, 3} and 220 < counts[2] < 380
    assert {problem.difficulty for problem in problems("eval", 30, RootSearch(3, 3))} == {3}


@pytest.mark.parametrize(("low", "high"), [(1, 2), (2, 4), (3, 2)])
def test_difficulties_that_the_task_does_not_have_are_refused(low, high):
    with pytest.raises(ValueError, match=f"difficulty_max: {low}, {high} are not numbers of steps, from 2 to 3"):
        make_task(TaskConfig(name="root_search", difficulty_min=low, difficulty_max=high))


TRUE = "2 + 3 5 * 2 10 - 5 5 = 11 <"
ALSO_TRUE = "30 + 3 33 * 2 49 - 5 44 = 11 >"
HIT = "5 + 3 8 * 2 16 - 5 11 = 11 !"


@pytest.mark.parametrize(
    ("thinking", "lines", "slips"),
    [
        ("", 0, 0),
        (TRUE, 1, 0),
        (f"{TRUE} {ALSO_TRUE} {HIT}", 3, 0),
        (f"{TRUE} {HIT} 7 + 3", 2, 0),  # what the budget cut is no line
        ("2 + 3 6 * 2 12 - 5 7 = 11 <", 1, 1),  # 2 + 3 is not 6
        ("2 + 3 5 * 2 10 - 5 5 = 12 <", 1, 1),  # another target
        ("2 + 3 5 * 2 10 - 5 5 = 11 >", 1, 1),  # a false verdict
        ("2 + 3 5 * 2 10 = 11 <", 1, 1),  # a step left out
        ("2 + 4 6 * 2 12 - 5 7 = 11 <", 1, 1),  # another function
        (f"+ {TRUE}", 1, 1),  # begins with no candidate
        (f"< {TRUE} !", 3, 2),
        (f"{HIT} 5 + 3 8 * 2 16 - 5 10 = 11 < {TRUE}", 3, 1),
    ],
)
def test_lines_and_slips_are_counted(thinking, lines, slips):
    for end in ("<answer> 5 <end>", "<answer> 6 <end>", "<end>"):
        verdict = TASK.verify(hand_made(EQUATION), tokens(f"{thinking} {end}"))
        assert (verdict.lines, verdict.slips) == (lines, slips)
        assert verdict.correct == (end == "<answer> 5 <end>")


def test_false_lines_cost_no_truth_of_the_answer_and_what_follows_it_is_no_line():
    verdict = TASK.verify(hand_made(EQUATION), tokens(f"<answer> {TRUE} 5 <end>"))
    assert (verdict.answer, verdict.lines) == (None, 0)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_false_line_is_found_at_its_first_false_token(data):
    problem = TASK.problem(0, "eval", data.draw(st.integers(0, 50)))
    lines = [try_line(problem.data, data.draw(st.integers(0, TOP)))[0] for _ in range(3)]
    thinking = [token for line in lines for token in line]
    length = len(lines[0])
    place = data.draw(st.integers(1, 3 * length - 1).filter(lambda i: i % length and (i + 1) % length))
    thinking[place] = data.draw(st.integers(ZERO, ZERO + TOP).filter(lambda token: token != thinking[place]))
    assert TASK.verify(problem, thinking).slip_at == (place,)


def test_a_drill_is_one_line_whose_guesses_teach_nothing_where_they_are_wrong():
    rng, seen = random.Random(0), Counter()
    for problem in problems("train", 300):
        for budget in (0, 5, 40):
            demo = TASK.demonstrate(problem, "drill", budget, rng)
            answer = demo.tokens.index(ANSWER)
            assert TASK.verify(problem, demo.tokens).lines <= 1
            guesses = {0, answer + 1}  # the candidate and the answer, the only tokens chosen at random
            if demo.forced is None:
                assert TASK.verify(problem, demo.tokens).correct
                assert demo.tokens[0] == demo.tokens[answer + 1] and demo.given == (0,)
            else:
                assert demo.forced == answer and set(demo.given) | {demo.forced} >= guesses
            seen[budget, demo.forced is None] += 1
    assert seen[0, True] == seen[5, True] == 0 and seen[40, True] > 50 and seen[40, False] > 50


def test_a_trace_tries_in_true_lines_until_it_hits_and_then_answers_what_hit():
    rng = random.Random(1)
    for problem in problems("train", 100):
        demo = TASK.demonstrate(problem, "trace", 10_000, rng)
        words = text(TASK, demo.tokens).split()
        assert words.count("!") == 1 and words[-4] == "!" and words[-3] == "<answer>"
        length = len(try_line(problem.data, 0)[0])
        lines = parts(demo.tokens[:-3], length)
        assert all(list(line) == try_line(problem.data, line[0] - ZERO)[0] for line in lines)
        assert demo.tokens[-2] == lines[-1][0] and demo.given == ()


def test_repeating_the_prompt_or_listing_answers_earns_nothing():
    for problem in problems("eval", 30):
        prompt, numbers = list(problem.prompt), range(ZERO, ZERO + TOP + 1)
        root = next(x for x in numbers if TASK.verify(problem, [ANSWER, x, END]).correct)
        for cheat in (
            [ANSWER, *prompt, END],
            [*prompt, ANSWER, END],
            [ANSWER, *numbers, END],
            [*numbers, END],
            [token for x in numbers for token in (ANSWER, x, END)],
            [ANSWER, root, root, END],
            [ANSWER, root, PAD, END],
            [ANSWER, root],
            [ANSWER, root, END, PAD],
            [root, END],
            [ANSWER, ANSWER, root, END],
        ):
            assert not TASK.verify(problem, cheat).correct, text(TASK, cheat)
