"""The laws of the task protocol, over every task that `make_task` knows."""

import importlib.util
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config import TaskConfig
from scaling.tasks import ANSWER, END, PAD, SPECIALS, TASKS, Task, held_out, make_task, text

DIFFICULTIES = {
    "root_search": [(2, 3), (2, 2)],
    "operator_search": [(3, 5), (2, 7)],
    "recurrence": [(4, 64), (1, 6)],
    "problem_file": [(1, 1)],
}
CASES = [
    (name, *range_)
    for name in TASKS
    if importlib.util.find_spec(f"scaling.tasks.{name}")
    for range_ in DIFFICULTIES[name]
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def task(request, tmp_path_factory) -> Task:
    name, low, high = request.param
    path = ""
    if name == "problem_file":
        path = tmp_path_factory.mktemp("problems") / "sums.jsonl"
        rows = [
            {"prompt": f"{a} + {b} =", "answer": str(a + b), "solution": f"{b} + {a} = {a + b}\n"}
            for a in range(20)
            for b in range(20)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_task(TaskConfig(name=name, difficulty_min=low, difficulty_max=high, path=str(path)))


def problems(task: Task, split, count=40, seed=0):
    return [task.problem(seed, split, index) for index in range(count)]


def test_vocabulary_begins_with_the_specials_and_has_no_text_twice(task):
    assert task.vocab[: len(SPECIALS)] == SPECIALS
    assert len(set(task.vocab)) == len(task.vocab)
    assert task.step_tokens and not set(task.step_tokens) & {PAD, END, ANSWER}
    assert max(task.step_tokens) < len(task.vocab)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_train_and_evaluation_problems_are_disjoint(task, seed):
    train = problems(task, "train", 150, seed)
    held_out = problems(task, "eval", 40, seed)
    assert not {p.key for p in train} & {p.key for p in held_out}
    assert not {p.prompt for p in train} & {p.prompt for p in held_out}


def test_disjoint_across_seeds_too(task):
    train = {p.key for seed in range(5) for p in problems(task, "train", 50, seed)}
    held_out = {p.key for seed in range(5, 8) for p in problems(task, "eval", 30, seed)}
    assert not train & held_out


def test_problems_are_a_pure_function_of_seed_split_and_index(task):
    for split in ("train", "eval"):
        forwards = problems(task, split, 20, seed=7)
        backwards = [task.problem(7, split, index) for index in reversed(range(20))]
        assert forwards == backwards[::-1]
        assert [p.index for p in forwards] == list(range(20))
    assert problems(task, "train", 20, seed=7) != problems(task, "train", 20, seed=8)


def test_held_out_problems_are_different_prompts_of_the_evaluation_split_and_fewer_are_the_first_of_more(task):
    problems_ = held_out(task, 60)
    assert len({p.prompt for p in problems_}) == 60 and [p.index for p in problems_] == list(range(60))
    assert not {p.key for p in problems_} & {p.key for p in problems(task, "train", 150)}
    assert held_out(task, 25) == problems_[:25]


def test_more_held_out_problems_than_there_are_is_refused_with_their_number():
    task = make_task(TaskConfig(name="recurrence", difficulty_min=4, difficulty_max=4))
    with pytest.raises(ValueError, match=r"evaluation.problems = 400: \d+ draws gave only \d+ different"):
        held_out(task, 400)


def test_problems_fit_what_the_task_declares(task):
    for problem in problems(task, "train", 200) + problems(task, "eval", 40):
        assert 0 < len(problem.prompt) <= task.prompt_tokens
        assert all(len(SPECIALS) <= token < len(task.vocab) for token in problem.prompt)
        assert isinstance(problem.key, str) and problem.difficulty >= 1


@pytest.mark.parametrize("budget", [0, 1, 7, 24, 64, 10_000])
def test_demonstrations_keep_to_their_budget_and_are_right_where_not_forced(task, budget):
    rng = random.Random(budget)
    for kind in task.demos:
        for problem in problems(task, "train", 60):
            demo = task.demonstrate(problem, kind, budget, rng)
            tokens = demo.tokens
            assert tokens[-1] == END and tokens.count(END) == 1 and PAD not in tokens
            assert all(0 <= token < len(task.vocab) for token in tokens)
            verdict = task.verify(problem, tokens)
            assert verdict.answer is not None and verdict.slips == 0
            assert tokens.count(ANSWER) <= 1
            if ANSWER in tokens:
                thinking = tokens.index(ANSWER)
                assert thinking <= budget
                assert len(tokens) - thinking - 1 <= task.answer_tokens
            else:
                assert len(tokens) <= budget
            if demo.forced is None:
                assert verdict.correct, text(task, tokens)
            else:
                assert tokens[demo.forced] == ANSWER


def test_demonstrations_depend_on_nothing_but_their_arguments(task):
    for kind in task.demos:
        problem = task.problem(0, "train", 5)
        first, second = (task.demonstrate(problem, kind, 50, random.Random(3)) for _ in range(2))
        assert first == second


def test_an_unknown_demonstration_is_refused(task):
    with pytest.raises(ValueError, match="demo"):
        task.demonstrate(task.problem(0, "train", 0), "no such kind", 10, random.Random(0))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_verify_never_raises_and_one_vote_has_one_truth(task, data):
    token = st.one_of(
        st.integers(0, len(task.vocab) - 1), st.sampled_from([END, ANSWER, *task.step_tokens]), st.integers()
    )
    problem = task.problem(0, "train", data.draw(st.integers(0, 5)))
    truth: dict[str, bool] = {}
    for completion in data.draw(st.lists(st.lists(token, max_size=40), max_size=5)):
        verdict = task.verify(problem, completion)
        assert 0 <= verdict.slips <= verdict.lines
        assert verdict.answer is not None or not verdict.correct
        if verdict.answer is not None:
            assert truth.setdefault(verdict.answer, verdict.correct) == verdict.correct


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_verify_survives_any_edit_of_a_right_completion(task, data):
    problem = task.problem(0, "train", data.draw(st.integers(0, 5)))
    tokens = list(task.demonstrate(problem, task.demos[-1], 60, random.Random(0)).tokens)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(tokens))] * 2)))
    tokens[start:stop] = data.draw(st.lists(st.integers(0, len(task.vocab) - 1), max_size=4))
    verdict = task.verify(problem, tokens)
    assert verdict.correct <= (verdict.answer is not None)
    assert 0 <= verdict.slips <= verdict.lines


