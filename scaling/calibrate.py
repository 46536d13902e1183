"""How fast this machine is at the steps of a config, measured on a few of each.

Every shape is run once to be compiled and a few times to be timed. Nothing is learned: the policy that samples
says words at random, and ends its thinking as often as the demonstrations that the model was last taught by.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling import checkpoints
from scaling.batches import Batch, warm_start_batch
from scaling.config import Config, StageConfig, config_hash, dump
from scaling.costs import last_taught, like_demonstrations
from scaling.evaluate import Evaluator
from scaling.experiment import prepare
from scaling.flops import Ledger
from scaling.learner import abstract_state, initial_state, learn
from scaling.records import Run
from scaling.rl import collect
from scaling.sampling import left_pad
from scaling.sharding import place
from scaling.tasks import ANSWER, END, PAD, Task
from scaling.timeline import Rates
from scaling.timing import Stopwatch

TIMED = 3
"""Steps timed of each stage, and of each budget; about 20 together."""


def calibrate(config: Config, say: Callable[[str], None]) -> Rates:
    """Seconds by phase on the devices that JAX has here."""
    experiment = prepare(config)
    task, state = experiment.task, initial_state(experiment)

    def policy(budget: int) -> nnx.State:
        return place(rambling(state["params"], ending_rate(config, task, budget)), experiment.mesh)

    def learned(batches: Sequence[Batch], phase: str, reference: nnx.State | None = None) -> None:
        nonlocal state
        for batch in batches:
            state, _, norm = learn(experiment, phase, state, reference, batch, 0.0)
            float(norm)

    def warm_step(stage: StageConfig, number: int) -> None:
        learned([warm_start_batch(config, task, stage, number)], "warm_start")

    warm, before = [], 0
    for i, stage in enumerate(config.warm_start.stages):
        say(f"timing warm-start stage {i + 1}, {stage.demo} …")
        numbers = [before + n * stage.steps // TIMED for n in range(min(TIMED, stage.steps))]
        warm.append(_seconds([partial(warm_step, stage, n) for n in numbers]))
        before += stage.steps

    rl, reference = config.rl, policy(0) if config.rl.kl else None
    every = replace(config, rl=replace(rl, recipe="grpo"))  # draws once, whatever the rewards
    plain = replace(experiment, config=every)
    rollout, update = {}, {}
    for budget in sorted(set(rl.budgets)):
        say(f"timing RL at budget {budget} …")
        at = rl.budgets.index(budget)
        judged = partial(collect, plain, policy(budget), Stopwatch(), at)
        rollout[budget] = _seconds([judged] * TIMED)
        update[budget] = _seconds([partial(learned, _batches(config, task, budget), "rl", reference)] * TIMED)

    say("timing the evaluation and a checkpoint …")
    evaluator, evaluation = Evaluator(config, say), config.evaluation
    size = min(evaluator.at_once, evaluation.problems)
    params = policy(evaluation.budgets[-1])
    chunk = _seconds([lambda: evaluator.rows(params, 0, size)])
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", dump(config), config_hash(config), {"command": "scaling plan"})
        saved = _seconds([lambda: _save_and_restore(run, state, abstract_state(experiment), say)])
    return Rates(
        f"{TIMED} steps of each kind timed on this machine",
        tuple(warm),
        tuple(rollout[budget] for budget in rl.budgets),
        tuple(update[budget] for budget in rl.budgets),
        chunk * evaluation.problems / size,
        saved,
    )


def _seconds(calls: Sequence[Callable[[], Any]]) -> float:
    """Mean seconds of these calls without compilation, each made once before."""
    for call in calls:
        call()
    watch = Stopwatch()
    for call in calls:
        with watch("call"):
            call()
    return watch.take()["call"] / len(calls)


def ending_rate(config: Config, task: Task, budget: int) -> float:
    """The chance at each token that a demonstration of the last stage ends its thinking there, as if it were the
    same at all: those that ended before the budget did, over all their tokens (censored geometric lengths)."""
    lengths = [tokens.index(ANSWER) for _, tokens in last_taught(config, task, budget)]
    return sum(length < budget for length in lengths) / max(sum(lengths), 1)


def rambling(params: nnx.State, ending: float) -> nnx.State:
    """Parameters of a policy that says words at random, and with this chance `ANSWER`, but never `END`."""
    tied = "unembedding" not in params
    vocab, width = params["embedding"][...].shape
    words = vocab - len((PAD, ANSWER, END))
    odds = float(np.log(max(ending, 1e-9) / (1 - min(ending, 0.999)) * words))
    """Of `ANSWER` against a word."""

    def leaf(path: tuple, x: jax.Array) -> jax.Array:
        name = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)][-1]
        if name == "embedding":
            said = jnp.ones_like(x).at[END].set(-1)
            return said.at[ANSWER].set(1 + odds * width**-0.5) if tied else said
        if name == "unembedding":
            return jnp.zeros_like(x).at[:, END].set(-1).at[:, ANSWER].set(odds / width)
        return jnp.ones_like(x) if x.ndim == 1 else jnp.zeros_like(x)

    return jax.tree_util.tree_map_with_path(leaf, params)


def _batches(config: Config, task: Task, budget: int) -> list[Batch]:
    """A batch for each update of an RL step, its completions as long as demonstrations."""
    rl, lengths = config.rl, like_demonstrations(config, task, budget)
    rows = [lengths[i % len(lengths)] for i in range(rl.problems * rl.samples)]
    prompts, padding = left_pad([(ANSWER,) * prompt for prompt, _ in rows], task.prompt_tokens)
    real = np.arange(max(n for _, n in rows)) < np.array([n for _, n in rows])[:, None]
    weight = (real / real.sum()).astype(np.float32)
    whole = Batch(prompts, padding, np.where(real, ANSWER, PAD).astype(np.int32), weight, weight, -weight)
    return [whole.rows(part) for part in np.array_split(np.arange(len(rows)), rl.updates)]


def _save_and_restore(run: Run, state: Any, abstract: Any, say: Callable[[str], None]) -> None:
    """A checkpoint as training makes one and evaluation reads it; damaged first, so that it is written again."""
    for name in run.manifest_names():
        run.manifest_file(name).unlink()
    manifest = {"step": 0, "kind": "threshold", "phase": "rl", "ledger": Ledger().to_dict()}
    checkpoints.restore(run, abstract, checkpoints.save(run, state, manifest), warn=say)
