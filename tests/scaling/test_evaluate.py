"""Evaluation: every cell of the grid from one pass, counted right, whatever the chunks and the interruptions."""

import itertools
import json
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import go, names, small

from scaling import evaluate as evaluation
from scaling import flops
from scaling.check import check
from scaling.config import Config, EvaluationConfig
from scaling.evaluate import Evaluator, headline
from scaling.files import RecordError
from scaling.learner import initial_state
from scaling.records import Run
from scaling.sampling import decode
from scaling.tasks import PAD, text
from scaling.tiers import samples_at, tiers
from scaling.tracking import Terminal

GRID = EvaluationConfig(problems=12, budgets=(0, 3, 9), samples=(1, 2, 4, 8), tokens=20, chunk=24)
"""Samples a problem: 8 at budget 0, 4 at 3, 2 at 9; so three tiers."""


def with_grid(**changes) -> Config:
    return replace(toy.CONFIG, evaluation=replace(GRID, **changes))


@pytest.fixture
def toys(monkeypatch):
    """Evaluators of a task at which a model that knows nothing answers, rightly half of the time."""
    monkeypatch.setattr(evaluation, "prepare", toy.toy_experiment)
    return lambda **changes: Evaluator(with_grid(**changes), pytest.fail)


def timeless(rows):
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def by_cell(rows):
    return {(row["problem"], row["budget"]): row for row in timeless(rows)}


# The grid --------------------------------------------------------------------------------------------------


def rising(least, most):
    return st.sets(st.integers(least, most), min_size=1, max_size=6).map(lambda s: tuple(sorted(s)))


@given(rising(0, 300), rising(1, 100), st.integers(1, 2000))
@settings(max_examples=300, deadline=None)
def test_tiers_give_every_budget_exactly_its_number_of_samples(budgets, samples, tokens):
    config = Config(evaluation=EvaluationConfig(budgets=budgets, samples=samples, tokens=tokens))
    found = tiers(config)
    for budget in budgets:
        drawn = [s for tier in found if budget in tier.budgets for s in range(tier.first, tier.last)]
        assert drawn == list(range(samples_at(config, budget)[-1]))
    for tier in found:
        assert tier.first < tier.last and tier.budgets == tuple(b for b in budgets if b in tier.budgets)
    assert all(after.first == before.last for before, after in itertools.pairwise(found))


@given(st.integers(0, 300), rising(1, 100), st.integers(1, 2000))
def test_the_cap_on_tokens_spares_the_least_number_of_samples(budget, samples, tokens):
    drawn = samples_at(Config(evaluation=EvaluationConfig(samples=samples, tokens=tokens)), budget)
    assert drawn[0] == samples[0] and set(drawn) <= set(samples)
    for k in samples[1:]:
        assert (k in drawn) == (budget * k <= tokens)


@pytest.mark.slow
def test_the_grid_of_one_pass_is_what_each_budget_gives_alone(toys):
    """At temperature 0, where the random numbers, which differ by budget, decide nothing."""
    _, params = toy.model(seed=1, sharpness=3.0)
    together = by_cell(toys(temperature=0.0, samples=(1,)).rows(params, 0, 12))
    for budget in (0, 3):  # the largest is what the pass itself is made at
        alone = by_cell(toys(temperature=0.0, samples=(1,), budgets=(budget,)).rows(params, 0, 12))
        assert alone == {key: row for key, row in together.items() if row["budget"] == budget}
    stopped = Counter(row["stopped"] for row in together.values() if row["budget"] == 9)
    assert len(stopped) == 2  # some stop by themselves, some are cut


def test_a_longer_budget_thinks_the_same_further(toys):
    """Without randomness, thinking that ended within a budget is the same at every larger one."""
    _, params = toy.model(seed=1, sharpness=3.0)
    rows = by_cell(toys(temperature=0.0, samples=(1,)).rows(params, 0, 12))
    ended = [key for key, row in rows.items() if row["budget"] == 3 and row["stopped"]]
    for problem, _ in ended:
        assert rows[problem, 9] == rows[problem, 3] | {"budget": 9}
    assert ended