def test_random_completions_earn_next_to_nothing(task):
    rng = random.Random(0)
    held_out = problems(task, "eval", 40)
    correct = 0
    for problem in held_out:
        for _ in range(50):
            length = rng.randint(0, 20)
            thinking = [rng.randrange(len(SPECIALS), len(task.vocab)) for _ in range(length)]
            answer = [rng.randrange(len(task.vocab)) for _ in range(rng.randint(0, task.answer_tokens - 1))]
            correct += task.verify(problem, [*thinking, ANSWER, *answer, END]).correct
    assert correct / (50 * len(held_out)) < 0.05


def test_a_trace_without_a_budget_is_right(task):
    for problem in problems(task, "train", 100):
        demo = task.demonstrate(problem, "trace", 10**5, random.Random(0))
        assert demo.forced is None and task.verify(problem, demo.tokens).correct, text(task, problem.prompt)


def test_repeating_the_prompt_or_listing_many_answers_earns_nothing(task):
    for problem in problems(task, "eval", 40):
        right = list(task.demonstrate(problem, "trace", 10**5, random.Random(0)).tokens)
        assert task.verify(problem, right).correct
        answer = right[right.index(ANSWER) + 1 : -1] if ANSWER in right else right[-(task.answer_tokens) : -1]
        prompt = list(problem.prompt)
        for cheat in (
            prompt,
            [*prompt, END],
            [ANSWER, *prompt, END],
            [*right, *right],
            right[:-1],
            [ANSWER, *answer, *answer, END],
            [ANSWER, *answer, ANSWER, *answer, END],
            [ANSWER, *answer, task.step_tokens[0], *answer, END],
            [ANSWER, *range(len(SPECIALS), len(task.vocab)), END],
        ):
            assert not task.verify(problem, cheat).correct, text(task, cheat)


def test_verify_is_linear_in_the_completion(task):
    """A quadratic verifier would take minutes here."""
    problem = task.problem(0, "train", 0)
    right = task.demonstrate(problem, "trace", 10**5, random.Random(0)).tokens
    thinking = right[: right.index(ANSWER) if ANSWER in right else -1]
    for unit in ((task.step_tokens[0],), (len(task.vocab) - 1,), thinking, (ANSWER,), (END,), right):
        task.verify(problem, list(unit) * (200_000 // len(unit)))


def test_an_unknown_task_is_refused_by_name():
    with pytest.raises(ValueError, match="operator_search"):
        make_task(TaskConfig(name="operators"))
