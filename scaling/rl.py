"""One step's experience: problems, rollouts, rewards and what each token is worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from flax import nnx

from scaling import flops
from scaling.batches import Batch
from scaling.config import Config
from scaling.experiment import Experiment
from scaling.objectives import advantages, informative, learned_from, overlong_penalty, step_credit, weights
from scaling.recipes import MOST_DRAWS, RECIPES
from scaling.sampling import left_pad, row_keys, sample
from scaling.tasks import ANSWER, END, PAD, Problem, Task, Verdict, make_problem
from scaling.timing import Stopwatch
from scaling.verifying import verify

ROLLOUT_STREAM = 1
RL_FIRST_PROBLEM = 1_000_000_000
"""Training problems from here on are RL's; those before it are the warm start's."""


@dataclass(frozen=True)
class Experience:
    budget: int
    """Thinking tokens allowed."""
    batches: list[Batch]
    """One for each update; none where no group is of use."""
    metrics: dict[str, float]
    flops: int
    tokens: int
    """Spent on rollouts, redrawn ones included."""


@dataclass(frozen=True)
class Completions:
    """Completions of some problems on the host; row p·G + g belongs to problem p."""

    problems: list[Problem]
    tokens_BxT: np.ndarray
    logp_BxT: np.ndarray
    forced_B: np.ndarray
    verdicts: list[Verdict]

    def rows(self, groups_P: np.ndarray, group: int) -> Completions:
        keep = np.flatnonzero(np.repeat(groups_P, group))
        return Completions(
            [p for p, kept in zip(self.problems, groups_P, strict=True) if kept],
            self.tokens_BxT[keep],
            self.logp_BxT[keep],
            self.forced_B[keep],
            [self.verdicts[i] for i in keep],
        )


def think_lengths(tokens_BxT: np.ndarray) -> np.ndarray:
    """int64[B]: tokens before `ANSWER` or `END`."""
    over = np.isin(tokens_BxT, (ANSWER, END, PAD))
    return np.where(over.any(axis=1), over.argmax(axis=1), tokens_BxT.shape[1])


def rewards(done: Completions, claim_penalty: float) -> np.ndarray:
    """float64[B]: 1 for a right answer, minus the penalty for a wrong one that the model chose to stand by, and
    for one that cannot be read, which else would be the cheaper way to be wrong."""
    correct_B = np.array([v.correct for v in done.verdicts])
    malformed_B = np.array([v.answer is None for v in done.verdicts])
    return correct_B - claim_penalty * (~correct_B & (~done.forced_B | malformed_B))


def rollout_cost(model, vocab: int, problems: Sequence[Problem], lengths_B: np.ndarray) -> tuple[int, int]:
    """FLOPs and tokens fed: each prompt once, each completion but for its last token."""
    group = len(lengths_B) // len(problems)
    cost = tokens = 0
    for i, problem in enumerate(problems):
        prompt, lengths = len(problem.prompt), lengths_B[i * group : (i + 1) * group].tolist()
        cost += flops.prefill(model, vocab, prompt) + sum(flops.decode(model, vocab, prompt, n) for n in lengths)
        tokens += prompt + sum(n - 1 for n in lengths)
    return cost, tokens


def collect(experiment: Experiment, params: nnx.State, watch: Stopwatch, step: int) -> Experience:
    """Sample, verify and weigh the experience of RL step `step` (from 0).

    A pure function of its arguments but for the time that it adds to `watch`.
    """
    config, task = experiment.config, experiment.task
    rl, recipe = config.rl, RECIPES[config.rl.recipe]
    budget = rl.budgets[step % len(rl.budgets)]
    drawn: list[Completions] = []
    kept: list[Completions] = []
    judged: list[np.ndarray] = []
    cost = tokens = 0
    wanted = rl.problems
    for draw in range(recipe.draws):
        with watch("rollout"):
            done = _rollouts(experiment, params, step * MOST_DRAWS + draw, budget)
        with watch("verify"):
            done = replace(done, verdicts=verify(task, done.problems, done.tokens_BxT))
        lengths_B = (done.tokens_BxT != PAD).sum(axis=1)
        spent = rollout_cost(config.model, experiment.vocab, done.problems, lengths_B)
        cost, tokens = cost + spent[0], tokens + spent[1]
        judged.append(rewards(done, rl.claim_penalty).reshape(-1, rl.samples))
        kept_P = informative(judged[-1]) if recipe.zero_variance == "redraw" else np.ones(rl.problems, bool)
        kept_P &= np.cumsum(kept_P) <= wanted
        wanted -= int(kept_P.sum())
        drawn.append(done)
        kept.append(done.rows(kept_P, rl.samples))
        if wanted == 0:
            break
    metrics = _metrics(_concatenate(drawn), np.concatenate(judged))
    with watch("other"):
        batches = _batches(config, task, _concatenate(kept), budget, step) if wanted < rl.problems else []
    return Experience(budget, batches, metrics, cost, tokens)


def _rollouts(experiment: Experiment, params: nnx.State, place: int, budget: int) -> Completions:
    """The completions at one place of the problem stream, not yet judged."""
    config, task, rl = experiment.config, experiment.task, experiment.config.rl
    first = RL_FIRST_PROBLEM + place * rl.problems
    problems = [make_problem(task, config.seed, "train", first + i) for i in range(rl.problems)]
    prompts, padding = left_pad([p.prompt for p in problems], task.prompt_tokens)
    keys = row_keys(config.seed, ROLLOUT_STREAM, place, np.arange(rl.problems * rl.samples))
    (rollout,) = sample(
        experiment.graphdef,
        params,
        prompts,
        padding,
        keys,
        group=rl.samples,
        budgets=(budget,),
        answer_tokens=task.answer_tokens,
        temperature=rl.temperature,
        chunk=rl.chunk,
        mesh=experiment.mesh,
    )
    return Completions(problems, rollout.tokens_BxT, rollout.logp_BxT, rollout.forced_B, [])


def _concatenate(parts: list[Completions]) -> Completions:
    return Completions(
        [p for part in parts for p in part.problems],
        np.concatenate([part.tokens_BxT for part in parts]),
        np.concatenate([part.logp_BxT for part in parts]),
        np.concatenate([part.forced_B for part in parts]),
        [v for part in parts for v in part.verdicts],
    )


def _batches(config: Config, task: Task, done: Completions, budget: int, step: int) -> list[Batch]:
    """What to learn from, in `rl.updates` batches of whole groups; groups without information weigh nothing."""
    rl, recipe = config.rl, RECIPES[config.rl.recipe]
    think_B = think_lengths(done.tokens_BxT)
    rewards_B = rewards(done, rl.claim_penalty) + overlong_penalty(think_B, budget, recipe)
    if rl.shuffle_rewards:
        rewards_B = np.random.default_rng((config.seed, step)).permutation(rewards_B)
    rewards_PxG = rewards_B.reshape(-1, rl.samples)
    kept_P = learned_from(rewards_PxG, recipe)
    mask_BxT = done.tokens_BxT != PAD
    mask_BxT[done.forced_B, think_B[done.forced_B]] = False  # an injected ANSWER is not the model's own word
    credit_BxT = step_credit(done.tokens_BxT, task.step_tokens, rl.step_discount)
    advantage_BxT = advantages(rewards_PxG, recipe).reshape(-1, 1) * credit_BxT
    if not rl.shuffle_rewards:  # the control learns from nothing that tells completions apart
        for row, verdict in enumerate(done.verdicts):
            advantage_BxT[row, list(verdict.slip_at)] -= rl.slip_penalty
    prompts, padding = left_pad([p.prompt for p in done.problems for _ in range(rl.samples)], task.prompt_tokens)
    longest = budget + 1 + task.answer_tokens
    batches = []
    for groups in np.array_split(np.arange(len(done.problems)), rl.updates):
        if kept_P[groups].any():
            rows = (groups[:, None] * rl.samples + np.arange(rl.samples)).reshape(-1)
            weight_BxT = weights(mask_BxT[rows], kept_P[groups], recipe, longest)
            parts = weight_BxT, advantage_BxT[rows], done.logp_BxT[rows]
            batches.append(
                Batch(
                    prompts[rows],
                    padding[rows],
                    done.tokens_BxT[rows],
                    *(x.astype(np.float32) for x in parts),
                )
            )
    return batches


def _metrics(done: Completions, rewards_PxG: np.ndarray) -> dict[str, float]:
    """Plain numbers about all completions that were drawn, learned from or not; a share of nothing is left out."""
    verdicts, stopped_B = done.verdicts, ~done.forced_B
    think_B = think_lengths(done.tokens_BxT)
    metrics = {
        "reward": float(rewards_PxG.mean()),
        "zero_variance_fraction": float(1 - informative(rewards_PxG).mean()),
    }
    correct_B = np.array([v.correct for v in verdicts])
    lines = sum(v.lines for v in verdicts)
    metrics |= {
        "correct": float(correct_B.mean()),
        "think_tokens": float(think_B.mean()),
        "answer_tokens": float(((done.tokens_BxT != PAD).sum(axis=1) - think_B).mean()),
        "cut_fraction": float(done.forced_B.mean()),
        "malformed": float(np.mean([v.answer is None for v in verdicts])),
    }
    if stopped_B.any():
        metrics["stopped_accuracy"] = float(correct_B[stopped_B].mean())
    if lines:
        metrics["slip_rate"] = sum(v.slips for v in verdicts) / lines
    group = len(verdicts) // len(done.problems)
    by_difficulty = defaultdict(list)
    for i, v in enumerate(verdicts):
        by_difficulty[done.problems[i // group].difficulty].append(v.correct)
    return metrics | {f"correct/{d}": float(np.mean(by_difficulty[d])) for d in sorted(by_difficulty)}
