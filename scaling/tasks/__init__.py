"""Tasks: problems, verifiers and tokenizers, one file a task.

A completion is a list of tokens: thinking, then `ANSWER` (written by the model, or injected when the thinking
budget runs out), then the answer, then `END`. A task may let the model end without `ANSWER`; it then says in
`verify` what counts as the answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from scaling.structure import ConfigError
from scaling.trouble import first_line

if TYPE_CHECKING:
    from scaling.config import Config, StageConfig, TaskConfig

PAD, END, ANSWER = 0, 1, 2
SPECIALS = ("<pad>", "<end>", "<answer>")

Split = Literal["train", "eval"]
EVAL_SHARE = 4
"""One problem in this many belongs to the evaluation split."""
HELD_OUT_SEED = 0
"""Held-out problems are the same at every checkpoint and for every seed of a run."""
PATIENCE = 100
"""Draws for each held-out problem found, before the task is said to have no more."""


@dataclass(frozen=True)
class Problem:
    index: int
    difficulty: int
    key: str
    """Canonical identity: problems that are the same question under a symmetry share it."""
    prompt: tuple[int, ...]
    data: Any
    """What the task's verifier needs."""


@dataclass(frozen=True)
class Demonstration:
    tokens: tuple[int, ...]
    """A whole completion, `END` included."""
    forced: int | None = None
    """Position of an injected `ANSWER`, which is not the model's own word and is not trained on."""
    given: tuple[int, ...] = ()
    """Positions of other tokens not trained on: chosen at random, they teach nothing."""


@dataclass(frozen=True)
class Verdict:
    correct: bool
    answer: str | None
    """Canonical answer, the unit of a majority vote; None where none could be parsed."""
    lines: int = 0
    """Checkable lines of thinking."""
    slips: int = 0
    """Lines among them that are false."""
    slip_at: tuple[int, ...] = ()
    """Position in the completion of the first false token of each false line, where the task finds them."""


class Task(Protocol):
    vocab: tuple[str, ...]
    """Token texts; the first three are `SPECIALS`."""
    prompt_tokens: int
    """Longest prompt."""
    answer_tokens: int
    """Most tokens after `ANSWER`, `END` included."""
    step_tokens: tuple[int, ...]
    """Tokens that end a step of thinking."""
    demos: tuple[str, ...]
    """Kinds of demonstration; empty where the task has none."""

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """The problem at a place of a split: a pure function of its arguments.

        Raises ConfigError where the config asks for more problems than there are.
        """
        ...

    def demonstrate(self, problem: Problem, kind: str, budget: int, rng: random.Random) -> Demonstration:
        """One worked completion whose thinking is at most `budget` tokens, forced there if it is longer."""
        ...

    def verify(self, problem: Problem, completion: Sequence[int]) -> Verdict:
        """Judge a completion (without padding). Never raises, never evaluates; linear in its length."""
        ...


class TaskError(RuntimeError):
    """A task's own code that failed; the message names the task, what it was at, and the line."""


def task_name(task: Task) -> str:
    """Its module's."""
    return type(task).__module__.rpartition(".")[2]


def raised(error: Exception) -> str:
    """What a task's code raised and where, in words."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    return f"raises {type(error).__name__}: {first_line(error)} ({place})"


@contextlib.contextmanager
def _blamed(task: Task, making: str) -> Iterator[None]:
    """Raises TaskError where the task's code raises. A ConfigError is no failure: the config asks for too much."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise TaskError(f"task {task_name(task)}: making {making} {raised(error)}") from error


def make_problem(task: Task, seed: int, split: Split, index: int) -> Problem:
    """The task's problem at a place of a split. Raises TaskError where its code fails."""
    with _blamed(task, f"{split} problem {index} of seed {seed}"):
        return task.problem(seed, split, index)


def make_demonstration(task: Task, problem: Problem, kind: str, budget: int, rng: random.Random) -> Demonstration:
    """The task's demonstration of a problem. Raises TaskError where its code fails."""
    with _blamed(task, f"a {kind} of problem {problem.index} within {budget} tokens"):
        return task.demonstrate(problem, kind, budget, rng)


def split_of(key: str) -> Split:
    """The split a problem belongs to, from a hash of its canonical key: no problem is ever in both."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return "eval" if int.from_bytes(digest) % EVAL_SHARE == 0 else "train"


def draw(
    seed: int, split: Split, index: int, propose: Callable[[random.Random], tuple[str, Any]]
) -> tuple[str, Any]:
    """First proposal (key, data) of a stream seeded by (seed, split, index) that falls into the split."""
    rng = random.Random(f"{seed}/{split}/{index}")
    while True:
        key, data = propose(rng)
        if split_of(key) == split:
            return key, data


def held_out(task: Task, count: int) -> tuple[Problem, ...]:
    """The first `count` problems of the evaluation split with different prompts, by place among them.

    Raises ConfigError where the task has fewer.
    """
    found: dict[tuple[int, ...], Problem] = {}
    index = 0
    while len(found) < count:
        if index == PATIENCE * (len(found) + 1):
            gave = f"{index} draws gave only {len(found)} different held-out problems"
            wider = "widen task.difficulty_min and task.difficulty_max"
            raise ConfigError([f"evaluation.problems = {count}: {gave}; ask for fewer, or {wider}"])
        problem = make_problem(task, HELD_OUT_SEED, "eval", index)
        found.setdefault(problem.prompt, replace(problem, index=len(found)))
        index += 1
    return tuple(found.values())


def warm_start_problems(config: Config, task: Task, stage: StageConfig, step: int) -> list[Problem]:
    """The problems of step `step` (from 0) of the warm start, which belongs to this stage."""
    most = max(stage.batch for stage in config.warm_start.stages)
    return [make_problem(task, config.seed, "train", step * most + i) for i in range(stage.batch)]


def demonstrations(task: Task, problems: Sequence[Problem], stage: StageConfig, seed: str) -> list[Demonstration]:
    """A demonstration of each problem as the stage wants them, half of them cut at a smaller budget."""
    rng = random.Random(seed)
    budgets = [rng.choice((stage.budget, rng.randint(0, stage.budget))) for _ in problems]
    return [make_demonstration(task, p, stage.demo, b, rng) for p, b in zip(problems, budgets, strict=True)]


def text(task: Task, tokens: Sequence[int]) -> str:
    """Tokens as a person reads them, padding left out."""
    return " ".join(task.vocab[t] for t in tokens if t != PAD)


TASKS = ("root_search", "operator_search", "recurrence", "problem_file")


def make_task(config: TaskConfig) -> Task:
    """The task that the config names. Raises ConfigError for another name, and for what the task refuses."""
    if config.name not in TASKS:
        raise ConfigError([f"task.name: {config.name!r} is not a task; known: {', '.join(TASKS)}"])
    module = importlib.import_module(f"scaling.tasks.{config.name}")
    try:
        return module.make(config)
    except ValueError as error:
        raise ConfigError([str(error)]) from error
