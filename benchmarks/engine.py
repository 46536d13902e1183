"""Training steps, sampling and the grid of an evaluation, beside PyTorch, transformers and plain flax.

Everything runs on one thread, the sides of a row in turns. Seconds are the process's CPU time: on one thread, what
a clock would say if nothing else ran. Tokens are real ones: padding is not counted, whoever pads.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import process_time

import numpy as np

from benchmarks import Row, faster, interleaved, peers
from scaling import config as configs
from scaling.batches import Batch
from scaling.calibrate import rambling
from scaling.config import Config, MeshConfig, ModelConfig
from scaling.experiment import prepare
from scaling.learner import initial_state, learn, means
from scaling.sampling import left_pad, row_keys, sample
from scaling.tasks import ANSWER, END, PAD, make_task

WIDE = ModelConfig(width=128, layers=4, heads=4, kv_heads=4, head_size=32, ff=512)
"""The decoder of d 128 and 4 layers, with a context of 128."""
CONTEXT = 128
WIDE_ROWS = 64
GRID_SAMPLES = (1, 4, 16)
GRID_PROBLEMS = 32


def default() -> Config:
    """The default experiment on one device of one thread."""
    return replace(configs.load("demo"), mesh=MeshConfig(cpu_devices=1))


@dataclass(frozen=True)
class Rows:
    """Sequences to learn from."""

    batch: Batch
    microbatch: int

    def fed(self) -> np.ndarray:
        """int64[B]: tokens fed of each row, padding not counted."""
        return self.batch.prompts_BxN.shape[1] - self.batch.padding_B + self.batch.lengths() - 1

    @property
    def tokens(self) -> int:
        return int(self.fed().sum())

    def padded(self) -> list[np.ndarray]:
        """Microbatches as a plain loop has them: each row as long as the longest of all."""
        whole = np.concatenate([self.batch.prompts_BxN, self.batch.tokens_BxT], axis=1)
        return [whole[i : i + self.microbatch] for i in range(0, len(whole), self.microbatch)]


def experience(config: Config, budget: int) -> Rows:
    """A step's batch of RL as long as the demonstrations that the model imitates, cut at the budget."""
    task, rng = make_task(config.task), random.Random(0)
    problems = [task.problem(0, "train", i) for i in range(config.rl.problems) for _ in range(config.rl.samples)]
    said = [task.demonstrate(problem, "trace", budget, rng).tokens for problem in problems]
    tokens = np.full((len(said), max(map(len, said))), PAD, np.int32)
    for row, completion in zip(tokens, said, strict=True):
        row[: len(completion)] = completion
    return Rows(_batch(*left_pad([p.prompt for p in problems], task.prompt_tokens), tokens), config.microbatch)


def full(rows: int, vocab: int, prompt: int, length: int, microbatch: int) -> Rows:
    """Random rows without padding, `length` tokens fed of each."""
    rng = np.random.default_rng(0)
    prompts, tokens = (rng.integers(3, vocab, (rows, n), np.int32) for n in (prompt, length + 1 - prompt))
    return Rows(_batch(prompts, np.zeros(rows, np.int32), tokens), microbatch)


def _batch(prompts_BxN: np.ndarray, padding_B: np.ndarray, tokens_BxT: np.ndarray) -> Batch:
    mask = (tokens_BxT != PAD).astype(np.float32)
    return Batch(prompts_BxN, padding_B, tokens_BxT, mask / mask.sum(), mask, -mask)


def our_step(config: Config, rows: Rows) -> peers.Step:
    """What `scaling.train` does with a batch: microbatches of like length, gradients accumulated, a step."""
    experiment = prepare(replace(config, microbatch=rows.microbatch))
    state = initial_state(experiment)

    def run() -> None:
        nonlocal state
        state, sums, _ = learn(experiment, "rl", state, None, rows.batch, 1e-3)
        means(sums)

    return run


def measured(sides: dict[str, Callable[[], int]]) -> dict[str, tuple[int, float]]:
    """Tokens that each side says it handled, and its median seconds."""
    tokens: dict[str, int] = {}

    def telling(name: str, run: Callable[[], int]) -> Callable[[], None]:
        return lambda: tokens.__setitem__(name, run())

    seconds = interleaved(*(telling(name, run) for name, run in sides.items()), clock=process_time)
    return {name: (tokens[name], taken) for name, taken in zip(sides, seconds, strict=True)}


def stepping(step: peers.Step, rows: Rows) -> Callable[[], int]:
    """A step that says how many tokens it learnt from."""

    def run() -> int:
        step()
        return rows.tokens

    return run


def against_best(name: str, sides: dict[str, Callable[[], int]], note: str) -> Row:
    """A row of ours and of the fastest of the others, tokens a second."""
    rate = {side: tokens / seconds for side, (tokens, seconds) in measured(sides).items()}
    ours = rate.pop("ours")
    best = max(rate.values())
    said = ", ".join(f"{peer} {value:,.0f}" for peer, value in rate.items())
    return Row(name, ours, best, ours / best, "tokens/s", f"{note}; {said}")


def peak() -> list[Row]:
    """What a thread of this machine can do in large matrix products: the bound of all rows."""
    theirs = peers.torch_peak() if peers.installed() else float("nan")
    ours = peers.jax_peak()
    return [Row("peak", ours / 1e9, theirs / 1e9, ours / theirs, "GFLOP/s", "float32 1024³; peer: PyTorch")]


