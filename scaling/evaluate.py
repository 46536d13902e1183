"""One checkpoint over the whole grid of test compute: thinking budgets × numbers of samples.

Each problem is sampled once. A sample drawn at a large budget also serves every smaller one (its thinking is cut
there and the answer forced), so the samples of a budget are those of all larger budgets, and more where
`evaluation.tokens` allows more. Counts are kept by problem; pass@k and maj@k of smaller k follow from them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from scaling import flops, hosts
from scaling.checkpoints import restore
from scaling.config import Config
from scaling.experiment import prepare
from scaling.files import RecordError
from scaling.learner import abstract_state
from scaling.records import Run
from scaling.room import within_memory
from scaling.sampling import Rollout, left_pad, row_keys, sample
from scaling.tasks import Problem, Verdict, held_out, text
from scaling.tiers import Tier, tiers
from scaling.timing import Stopwatch
from scaling.tracking import Terminal
from scaling.verifying import verify

EVAL_STREAM = 2
TEXTS = 8
"""Problems of which one completion a budget is kept to be read."""


@dataclass
class Outcome:
    """What the samples of one problem at one budget came to."""

    correct: int = 0
    answers: Counter[tuple[str | None, bool]] = field(default_factory=Counter)
    tokens: int = 0
    decode_flops: int = 0
    stopped: int = 0
    stopped_correct: int = 0
    lines: int = 0
    slips: int = 0
    shown: dict[str, Any] | None = None
    """The first sample, for the first problems: prompt, text, answer, correct, stopped."""

    def add(self, verdict: Verdict, length: int, decode_flops: int, forced: bool) -> None:
        self.correct += verdict.correct
        self.answers[verdict.answer, verdict.correct] += 1
        self.tokens += length
        self.decode_flops += decode_flops
        self.stopped += not forced
        self.stopped_correct += verdict.correct and not forced
        self.lines += verdict.lines
        self.slips += verdict.slips

    def row(self, problem: Problem, budget: int, prefill_flops: int, seconds: dict[str, float]) -> dict[str, Any]:
        """The record; its seconds are the chunk's, shared out alike."""
        answers = sorted(self.answers.items(), key=lambda item: (-item[1], str(item[0][0])))
        return {
            "problem": problem.index,
            "difficulty": problem.difficulty,
            "budget": budget,
            "samples": sum(self.answers.values()),
            "correct": self.correct,
            "answers": [[answer, count, correct] for (answer, correct), count in answers],
            "tokens": self.tokens,
            "prefill_flops": prefill_flops,
            "decode_flops": self.decode_flops,
            "stopped": self.stopped,
            "stopped_correct": self.stopped_correct,
            "malformed": sum(count for (answer, _), count in answers if answer is None),
            "lines": self.lines,
            "slips": self.slips,
            "seconds": seconds["evaluate"],
            "compile_seconds": seconds["compile"],
            **({"shown": self.shown} if self.shown else {}),
        }