class Recording(Evaluator):
    """Keeps every completion that is counted."""

    def _count(self, outcomes, part, budget, rollout):
        kept = self.__dict__.setdefault("kept", defaultdict(list))
        tokens, group = np.asarray(rollout.tokens_BxT), len(rollout.tokens_BxT) // len(part)
        for i, row in enumerate(tokens):
            forced = bool(np.asarray(rollout.forced_B)[i])
            kept[part[i // group].index, budget].append(([t for t in row.tolist() if t != PAD], forced))
        super()._count(outcomes, part, budget, rollout)


def test_counts_tokens_and_flops_are_those_of_the_completions(toys):
    _, params = toy.model(seed=1, sharpness=3.0)
    evaluator = Recording(with_grid(), pytest.fail)
    rows = evaluator.rows(params, 0, 12)
    assert [(row["problem"], row["budget"]) for row in rows] == list(itertools.product(range(12), GRID.budgets))
    for row in rows:
        problem = evaluator.problems[row["problem"]]
        found = evaluator.kept[row["problem"], row["budget"]]
        verdicts = [toy.TASK.verify(problem, tokens) for tokens, _ in found]
        n = {0: 8, 3: 4, 9: 2}[row["budget"]]
        assert row["samples"] == len(found) == n == sum(count for _, count, _ in row["answers"])
        assert row["correct"] == sum(v.correct for v in verdicts)
        assert row["correct"] == sum(count for _, count, right in row["answers"] if right)
        assert row["malformed"] == sum(v.answer is None for v in verdicts)
        assert {answer: count for answer, count, _ in row["answers"]} == Counter(v.answer for v in verdicts)
        assert row["answers"] == sorted(row["answers"], key=lambda a: (-a[1], str(a[0])))
        assert row["tokens"] == sum(len(tokens) for tokens, _ in found)
        assert row["stopped"] == sum(not forced for _, forced in found)
        assert row["stopped_correct"] == sum(
            v.correct and not forced for v, (_, forced) in zip(verdicts, found, strict=True)
        )
        assert (row["lines"], row["slips"]) == (sum(v.lines for v in verdicts), sum(v.slips for v in verdicts))
        cost = toy.MODEL, len(toy.VOCAB), len(problem.prompt)
        assert row["decode_flops"] == sum(flops.decode(*cost, len(tokens)) for tokens, _ in found)
        assert row["prefill_flops"] == flops.prefill(*cost)
        assert row["difficulty"] == problem.difficulty
        assert ("shown" in row) == (row["problem"] < evaluation.TEXTS)
        if "shown" in row:
            (tokens, forced), verdict = found[0], verdicts[0]
            assert row["shown"] == {
                "prompt": text(toy.TASK, problem.prompt),
                "text": text(toy.TASK, tokens),
                "answer": verdict.answer,
                "correct": verdict.correct,
                "stopped": not forced,
            }
    shares = {b: np.mean([row["correct"] / row["samples"] for row in rows if row["budget"] == b]) for b in (0, 3)}
    assert all(0.1 < share < 0.9 for share in shares.values())  # both outcomes are counted here
    assert any(row["malformed"] for row in rows) and any(row["slips"] for row in rows)


def test_the_size_of_a_chunk_changes_nothing(toys):
    _, params = toy.model(seed=1, sharpness=3.0)
    assert by_cell(toys(chunk=1).rows(params, 0, 12)) == by_cell(toys().rows(params, 0, 12))


@pytest.mark.slow
def test_rows_do_not_depend_on_which_problems_are_evaluated_with_them(toys):
    _, params = toy.model(seed=1, sharpness=3.0)
    whole = by_cell(toys().rows(params, 0, 12))
    parts = by_cell(toys().rows(params, 0, 5)) | by_cell(toys().rows(params, 5, 12))
    assert parts == whole


def test_the_problems_are_the_same_for_every_seed_and_none_is_trained_on():
    evaluators = [Evaluator(small(f"seed={seed}", "evaluation.problems=50"), pytest.fail) for seed in (0, 7)]
    first, second = (evaluator.problems for evaluator in evaluators)
    assert first == second
    trained = {evaluators[0].experiment.task.problem(0, "train", i).key for i in range(300)}
    assert not trained & {problem.key for problem in first}


def test_a_model_that_has_learned_nothing_is_near_chance():
    config = small("evaluation.problems=60", "evaluation.chunk=16")
    evaluator = Evaluator(config, pytest.fail)
    rows = evaluator.rows(initial_state(evaluator.experiment)["params"], 0, 60)
    assert sum(row["correct"] for row in rows) < 0.02 * sum(row["samples"] for row in rows)


def test_the_headline_is_the_mean_at_the_middle_positive_budget():
    rows = [
        {"budget": budget, "correct": correct, "samples": 4}
        for budget, each in {0: (4, 4), 8: (0, 0), 16: (1, 2), 32: (4, 4)}.items()
        for correct in each
    ]
    assert headline(rows) == 3 / 8
    assert headline([row for row in rows if row["budget"] == 0]) == 1


# Over a run's directory ------------------------------------------------------------------------------------


@pytest.fixture
def run(whole, tmp_path) -> Run:
    return Run(Path(shutil.copytree(whole.path, tmp_path / "run")))


def evaluate(run: Run, *overrides: str, only: list[str] | None = None, chunks: int | None = None) -> str:
    """Evaluate, asked to stop after so many chunks."""
    config = small("evaluation.chunk=16", *overrides)
    polls = itertools.count()
    with Terminal(run.path, config, quiet=True) as terminal:
        return evaluation.evaluate(
            run.path, config, names=only, terminal=terminal, stop=lambda: next(polls) == chunks
        )


def written(run: Run) -> dict[str, list]:
    return {name: timeless(run.evaluation_rows(name)) for name in run.evaluation_names()}


def test_every_checkpoint_of_the_experiment_is_evaluated_once(run):
    compiled = decode._cache_size()
    began = perf_counter()
    assert evaluate(run) == "done"
    elapsed = perf_counter() - began
    assert decode._cache_size() <= compiled + 1  # one program for all checkpoints, budgets and tiers
    assert run.evaluation_names() == run.manifest_names()
    budgets = small().evaluation.budgets
    assert not any(run.evaluation_missing(name, 16, budgets) for name in run.manifest_names())
    seconds = [row["seconds"] for name in run.evaluation_names() for row in run.evaluation_rows(name)]
    assert all(s > 0 for s in seconds) and sum(seconds) <= elapsed
    before = {file: file.stat().st_mtime_ns for file in run.evals.iterdir()}
    assert evaluate(run) == "done"
    assert {file: file.stat().st_mtime_ns for file in run.evals.iterdir()} == before
    assert check(run.path, 16, budgets) == []


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_interrupted_and_resumed_is_the_whole_evaluation(run, chunks):
    (name,) = names(run, ["end"])
    assert evaluate(run, only=[name], chunks=chunks) == "preempted"
    assert len(run.evaluation_rows(name)) == chunks * 4 * 3
    assert evaluate(run, only=[name]) == "done"
    again = written(run)
    run.evaluation_file(name).unlink()
    assert evaluate(run, only=[name]) == "done"
    assert again == written(run)


def test_what_a_torn_write_left_is_completed_and_no_row_comes_twice(run):
    (name,) = names(run, ["end"])
    assert evaluate(run, only=[name]) == "done"
    whole, file = by_cell(run.evaluation_rows(name)), run.evaluation_file(name)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:7], *lines[20:25], lines[30][:40]]))  # parts of problems, a torn line
    assert evaluate(run, only=[name]) == "done"
    assert by_cell(run.evaluation_rows(name)) == whole
    assert len(file.read_bytes().splitlines()) == len(whole)