def case(name: str) -> tuple[Config, Rows, int]:
    """A config, rows to learn from and the vocabulary: of the default experiment at the lengths of its rollouts
    (`uneven`) and at full length (`full`), and of the wide decoder (`wide`)."""
    config = default()
    task = make_task(config.task)
    vocab, prompt = len(task.vocab), task.prompt_tokens
    if name == "uneven":
        return config, experience(config, max(config.rl.budgets)), vocab
    if name == "full":
        return config, full(128, vocab, prompt, prompt + 92, config.microbatch), vocab
    return replace(config, model=WIDE), full(WIDE_ROWS, vocab, prompt, CONTEXT, 16), vocab


def train_step() -> list[Row]:
    """A step of each of the cases."""
    _, uneven, _ = case("uneven")
    share = uneven.tokens / (len(uneven.batch.padding_B) * (uneven.padded()[0].shape[1] - 1))
    cases = {
        "train_step": ("uneven", f"default experiment's longest budget, {share:.0%} of the padded batch real"),
        "train_step, full rows": ("full", "default experiment's model, rows of 102 tokens"),
        "train_step, d 128": ("wide", f"d 128, 4 layers, rows of {CONTEXT} tokens"),
    }
    found = []
    for name, (kind, work) in cases.items():
        config, rows, vocab = case(kind)
        for label, activation in (("default activations", "gelu"), ("all relu²", "relu2")):
            steps = {"ours": our_step(config, rows)}
            if peers.installed():
                steps["PyTorch"] = peers.torch_step(config.model, vocab, rows.padded(), activation)
            steps["flax"] = peers.flax_step(config.model, vocab, rows.padded(), activation)
            sides = {side: stepping(run, rows) for side, run in steps.items()}
            title = name if activation == "gelu" else f"{name}, matched"
            found.append(against_best(title, sides, f"{work}, {label}"))
    return found


def our_sampler(
    config: Config, prompts_BxN: np.ndarray, group: int, budgets: tuple[int, ...], *, ends: bool
) -> Callable[[], int]:
    """Completions of every prompt; how many tokens were decoded, each answer at a shorter budget included."""
    experiment = prepare(config)
    params = initial_state(experiment)["params"]
    params = params if ends else rambling(params, 0.0)
    keys = row_keys(0, 1, 0, np.arange(len(prompts_BxN) * group))
    padding = np.zeros(len(prompts_BxN), np.int32)

    def run() -> int:
        found = sample(
            experiment.graphdef,
            params,
            prompts_BxN,
            padding,
            keys,
            group=group,
            budgets=budgets,
            answer_tokens=3,
            temperature=1.0,
            chunk=512,
            mesh=experiment.mesh,
        )
        answers = sum(
            int((short.length_B - budget)[short.forced_B].sum())
            for budget, short in zip(budgets[:-1], found[:-1], strict=True)
        )
        return int(found[-1].length_B.sum()) + answers

    return run


def sampling() -> list[Row]:
    """Rollouts of the default experiment, with rows that end and with full rows, and of the wide decoder."""
    config = default()
    task = make_task(config.task)
    vocab, budget = len(task.vocab), max(config.rl.budgets)
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, vocab, (config.rl.problems, task.prompt_tokens), np.int32)
    few = prompts[: WIDE_ROWS // config.rl.samples]
    wide, context = replace(config, model=WIDE), CONTEXT - task.prompt_tokens - 4
    cases = [
        ("sampling", config, prompts, budget, (ANSWER, END), "default experiment, random weights end the rows"),
        ("sampling, full rows", config, prompts, budget, (), "default experiment, no row ends early"),
        ("sampling, d 128", wide, few, context, (), "d 128, 4 layers, no row ends early"),
    ]
    found = []
    for name, case, start, longest, ends, work in cases:
        group = config.rl.samples
        sides = {"ours": our_sampler(case, start, group, (longest,), ends=bool(ends))}
        if peers.installed():
            rows = np.repeat(start, group, axis=0)
            for activation in ("gelu", "relu2"):
                run = peers.transformers_sampler(case.model, vocab, rows, longest + 4, activation, ends)
                sides[f"transformers, {activation}"] = run
        if len(sides) > 1:
            note = f"{work}; {len(start) * group} rows, budget {longest}"
            found.append(against_best(name, sides, note))
    return found


def grid_tokens() -> list[Row]:
    """All of a checkpoint's grid from one pass, beside its largest cell alone and each cell on its own."""
    config = default()
    task = make_task(config.task)
    vocab, budgets = len(task.vocab), config.evaluation.budgets
    prompts = np.random.default_rng(0).integers(3, vocab, (GRID_PROBLEMS, task.prompt_tokens), np.int32)

    def cell(budget: int, samples: int) -> Callable[[], int]:
        return our_sampler(config, prompts, samples, (budget,), ends=False)

    whole = our_sampler(config, prompts, GRID_SAMPLES[-1], budgets, ends=False)
    largest = cell(budgets[-1], GRID_SAMPLES[-1])
    each = [cell(budget, samples) for budget in budgets for samples in GRID_SAMPLES]
    sides = {"ours": whole, "largest": largest, "each": lambda: sum(run() for run in each)}
    found = measured(sides)
    work = f"budgets {budgets} × samples {GRID_SAMPLES}, {GRID_PROBLEMS} problems, no row ends early"
    rows = []
    for i, kind in enumerate(("tokens", "seconds")):
        cost = {side: float(values[i]) for side, values in found.items()}
        for side, name, peer in (
            ("largest", f"grid_{kind}", "its largest cell alone"),
            ("each", f"grid_{kind}, naive", "each cell sampled on its own"),
        ):
            rows.append(faster(name, cost["ours"], cost[side], kind, f"{work}; peer: {peer}"))
    return rows