class Evaluator:
    """Evaluates checkpoints of one experiment; what is the same for all is made once."""

    def __init__(self, config: Config, warn: Callable[[str], None]):
        self.experiment, self.warn = prepare(config), warn
        self.tiers = tiers(config)
        self.problems = held_out(self.experiment.task, config.evaluation.problems)
        self.at_once = max(config.evaluation.chunk // self.tiers[0].samples, 1)
        """Problems that one call of `rows` is for."""

    @property
    def config(self) -> Config:
        return self.experiment.config

    def rows(self, params: nnx.State, first: int, last: int) -> list[dict[str, Any]]:
        """The records of problems first … last − 1 at every budget."""
        watch, problems = Stopwatch(), self.problems[first:last]
        outcomes = {(p.index, b): Outcome() for p in problems for b in self.config.evaluation.budgets}
        with watch("evaluate"):
            for tier in self.tiers:
                for budget, rollout in zip(tier.budgets, self._sample(params, problems, tier), strict=True):
                    self._count(outcomes, problems, budget, rollout)
        seconds = {phase: spent / len(outcomes) for phase, spent in watch.take().items()}
        prefill = partial(flops.prefill, self.config.model, self.experiment.vocab)
        return [
            outcomes[p.index, b].row(p, b, prefill(len(p.prompt)), seconds)
            for p in problems
            for b in self.config.evaluation.budgets
        ]

    def _sample(self, params: nnx.State, problems: Sequence[Problem], tier: Tier) -> Sequence[Rollout]:
        evaluation, group = self.config.evaluation, tier.samples
        task = self.experiment.task
        prompts_PxN, padding_P = left_pad([p.prompt for p in problems], task.prompt_tokens)
        places = [p.index * evaluation.samples[-1] + s for p in problems for s in range(tier.first, tier.last)]
        keys_B = row_keys(self.config.seed, EVAL_STREAM, 0, np.array(places))

        def draw(chunk: int) -> Sequence[Rollout]:
            return sample(
                self.experiment.graphdef,
                params,
                prompts_PxN,
                padding_P,
                keys_B,
                group=group,
                budgets=tier.budgets,
                answer_tokens=task.answer_tokens,
                temperature=evaluation.temperature,
                chunk=chunk,
                mesh=self.experiment.mesh,
            )

        return within_memory(draw, "evaluation.chunk", evaluation.chunk, group, self.warn)

    def _count(self, outcomes: dict, problems: Sequence[Problem], budget: int, rollout: Rollout) -> None:
        task, model, vocab = self.experiment.task, self.config.model, self.experiment.vocab
        tokens_BxT = rollout.tokens_BxT
        group = len(tokens_BxT) // len(problems)
        lengths, forced = rollout.length_B.tolist(), rollout.forced_B.tolist()
        for i, verdict in enumerate(verify(task, problems, tokens_BxT)):
            problem = problems[i // group]
            outcome = outcomes[problem.index, budget]
            if problem.index < TEXTS and outcome.shown is None:
                outcome.shown = {
                    "prompt": text(task, problem.prompt),
                    "text": text(task, tokens_BxT[i].tolist()),
                    "answer": verdict.answer,
                    "correct": verdict.correct,
                    "stopped": not forced[i],
                }
            cost = flops.decode(model, vocab, len(problem.prompt), lengths[i])
            outcome.add(verdict, lengths[i], cost, forced[i])


def _chunks(missing: set[int], size: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `size` problems that cover those missing; a problem done is not done again."""
    rest = sorted(missing)
    while rest:
        last = rest[0]
        while last - rest[0] < size and last in missing:
            last += 1
        yield rest[0], last
        rest = [i for i in rest if i >= last]


def evaluate(
    run_dir: Path,
    config: Config,
    *,
    names: Sequence[str] | None,
    terminal: Terminal,
    stop: Callable[[], bool],
) -> str:
    """Evaluate the named checkpoints, or all (None), as far as they are not yet; "done" or "preempted".

    A rolling checkpoint is none of the experiment's and is left out, and so is a damaged one, which is set aside
    with a warning. Rows are written in chunks of problems, so an interrupted evaluation goes on where it stopped.
    Raises RecordError for a checkpoint that does not exist.
    """
    run, evaluator = Run.open(run_dir), Evaluator(config, terminal.message)
    abstract = abstract_state(evaluator.experiment)
    total, budgets = config.evaluation.problems, config.evaluation.budgets
    for name in hosts.first(run.manifest_names) if names is None else names:
        cells = hosts.first(lambda name=name: _missing(run, name, total, budgets))
        if not cells:
            continue
        restored = restore(run, abstract, name, warn=terminal.message)
        if restored is None:
            continue
        params = restored[0]["params"]
        missing = {problem for problem, _ in cells}
        done = total - len(missing)
        for first, last in _chunks(missing, evaluator.at_once):
            if stop():
                return "preempted"
            terminal.evaluation(name, done, total, None)
            found = evaluator.rows(params, first, last)
            if hosts.is_first():
                run.append_evaluation(name, [row for row in found if (row["problem"], row["budget"]) in cells])
                run.write_status("running", "evaluate")
            done += last - first
        accuracy = hosts.first(lambda name=name: headline(run.evaluation_rows(name)))
        terminal.evaluation(name, total, total, accuracy)
    return "done"


def _missing(run: Run, name: str, problems: int, budgets: Sequence[int]) -> set[tuple[int, int]]:
    """The (problem, budget) cells still to be answered; none of a rolling checkpoint, which is not evaluated.

    Those of a checkpoint whose manifest is damaged are still to be answered: `restore` then sets it aside.
    """
    try:
        if run.read_manifest(name)["kind"] == "resume":
            return set()
    except RecordError:
        if name not in run.manifest_names():
            raise
        return set(itertools.product(range(problems), budgets))
    return set(run.evaluation_missing(name, problems, budgets))


def headline(rows: Sequence[dict[str, Any]]) -> float:
    """Mean accuracy at the middle one of the positive budgets: the figure shown in passing."""
    budgets = sorted({row["budget"] for row in rows if row["budget"] > 0}) or [0]
    middle = budgets[len(budgets) // 2]
    shares = [row["correct"] / row["samples"] for row in rows if row["budget"] == middle]
    return sum(shares) / len(shares)
