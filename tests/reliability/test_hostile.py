"""Text that means harm gets a verdict, soon and in little memory, and is never run.

`RELIABILITY=all` judges a million completions and prints how much processor time their verdicts took.
"""

import contextlib
import json
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config import TaskConfig
from scaling.structure import read_yaml
from scaling.tasks import ANSWER, END, PAD, TASKS, Problem, Task, make_task
from scaling.tasks.problem_file import TOKEN
from sweeps import conditions

pytestmark = pytest.mark.reliability

WHOLE = os.environ.get("RELIABILITY") == "all"
COMPLETIONS = 250_000 if WHOLE else 5_000
"""Of each of the four tasks."""
QUANTILES = {"median": 0.5, "99%": 0.99, "99.99%": 0.9999, "longest": 1.0}
CODE = (
    "__import__('os').system('touch pwned')",
    "!!python/object/apply:os.system ['touch pwned']",
    "open('pwned', 'w')",
    "$(touch pwned) `touch pwned` ; touch pwned | touch pwned",
    "{{''.__class__.__mro__[1].__subclasses__()}}",
    "9**9**9**9",
    "(" * 500 + ")" * 500,
    "'; DROP TABLE problems; --",
    "%s%n%x {0.__class__} \\x00 \\u0000",
)
DIFFICULTY = {"root_search": (2, 3), "operator_search": (2, 7), "recurrence": (1, 64), "problem_file": (1, 1)}


