"""Run directories with a known truth, in the format of `scaling.records`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import beta

from scaling.records import Run, checkpoint_name

Truth = Callable[[float, int], float]
"""(RL FLOPs, budget) → accuracy of one sample."""


def saturated(rl_flops: float, budget: int) -> float:
    """Rises early, flat for the last decades: asymptote .1 + .6 × thinking."""
    return 0.1 + 0.6 * thinking(budget) / (1 + (3e10 / max(rl_flops, 1.0)) ** 1.5)


def straight(rl_flops: float, budget: int) -> float:
    """Eight points a decade of RL compute, no ceiling in sight."""
    return 0.15 + 0.1 * thinking(budget) + 0.08 * max(0.0, math.log10(max(rl_flops, 1.0)) - 9.5)


def thinking(budget: int) -> float:
    return 0.3 + 0.7 * budget / (budget + 24)


def write_run(
    path: Path,
    truth: Truth,
    *,
    rl: Sequence[float] = tuple(10 ** (10 + i / 5) for i in range(13)),
    warm: Sequence[float] = (1e9, 1e10, 1e11),
    problems: int = 300,
    budgets: Sequence[int] = (0, 8, 16, 32, 64),
    samples: Sequence[int] = (1, 2, 4, 8, 16, 32),
    tokens: int = 256,
    seed: int = 0,
    fields: dict[str, Any] | None = None,
) -> Run:
    """A complete run: warm-start checkpoints, the state before RL, then one at each RL compute of `rl`.

    The problems are the same for every seed. fields: more of its config.
    """
    text = yaml.safe_dump(
        {
            "seed": seed,
            "task": {"name": "synthetic"},
            "evaluation": {
                "problems": problems, "budgets": list(budgets), "samples": list(samples), "tokens": tokens,
            },
            **(fields or {}),
        }
    )  # fmt: skip
    environment = {"command": "scaling run <config>", "git_commit": "0" * 40, "python": "3.11"}
    run = Run.create(path, text, "0" * 32, environment | {"devices": ["cpu"], "packages": {"jax": "0.10.2"}})
    rng = np.random.default_rng(seed)
    ease = np.random.default_rng(0).uniform(size=problems)
    states = [("warm_start", flops, 0.0, "threshold") for flops in warm]
    states += [("rl", warm[-1] * 1.5 + c, c, "threshold" if c else "start") for c in (0.0, *rl)]
    for index, (phase, train_flops, rl_flops, kind) in enumerate(states):
        step = 10 * (index + 1)
        flops = {"warm_start": train_flops - rl_flops, "rollout": 0.4 * rl_flops, "update": 0.6 * rl_flops}
        ledger = {
            "flops": {name: int(value) for name, value in flops.items()},
            "tokens": {name: int(value / 1e6) for name, value in flops.items()},
            "seconds": {name: value / 1e10 for name, value in flops.items()}
            | {"compile": 20.0, "checkpoint": 1.0},
        }
        manifest = {
            "name": checkpoint_name(step), "step": step, "phase": phase, "phase_step": step, "kind": kind,
            "train_flops": int(train_flops), "rl_flops": int(rl_flops), "thresholds": {"train": [], "rl": []},
            "ledger": ledger, "hashes": {}, "config_hash": run.config_hash(), "time": 0.0,
        }  # fmt: skip
        run.write_manifest(manifest)
        row = {key: manifest[key] for key in ("step", "phase", "phase_step", "train_flops", "rl_flops", "ledger")}
        run.append_train([row | {"budget": budgets[-1], "metrics": {"loss": 1.0, "reward": 0.5}, "time": 0.0}])
        shrink = 0.3 if phase == "warm_start" else 1.0
        run.append_evaluation(
            checkpoint_name(step),
            (
                row
                for budget in budgets
                for row in _answers(
                    rng, ease, shrink * truth(rl_flops, budget), budget, _drawn(budget, samples, tokens)
                )
            ),
        )
    run.write_status("running", "report")
    return run


def _drawn(budget: int, samples: Sequence[int], tokens: int) -> int:
    return max([k for k in samples if k * budget <= tokens] or [min(samples)])


def _answers(rng: np.random.Generator, ease: np.ndarray, level: float, budget: int, n: int):
    """Rows of one budget: problems differ (beta, concentration 1.5), wrong answers share four texts."""
    chance = beta.ppf(ease, 1.5 * level, 1.5 * (1 - level))
    for problem, p in enumerate(chance):
        counts = rng.multinomial(n, [p, *(0.9 * (1 - p) * np.array([0.5, 0.25, 0.15, 0.1])), 0.1 * (1 - p)])
        named = [["right", int(counts[0]), True]]
        named += [[f"wrong{i}", int(counts[i + 1]), False] for i in range(4)]
        named += [[None, int(counts[5]), False]]
        answers = sorted((a for a in named if a[1]), key=lambda a: (-a[1], str(a[0])))
        correct, nulls = int(counts[0]), int(counts[5])
        stopped = n - n // 4
        yield {
            "problem": problem, "difficulty": 2 + problem % 3, "budget": budget, "samples": n,
            "correct": correct, "answers": answers, "tokens": n * (budget + 4), "prefill_flops": 1_000_000,
            "decode_flops": n * 200_000 * (budget + 4), "stopped": stopped,
            "stopped_correct": min(stopped, correct), "malformed": nulls, "lines": n * budget // 4,
            "slips": n * budget // 400, "seconds": 0.01,
        } | ({"shown": _shown(problem, answers[0])} if problem < 8 else {})  # fmt: skip


def _shown(problem: int, given: list) -> dict[str, Any]:
    answer, _, correct = given
    text = f"try {problem} <answer> {answer}" if answer else f"try {problem}"
    return {"prompt": f"{problem} ?", "text": text, "answer": answer, "correct": correct, "stopped": True}


def replay(whole: Run, path: Path) -> Iterator[str]:
    """Write a complete run again elsewhere, a checkpoint at a time, as it would be written; yields their names."""
    run = Run.create(path, whole.config_text(), whole.config_hash(), {"command": "scaling run <config>"})
    rows = {row["step"]: row for row in whole.train_rows()}
    for manifest in whole.manifests():
        run.write_status("running", "train")
        run.append_train([rows[manifest["step"]]])
        run.write_manifest(manifest)
        run.append_evaluation(manifest["name"], whole.evaluation_rows(manifest["name"]))
        yield manifest["name"]
    run.write_status("done", "report")
