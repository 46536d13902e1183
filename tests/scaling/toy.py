"""A toy task and models of a few thousand parameters that several tests share; what is made once is kept."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from jax.sharding import Mesh

from scaling.config import Config, ModelConfig, RLConfig
from scaling.experiment import Experiment
from scaling.model import abstract, build
from scaling.sharding import AXES
from scaling.tasks import ANSWER, END, SPECIALS, Demonstration, Problem, Split, Task, Verdict

VOCAB = (*SPECIALS, *"abcdefghi")
STEP, SLIP = 3, 4
"""`a` ends a step of thinking; a step that holds a `b` is false."""


@dataclass(frozen=True)
class Toy:
    """Even letters are right answers, so that a model that knows nothing is right about half of the time."""

    vocab: tuple[str, ...] = VOCAB
    prompt_tokens: int = 5
    answer_tokens: int = 2
    step_tokens: tuple[int, ...] = (STEP,)
    demos: tuple[str, ...] = ("count",)

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        rng = random.Random(f"{seed}/{split}/{index}")
        prompt = tuple(rng.randint(3, 11) for _ in range(rng.randint(2, self.prompt_tokens)))
        return Problem(index, len(prompt), f"{split}/{index}", prompt, None)

    def demonstrate(self, problem: Problem, kind: str, budget: int, rng: random.Random) -> Demonstration:
        """Thinking of 1 to 7 letters, the first of them given at random; forced where the budget cuts it."""
        thinking = tuple(rng.randint(3, 11) for _ in range(rng.randint(1, 7)))
        given = (0,) if budget else ()
        if len(thinking) > budget:
            return Demonstration((*thinking[:budget], ANSWER, 4, END), forced=budget, given=given)
        return Demonstration((*thinking, ANSWER, 4, END), given=given)

    def verify(self, problem: Problem, completion: Sequence[int]) -> Verdict:
        completion = list(completion)
        think = completion[: next((i for i, t in enumerate(completion) if t in (ANSWER, END)), len(completion))]
        answer = completion[len(think) + 1 : len(think) + 2]
        text = VOCAB[answer[0]] if answer and answer[0] > ANSWER else None
        lines, start, slip_at = 0, 0, []
        for i, token in enumerate(think):
            if token == STEP:
                slip_at += [start + think[start:i].index(SLIP)] if SLIP in think[start:i] else []
                lines, start = lines + 1, i + 1
        correct = text is not None and answer[0] % 2 == 0
        return Verdict(correct, text, lines, len(slip_at), tuple(slip_at))


TASK = Toy()
MODEL = ModelConfig(width=32, layers=1, heads=4, kv_heads=2, head_size=8, ff=64)
CONFIG = Config(
    microbatch=8,
    model=MODEL,
    rl=RLConfig(problems=6, samples=4, budgets=(6,), warmup_steps=0),
)


@functools.cache
def model(config: ModelConfig = MODEL, seed: int = 0, sharpness: float = 6.0):
    """Definition and parameters; `sharpness` scales the embeddings, so that what is said depends on the past."""

    @jax.jit  # one compilation instead of one a shape
    def params():
        return jax.tree_util.tree_map_with_path(
            lambda path, x: x * sharpness if "embedding" in jax.tree_util.keystr(path) else x,
            build(config, len(VOCAB), seed)[1],
        )

    return abstract(config, len(VOCAB))[0], params()


@functools.cache
def one_device() -> Mesh:
    return Mesh(np.array(jax.devices()[:1]).reshape(1, 1, 1), AXES)


def toy_experiment(config: Config = CONFIG, task: Task = TASK, mesh: Mesh | None = None) -> Experiment:
    return Experiment(config, task, mesh or one_device(), abstract(config.model, len(task.vocab))[0])


def problems(count: int) -> list[Problem]:
    return [TASK.problem(0, "train", i) for i in range(count)]


def with_rl(**changes) -> Config:
    return replace(CONFIG, rl=replace(CONFIG.rl, **changes))
