"""One step's experience: problems, rollouts, rewards and what each token is worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from scaling import flops
from scaling.batches import Batch
from scaling.config import Config
from scaling.objectives import RECIPES, advantages, informative, overlong_penalty, step_credit, weights
from scaling.sampling import left_pad, row_keys, sample
from scaling.sharding import place_batch
from scaling.tasks import ANSWER, END, PAD, Problem, Task, Verdict

ROLLOUT_STREAM = 1
MOST_DRAWS = 4
"""A recipe that redraws groups without variance stops after this many draws a step."""


@dataclass(frozen=True)
class Experience:
    batch: Batch
    metrics: dict[str, float]
    flops: int
    tokens: int
    rollout_seconds: float
    verify_seconds: float


@dataclass(frozen=True)
class Completions:
    """Completions of some problems on the host; row p·G + g belongs to problem p."""

    problems: list[Problem]
    tokens_BxT: np.ndarray
    logp_BxT: np.ndarray
    forced_B: np.ndarray
    verdicts: list[Verdict]

    def rows(self, groups: np.ndarray, group: int) -> Completions:
        keep = np.flatnonzero(np.repeat(groups, group))
        return Completions(
            [p for p, kept in zip(self.problems, groups, strict=True) if kept],
            self.tokens_BxT[keep],
            self.logp_BxT[keep],
            self.forced_B[keep],
            [self.verdicts[i] for i in keep],
        )


def think_lengths(tokens_BxT: np.ndarray) -> np.ndarray:
    """int64[B]: tokens before `ANSWER` or `END`."""
    over = np.isin(tokens_BxT, (ANSWER, END, PAD))
    return np.where(over.any(axis=1), over.argmax(axis=1), tokens_BxT.shape[1])


def verify(task: Task, problems: Sequence[Problem], tokens_BxT: np.ndarray) -> list[Verdict]:
    """The task's verdict on every completion."""
    group, lengths = len(tokens_BxT) // len(problems), (tokens_BxT != PAD).sum(axis=1)
    return [
        task.verify(problems[i // group], row[:n])
        for i, (row, n) in enumerate(zip(tokens_BxT.tolist(), lengths.tolist(), strict=True))
    ]


def rollout_cost(model, vocab: int, problems: Sequence[Problem], lengths_B: np.ndarray) -> tuple[int, int]:
    """FLOPs and tokens fed: each prompt once, each completion but for its last token."""
    group = len(lengths_B) // len(problems)
    cost = tokens = 0
    for i, problem in enumerate(problems):
        prompt, lengths = len(problem.prompt), lengths_B[i * group : (i + 1) * group].tolist()
        cost += flops.prefill(model, vocab, prompt) + sum(flops.decode(model, vocab, prompt, n) for n in lengths)
        tokens += prompt + sum(n - 1 for n in lengths)
    return cost, tokens


def collect(
    config: Config, task: Task, graphdef: nnx.GraphDef, params: nnx.State, mesh: Mesh, step: int, first_problem: int
) -> Experience:
    """Sample, verify and weigh the experience of RL step `step` (from 0): a pure function of its arguments."""
    rl, recipe = config.rl, RECIPES[config.rl.recipe]
    budget = rl.budgets[step % len(rl.budgets)]
    drawn: list[Completions] = []
    cost = tokens = 0
    rollout_seconds = verify_seconds = 0.0
    wanted, all_rewards = rl.problems, []
    for draw in range(MOST_DRAWS if recipe.zero_variance == "redraw" else 1):
        start = perf_counter()
        place = step * MOST_DRAWS + draw
        problems = [
            task.problem(config.seed, "train", first_problem + place * rl.problems + i) for i in range(rl.problems)
        ]
        prompts, padding = left_pad([p.prompt for p in problems], task.prompt_tokens)
        keys = row_keys(config.seed, ROLLOUT_STREAM, place, np.arange(rl.problems * rl.samples))
        (rollout,) = sample(
            graphdef,
            params,
            *place_batch((prompts, padding, keys), mesh),
            group=rl.samples,
            budgets=(budget,),
            answer_tokens=task.answer_tokens,
            temperature=rl.temperature,
        )
        host = [np.asarray(x) for x in (rollout.tokens_BxT, rollout.logp_BxT, rollout.length_B, rollout.forced_B)]
        spent = rollout_cost(config.model, len(task.vocab), problems, host[2])
        cost, tokens = cost + spent[0], tokens + spent[1]
        verify_start = perf_counter()
        done = Completions(problems, host[0], host[1], host[3], verify(task, problems, host[0]))
        verify_seconds += perf_counter() - verify_start
        rollout_seconds += verify_start - start
        rewards = np.array([v.correct for v in done.verdicts], float).reshape(-1, rl.samples)
        all_rewards.append(rewards)
        kept = informative(rewards) if recipe.zero_variance == "redraw" else np.ones(len(rewards), bool)
        kept &= np.cumsum(kept) <= wanted
        wanted -= int(kept.sum())
        drawn.append(done.rows(kept, rl.samples))
        if wanted == 0:
            break
    done = _concatenate(drawn)
    metrics = _metrics(done, np.concatenate(all_rewards))
    batch = _batch(config, task, done, budget, step) if done.problems else None
    return Experience(batch or _empty(task, budget), metrics, cost, tokens, rollout_seconds, verify_seconds)


def _concatenate(parts: list[Completions]) -> Completions:
    return Completions(
        [p for part in parts for p in part.problems],
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("tokens_BxT", "logp_BxT", "forced_B")),
        [v for part in parts for v in part.verdicts],
    )


def _empty(task: Task, budget: int) -> Batch:
    shape = (0, budget + 1 + task.answer_tokens)
    prompts, padding = np.zeros((0, task.prompt_tokens), np.int32), np.zeros(0, np.int32)
    return Batch(prompts, padding, np.zeros(shape, np.int32), *(np.zeros(shape, np.float32) for _ in range(3)))


def _batch(config: Config, task: Task, done: Completions, budget: int, step: int) -> Batch:
    rl, recipe = config.rl, RECIPES[config.rl.recipe]
    rewards_B = np.array([v.correct for v in done.verdicts], float)
    rewards_B += overlong_penalty(think_lengths(done.tokens_BxT), budget, recipe)
    if rl.shuffle_rewards:
        rewards_B = np.random.default_rng((config.seed, step)).permutation(rewards_B)
    rewards_PxG = rewards_B.reshape(-1, rl.samples)
    kept_P = informative(rewards_PxG) if recipe.zero_variance != "keep" else np.ones(len(rewards_PxG), bool)
    mask = done.tokens_BxT != PAD
    mask[np.flatnonzero(done.forced_B), think_lengths(done.tokens_BxT)[done.forced_B]] = False
    advantage_BxT = advantages(rewards_PxG, recipe).reshape(-1, 1) * step_credit(
        done.tokens_BxT, task.step_tokens, rl.step_discount
    )
    prompts, padding = left_pad([p.prompt for p in done.problems for _ in range(rl.samples)], task.prompt_tokens)
    weight_BxT = weights(mask, kept_P, recipe, budget + 1 + task.answer_tokens)
    f32 = np.float32
    return Batch(
        prompts, padding, done.tokens_BxT, weight_BxT.astype(f32), advantage_BxT.astype(f32), done.logp_BxT.astype(f32)
    )


def _metrics(done: Completions, rewards_PxG: np.ndarray) -> dict[str, float]:
    """Plain numbers about the completions; a share of nothing is left out."""
    verdicts, stopped = done.verdicts, ~done.forced_B
    think_B = think_lengths(done.tokens_BxT)
    metrics = {
        "reward": float(rewards_PxG.mean()),
        "zero_variance_fraction": float(1 - informative(rewards_PxG).mean()),
    }
    if not verdicts:
        return metrics
    correct = np.array([v.correct for v in verdicts])
    lines = sum(v.lines for v in verdicts)
    metrics |= {
        "think_tokens": float(think_B.mean()),
        "answer_tokens": float(((done.tokens_BxT != PAD).sum(axis=1) - think_B).mean()),
        "cut_fraction": float(done.forced_B.mean()),
        "malformed": float(np.mean([v.answer is None for v in verdicts])),
    }
    if stopped.any():
        metrics["stopped_accuracy"] = float(correct[stopped].mean())
    if lines:
        metrics["slip_rate"] = sum(v.slips for v in verdicts) / lines
    group = len(verdicts) // len(done.problems)
    by_difficulty = defaultdict(list)
    for i, v in enumerate(verdicts):
        by_difficulty[done.problems[i // group].difficulty].append(v.correct)
    return metrics | {f"reward/{d}": float(np.mean(by_difficulty[d])) for d in sorted(by_difficulty)}