def test_progress_rises_to_the_end_and_ends_once(run):
    class Screen(Terminal):
        shown: list = []  # noqa: RUF012

        def evaluation(self, name, done, total, accuracy):
            self.shown.append((done, total, accuracy is None))

    (name,) = names(run, ["end"])
    assert evaluate(run, only=[name], chunks=2) == "preempted"
    config = small("evaluation.chunk=16")
    with Screen(run.path, config, quiet=True) as screen:
        evaluation.evaluate(run.path, config, names=[name], terminal=screen, stop=lambda: False)
    assert screen.shown == [(8, 16, True), (12, 16, True), (16, 16, False)]


def test_rolling_checkpoints_are_never_evaluated(tmp_path):
    run = Run(tmp_path / "run")
    assert go(run.path, small(), stop_at=3) == "preempted"
    (rolling,) = names(run, ["resume"])
    assert evaluate(run) == "done" and evaluate(run, only=[rolling]) == "done"
    assert run.evaluation_names() == names(run, ["threshold"])


def test_a_checkpoint_that_does_not_exist_is_named(run):
    with pytest.raises(RecordError, match=r"checkpoints/99999999\.json: no such file"):
        evaluate(run, only=["99999999"])
    assert run.evaluation_names() == []


def test_a_damaged_checkpoint_is_set_aside_and_the_others_are_evaluated(run, capsys):
    first, second, *_ = run.manifest_names()
    shutil.rmtree(run.checkpoints / first)
    config = small("evaluation.chunk=16")
    with Terminal(run.path, config) as terminal:
        state = evaluation.evaluate(run.path, config, names=[first, second], terminal=terminal, stop=lambda: False)
    assert state == "done" and run.evaluation_names() == [second]
    assert f"checkpoint {first} is damaged" in capsys.readouterr().err


def test_training_has_each_checkpoint_evaluated_as_it_appears(tmp_path):
    config, run = small("rl.flops=1"), Run(tmp_path / "run")
    seen = []

    def on_checkpoint(name: str) -> None:
        seen.append((name, [row["step"] for row in run.train_rows()][-1:]))
        json.loads(run.manifest_file(name).read_text())

    assert go(run.path, config, on_checkpoint=on_checkpoint) == "done"
    assert [name for name, _ in seen] == run.manifest_names()
    assert all(int(name) == step for name, (step,) in seen)