@pytest.fixture(scope="module", params=TASKS)
def task(request, tmp_path_factory) -> Task:
    path, low_high = "", DIFFICULTY[request.param]
    if request.param == "problem_file":
        path = tmp_path_factory.mktemp("problems") / "sums.jsonl"
        rows = [
            {"prompt": f"{a} + {b} =", "answer": str(a + b), "solution": "?"} for a in range(9) for b in range(9)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_task(TaskConfig(request.param, *low_high, str(path)))


def characters(text: str) -> list[int]:
    return [TOKEN[c] for c in text if c in TOKEN]


def kinds(task: Task, problem: Problem, rng: random.Random) -> list[Callable[[], list[int]]]:
    """Ways to make a completion: noise, words out of place, answers by the dozen, code, huge numbers."""
    size = len(task.vocab)
    right = list(task.demonstrate(problem, task.demos[-1], 60, rng).tokens)

    def noise(most: int) -> list[int]:
        return [rng.randrange(size) for _ in range(rng.randrange(most))]

    def edited() -> list[int]:
        at = rng.randrange(len(right))
        return [*right[:at], *noise(4), *right[at + rng.randrange(4) :]]

    def beyond() -> list[int]:
        return [rng.choice((-1, -size, size, 2**31, 2**63, 10**30, ANSWER, END)) for _ in range(rng.randrange(20))]

    return [
        lambda: noise(80),
        lambda: [*noise(20), ANSWER, *noise(task.answer_tokens + 2), END],
        edited,
        lambda: [*right, *noise(6), *right],
        lambda: [rng.choice((PAD, END, ANSWER, *task.step_tokens)) for _ in range(rng.randrange(40))],
        lambda: [*problem.prompt, ANSWER, *problem.prompt, END],
        lambda: [ANSWER, *[rng.randrange(3, size)] * rng.randrange(400), END],
        beyond,
        lambda: [ANSWER, *(token % size for token in characters(rng.choice(CODE))), END],
    ]


def completions(task: Task, count: int, seed: int = 0) -> Iterator[tuple[Problem, list[int]]]:
    rng = random.Random(seed)
    problems = [task.problem(0, "train", index) for index in range(50)]
    ways = [(problem, make) for problem in problems for make in kinds(task, problem, rng)]
    for _ in range(count):
        problem, make = rng.choice(ways)
        yield problem, make()


def test_every_completion_gets_a_verdict_and_one_answer_has_one_truth(task, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    truth: dict[tuple[str, str], bool] = {}
    seconds = []
    for problem, completion in completions(task, COMPLETIONS):
        before = time.thread_time()
        verdict = task.verify(problem, completion)
        seconds.append(time.thread_time() - before)
        assert 0 <= verdict.slips <= verdict.lines
        assert verdict.answer is not None or not verdict.correct
        if verdict.answer is not None:
            known = truth.setdefault((problem.key, verdict.answer), verdict.correct)
            assert known == verdict.correct, completion
    assert not list(tmp_path.iterdir()), "a completion was run"
    if WHOLE:
        seconds.sort()
        parts = (f"{name} {seconds[int(q * (len(seconds) - 1))] * 1e3:.3f} ms" for name, q in QUANTILES.items())
        with capsys.disabled():
            print(f"\n{type(task).__name__}: {len(seconds):,} verdicts, {', '.join(parts)}")


def lines_run(call: Callable[[], object]) -> int:
    """Lines of Python that a call runs: work that no clock and no other process disturbs."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def shapes(task: Task) -> dict[str, Callable[[int], list[int]]]:
    """Completions of any length, by what fills them."""
    problem = task.problem(0, "train", 0)
    right = task.demonstrate(problem, task.demos[-1], 60, random.Random(0)).tokens
    thinking = right[: right.index(ANSWER) if ANSWER in right else -1]
    word = len(task.vocab) - 1

    def filled(unit) -> Callable[[int], list[int]]:
        return lambda n: [*unit * (n // len(unit)), ANSWER, word, END]

    return {
        "one word": filled((word,)),
        "step marks": filled(task.step_tokens[:1]),
        "lines": filled(tuple(thinking)),
        "whole answers": filled(tuple(right)),
        "an answer without end": lambda n: [ANSWER, *[word] * n],
        "a huge answer": lambda n: [ANSWER, *[word] * n, END],
        "answers": lambda n: [ANSWER, word] * (n // 2),
    }


def test_a_verdict_is_work_in_proportion_to_the_completion(task):
    problem = task.problem(0, "train", 0)
    for name, make in shapes(task).items():
        short, long = (lines_run(partial(task.verify, problem, make(length))) for length in (2000, 8000))
        assert long <= 4.2 * short + 200, f"{name}: {short} lines of Python for 2,000 tokens, {long} for 8,000"
        assert long <= 8000 * 40, name


def test_a_verdict_takes_memory_in_proportion_to_the_completion(task):
    """At most 128 bytes a token beside the completion: a line of a list for each, no text of texts."""
    problem, length = task.problem(0, "train", 0), 10**6 if WHOLE else 10**5
    for name, make in shapes(task).items():
        completion = make(length)
        tracemalloc.start()
        task.verify(problem, completion)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= 128 * length, f"{name}: {peak / length:.1f} bytes a token"


@pytest.mark.skipif(not WHOLE, reason="a second and 200 MB; RELIABILITY=all")
def test_an_answer_of_ten_megabytes_is_no_answer(task):
    problem = task.problem(0, "train", 0)
    assert not task.verify(problem, [ANSWER, *[len(task.vocab) - 1] * 10**7, END]).correct


# Parsers of text --------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text(max_size=200),
    st.sampled_from(CODE),
    st.lists(
        st.sampled_from(["[", "{", "a: ", "&a ", "*a ", "!!python/name:os ", "- ", "\n", "'", '"', "|", "%"])
    ).map("".join),
    st.text("٠١٢٣９９1_.e+-", max_size=40),
    st.integers(1, 3000).map(lambda n: "[" * n),
    st.integers(1, 6000).map(lambda n: "9" * n),
)
FAST = settings(max_examples=2000 if WHOLE else 100, deadline=None)


def one_line(error: ValueError) -> bool:
    return bool(str(error)) and len(str(error).splitlines()) == 1


@FAST
@given(TEXTS)
def test_yaml_is_plain_data_or_one_line_that_says_why_not(text):
    try:
        read_yaml(text)
    except ValueError as error:
        assert one_line(error)


@FAST
@given(TEXTS)
def test_a_condition_is_read_or_one_line_says_why_not(text):
    try:
        found = conditions.parse(text)
        conditions.compute(found, lambda path: 1)
    except ValueError as error:
        assert one_line(error)


def test_no_text_was_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in CODE:
        for read in (read_yaml, conditions.parse):
            with contextlib.suppress(ValueError):
                read(text)
    assert not list(tmp_path.iterdir())
