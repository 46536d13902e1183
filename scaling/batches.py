"""Batches of sequences to learn from, and the microbatches a gradient is accumulated over.

Shapes: B sequences, N prompt tokens (left-padded), T generated tokens (right-padded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from scaling import tasks
from scaling.config import Config, ModelConfig, StageConfig
from scaling.flops import train_sequence
from scaling.sampling import left_pad
from scaling.tasks import PAD, Problem, Task


def bucket(length: int) -> int:
    """The width a generated length is padded to: 20, 28, 36, 52, 68, 100, 132, 196, …

    Few shapes to compile, at most half of one padding. A power of two or 1.5 times one, and 4 more, because a
    completion is a round budget, the answer mark and a short answer.
    """
    width = 16
    while True:
        for round_ in (width, width + width // 2):
            if length <= round_ + 4:
                return round_ + 4
        width *= 2


class Batch(NamedTuple):
    """Sequences with what the objective wants of each generated token. float32 but for the tokens (int32)."""

    prompts_BxN: np.ndarray
    padding_B: np.ndarray
    tokens_BxT: np.ndarray
    weight_BxT: np.ndarray
    advantage_BxT: np.ndarray
    old_logp_BxT: np.ndarray

    def rows(self, index) -> Batch:
        return Batch(*(part[index] for part in self))

    def lengths(self) -> np.ndarray:
        """int64[B]: generated tokens of each sequence."""
        return (self.tokens_BxT != PAD).sum(axis=1)


def demonstrations(task: Task, problems: Sequence[Problem], stage: StageConfig, seed: str) -> Batch:
    """A batch of demonstrations, half of them cut at a smaller budget.

    Every token that is the model's own word weighs the same.
    """
    demos = tasks.demonstrations(task, problems, stage, seed)
    shape = (len(demos), max(len(demo.tokens) for demo in demos))
    tokens, mask = np.full(shape, PAD, np.int32), np.zeros(shape, np.float32)
    for i, demo in enumerate(demos):
        tokens[i, : len(demo.tokens)] = demo.tokens
        mask[i, : len(demo.tokens)] = 1
        if demo.forced is not None:
            mask[i, demo.forced] = 0
        mask[i, list(demo.given)] = 0
    prompts, padding = left_pad([problem.prompt for problem in problems], task.prompt_tokens)
    return Batch(prompts, padding, tokens, mask / mask.sum(), np.ones_like(mask), np.zeros_like(mask))


def warm_start_batch(config: Config, task: Task, stage: StageConfig, step: int) -> Batch:
    """What step `step` (from 0) of the warm start, which belongs to this stage, learns from."""
    problems = tasks.warm_start_problems(config, task, stage, step)
    return demonstrations(task, problems, stage, f"{config.seed}/{step}")


def microbatches(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in parts of `size` sequences of like length; sequences that weigh nothing are left out.

    The last part is filled up with weightless rows, so that shapes repeat.
    """
    order = np.argsort(batch.lengths(), kind="stable")
    order = order[batch.weight_BxT[order].any(axis=1)]
    for start in range(0, len(order), size):
        part = batch.rows(order[start : start + size])
        width = bucket(int(part.lengths().max()))
        fill, now = size - len(part.padding_B), part.tokens_BxT.shape[1]
        yield Batch(
            *(
                np.pad(x, ((0, fill), (0, max(width - now, 0))))[:, :width]
                if name.endswith("BxT")
                else np.pad(x, ((0, fill), (0, 0)) if x.ndim == 2 else (0, fill))
                for name, x in zip(Batch._fields, part, strict=True)
            )
        )


class Ahead:
    """What a pure function makes of 0 … count − 1 in turn, each made in a thread while the one before is used."""

    def __init__(self, make: Callable[[int], Batch], count: int):
        self._make, self._count = make, count
        self._pool = ThreadPoolExecutor(1)
        self._begun: dict[int, Future[Batch]] = {}

    def __call__(self, index: int) -> Batch:
        """Raises what the function raises."""
        made = (self._begun.pop(index, None) or self._pool.submit(self._make, index)).result()
        if index + 1 < self._count:
            self._begun[index + 1] = self._pool.submit(self._make, index + 1)
        return made


def update_cost(batch: Batch, model: ModelConfig, vocab: int) -> tuple[int, int]:
    """FLOPs and tokens of one gradient on the sequences that weigh something, padding not counted."""
    prompt = batch.prompts_BxN.shape[1]
    used = batch.weight_BxT.any(axis=1)
    fed = (prompt - batch.padding_B + batch.lengths() - 1)[used].tolist()
    return sum(train_sequence(model, vocab, n) for n in fed), sum(fed)
