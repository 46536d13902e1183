"""A file of problems: wrong lines are named, answers are compared as text or as exact decimal numbers."""

import json
import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.config import TaskConfig
from scaling.structure import ConfigError
from scaling.tasks import ANSWER, END, make_task, split_of
from scaling.tasks.problem_file import TOKEN, canonical, make

EXAMPLE = [
    {"prompt": "3 + 4 =", "answer": "7", "solution": "4 + 3 = 7", "split": "train"},
    {"prompt": "Capital of France?", "answer": "Paris", "solution": "a city\non the Seine", "split": "train"},
    {"prompt": "10 / 4 =", "answer": "2.50", "difficulty": 2, "split": "eval"},
]


@pytest.fixture
def load(tmp_path):
    def load(rows):
        path = tmp_path / "problems.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return make(TaskConfig(name="problem_file", path=str(path)))

    return load


def characters(text: str) -> list[int]:
    return [TOKEN[character] for character in text]


def test_a_small_file(load):
    task = load([*EXAMPLE, "", "  "])
    assert task.prompt_tokens == len("Capital of France?\n")
    assert task.answer_tokens == len("Paris") + 1
    assert task.demos == ("trace",)
    assert {task.problem(0, "train", i).key for i in range(2)} == {"3 + 4 =", "Capital of France?"}
    problem = task.problem(0, "eval", 0)
    assert problem.difficulty == 2
    assert problem.prompt == tuple(characters("10 / 4 =\n"))
    for answer, correct in (("2.5", True), (" 2.50", True), ("2.5.", False), ("2", False), ("+2.5", True)):
        assert task.verify(problem, [ANSWER, *characters(answer), END]).correct is correct
    too_long = characters("02.500")
    assert task.verify(problem, [ANSWER, *too_long, END]).answer is None


def test_training_starts_over_and_evaluation_says_how_many_there_are(load):
    task = load(EXAMPLE)
    keys = [task.problem(0, "train", i).key for i in range(6)]
    assert keys[:2] == keys[2:4] == keys[4:] and len(set(keys)) == 2
    with pytest.raises(ValueError, match=r"has 1 eval problems, but number 2 .* evaluation.problems"):
        task.problem(0, "eval", 1)
    with pytest.raises(ValueError, match="has 0 eval problems"):
        load(EXAMPLE[:2]).problem(0, "eval", 0)


def test_the_hash_of_a_prompt_decides_its_split(load):
    task = load([{"prompt": f"say {i}", "answer": str(i)} for i in range(200)])
    train, held_out = (len(task.entries[split]) for split in ("train", "eval"))
    assert train + held_out == 200 and 30 < held_out < 75
    assert all(split_of(task.problem(0, "eval", i).key) == "eval" for i in range(held_out))
    assert len({task.problem(0, "eval", i).key for i in range(held_out)}) == held_out


def test_without_solutions_there_are_no_demonstrations(load):
    task = load([*EXAMPLE, {"prompt": "Why?", "answer": "42", "split": "train"}])
    assert task.demos == ()
    with pytest.raises(ValueError, match="not all its training problems have a solution"):
        task.demonstrate(task.problem(0, "train", 0), "trace", 10, random.Random(0))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"prompt": "a"'], r"jsonl:1: is not JSON"),
        (["[1]"], r"jsonl:1: is not a JSON object"),
        (["[" * 100_000], r"jsonl:1: is not JSON"),
        (['{"prompt": "a", "answer": "b", "difficulty": ' + "9" * 5000 + "}"], r"jsonl:1: is not JSON"),
        ([EXAMPLE[0], {"prompt": "a"}], r"jsonl:2: answer: None must be a text"),
        ([EXAMPLE[0], {"prompt": " ", "answer": "b"}], r"jsonl:2: prompt: ' ' must be a text"),
        ([{"prompt": "a", "answer": 3}], r"jsonl:1: answer: 3 must be a text"),
        (["", {"prompt": "naïve", "answer": "b"}], r"jsonl:2: prompt: 'ï' has no token"),
        ([{"prompt": "a", "answer": "b\tc"}], r"jsonl:1: answer: '\\t' has no token"),
        ([{"prompt": "a", "answer": "b", "solutoin": "c"}], r"jsonl:1: solutoin: is not a field"),
        ([{"prompt": "a", "answer": "b", "difficulty": 0}], r"jsonl:1: difficulty: 0 must be"),
        ([{"prompt": "a", "answer": "b", "difficulty": True}], r"jsonl:1: difficulty: True must be"),
        ([{"prompt": "a", "answer": "b", "split": "test"}], r"jsonl:1: split: 'test' must be train or eval"),
        ([*EXAMPLE, {"prompt": "3  + 4 =", "answer": "8"}], r"jsonl:4: prompt: is the same as on line 1"),
        ([], r"has no problems"),
    ],
)
def test_a_wrong_line_is_named(load, rows, message):
    with pytest.raises(ValueError, match=message) as error:
        load(rows)
    assert "\n" not in str(error.value)


def test_a_missing_path_or_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"task\.path: problem_file needs"):
        make_task(TaskConfig(name="problem_file"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("none.jsonl", "binary"):
        with pytest.raises(ConfigError, match=r"task\.path: .*cannot be read"):
            make_task(TaskConfig(name="problem_file", path=str(tmp_path / name)))


numbers = st.from_regex(r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})", fullmatch=True)


@given(numbers, numbers)
def test_numbers_are_equal_exactly_when_their_values_are(a, b):
    assert (canonical(a) == canonical(b)) == (Decimal(a) == Decimal(b))
    assert Decimal(canonical(a)) == Decimal(a)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_canonical_is_idempotent_and_leaves_words_alone(text):
    assert canonical(canonical(text)) == canonical(text)
    if not any(character.isdigit() for character in text):
        assert canonical(text) == text.strip()


def test_a_very_long_number_is_compared_as_text():
    assert canonical("0" * 100_000 + "7" * 100_000) == "7" * 100_000
