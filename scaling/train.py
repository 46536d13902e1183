"""The loop: supervised warm start, then reinforcement learning, with checkpoints at thresholds of compute.

Everything random is a pure function of (seed, stream, step), so a run that goes on from a checkpoint does what it
would have done without the interruption, bit for bit; only seconds differ.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling import accelerators, checkpoints, hosts, schedule
from scaling.batches import Ahead, Batch, update_cost, warm_start_batch
from scaling.config import Config, StageConfig
from scaling.experiment import prepare
from scaling.files import replace
from scaling.flops import Ledger
from scaling.learner import abstract_state, initial_state, learn, make_optimiser, means
from scaling.records import Run, checkpoint_name
from scaling.rl import Experience, collect
from scaling.room import within_memory
from scaling.sharding import place
from scaling.timing import Stopwatch
from scaling.tracking import Terminal

HEARTBEAT_SECONDS = 5.0
"""Most time between two heartbeats in status.json, but for a step that takes longer."""
MOST_MISMATCH = {"float32": 0.01, "bfloat16": 0.1}
"""Nats a token by which sampler and trainer may differ: what rounding explains."""


NO_TARGETS: dict[str, list[float]] = {"train": [], "rl": []}
"""What a checkpoint stands for that no threshold asked for."""


class TrainingError(RuntimeError):
    """Training cannot go on."""


class Trainer:
    """The state of one run and its two kinds of step."""

    def __init__(self, config: Config, run: Run, warn: Callable[[str], None]):
        self.run, self.warn = run, warn
        self.experiment = experiment = prepare(config)
        mesh = experiment.mesh
        one = accelerators.peak(mesh.devices.flat[0].device_kind)
        self.peak = None if one is None else one * mesh.size
        """FLOP/s of all devices, where their data sheet is known."""
        self.watch = Stopwatch()
        self.stages = [stage for stage in config.warm_start.stages for _ in range(stage.steps)]
        """Of each step of the warm start."""
        self.step, self.ledger = 0, Ledger()
        self.reference: nnx.State | None = None
        self.warned = False
        self.taught = Ahead(
            lambda step: warm_start_batch(config, experiment.task, self.stages[step], step), len(self.stages)
        )
        with self.watch("checkpoint"):
            abstract = abstract_state(experiment)
            hosts.first(lambda: checkpoints.clear(run))
            restored = checkpoints.restore(run, abstract, warn=warn)
        if restored is None:
            with self.watch("other"):
                self.state = initial_state(experiment)
            if self.phase == "rl":
                self.enter_rl()
        else:
            self.state, manifest = restored
            self.step, self.ledger = manifest["step"], Ledger.from_dict(manifest["ledger"])
            if self.phase == "rl" and config.rl.kl:
                self.reference = self._restore_reference(abstract)
        hosts.first(lambda: run.cut_train(self.step))

    @property
    def config(self) -> Config:
        return self.experiment.config

    @property
    def phase(self) -> str:
        """The phase of the next step."""
        return "warm_start" if self.step < len(self.stages) else "rl"

    @property
    def phase_step(self) -> int:
        """Steps done of the phase of the next step."""
        return self.step if self.phase == "warm_start" else self.step - len(self.stages)

    @property
    def done(self) -> bool:
        return self.phase == "rl" and self.ledger.rl_flops >= self.config.rl.flops

    def enter_rl(self) -> None:
        """A fresh optimiser for the new objective; the policy of now is the reference."""
        opt_state = make_optimiser(self.config, "rl").init(self.state["params"])
        self.state = place({"params": self.state["params"], "opt_state": opt_state}, self.experiment.mesh)
        if self.config.rl.kl:
            self.reference = jax.tree.map(jnp.copy, self.state["params"])

    def _restore_reference(self, abstract: Any) -> nnx.State:
        """The policy that RL started from."""
        start = checkpoint_name(len(self.stages))
        there = hosts.first(self.run.manifest_file(start).exists)
        restored = checkpoints.restore(self.run, abstract, start, warn=self.warn) if there else None
        if restored is None:
            raise TrainingError(
                "rl.kl: the policy that RL started from is needed; its checkpoint is missing or damaged"
            )
        return restored[0]["params"]

    def advance(self) -> dict[str, Any]:
        """One step; its row for train.jsonl."""
        phase, phase_step, start = self.phase, self.phase_step, self.ledger
        budget, metrics = self._warm_step() if phase == "warm_start" else self._rl_step()
        self.step += 1
        spent = self.watch.take()
        for name, passed in spent.items():
            self.ledger = self.ledger.add(name, seconds=passed)
        seconds, flops = sum(spent.values()), self.ledger.train_flops - start.train_flops
        fed = sum(self.ledger.tokens.values()) - sum(start.tokens.values())
        metrics |= {"seconds": seconds, "tokens_per_second": fed / max(seconds, 1e-9)}
        if self.peak is not None:
            metrics["mfu"] = flops / max(seconds, 1e-9) / self.peak
        return {
            "step": self.step,
            "phase": phase,
            "phase_step": phase_step + 1,
            "budget": budget,
            "train_flops": self.ledger.train_flops,
            "rl_flops": self.ledger.rl_flops,
            "ledger": self.ledger.to_dict(),
            "metrics": metrics,
            "time": time(),
        }

    def _learn(self, batch: Batch, rate: float) -> dict[str, float]:
        """One update; its metrics on the host."""
        self.state, sums, norm = learn(self.experiment, self.phase, self.state, self.reference, batch, rate)
        metrics = {name: value for name, value in means(sums).items() if name != "tokens"}
        metrics |= {"grad_norm": float(norm), "learning_rate": rate}
        if not math.isfinite(metrics["loss"]) or not math.isfinite(metrics["grad_norm"]):
            raise TrainingError(
                f"step {self.step + 1}: loss {metrics['loss']}, grad_norm {metrics['grad_norm']}; "
                f"its batch is in {hosts.first(lambda: self._keep_batch(batch))}"
            )
        return metrics

    def _keep_batch(self, batch: Batch) -> Path:
        """What the step that is under way was to learn from, for a person to look at."""
        buffer = io.BytesIO()
        np.savez(buffer, **batch._asdict())
        file = self.run.bad_batch_file(self.step + 1)
        replace(file, buffer.getvalue())
        return file

    def _warm_step(self) -> tuple[int, dict[str, float]]:
        stage: StageConfig = self.stages[self.step]
        rate = stage.learning_rate * min((self.step + 1) / max(self.config.warm_start.warmup_steps, 1), 1.0)
        with self.watch("warm_start"):
            batch = self.taught(self.step)
            metrics = self._learn(batch, rate)
        flops, tokens = update_cost(batch, self.config.model, self.experiment.vocab)
        self.ledger = self.ledger.add("warm_start", flops=flops, tokens=tokens)
        return stage.budget, {k: metrics[k] for k in ("loss", "accuracy", "grad_norm", "learning_rate")}

    def _rl_step(self) -> tuple[int, dict[str, float]]:
        rl, step = self.config.rl, self.phase_step

        def draw(chunk: int) -> Experience:
            config = dataclasses.replace(self.config, rl=dataclasses.replace(rl, chunk=chunk))
            experiment = dataclasses.replace(self.experiment, config=config)
            return collect(experiment, self.state["params"], self.watch, step)

        experience = within_memory(draw, "rl.chunk", rl.chunk, rl.samples, self.warn)
        self.ledger = self.ledger.add("rollout", flops=experience.flops, tokens=experience.tokens)
        metrics: dict[str, float] = {}  # of the last update; where no group is of use, nothing is measured
        with self.watch("update"):
            for i, batch in enumerate(experience.batches):
                rate = rl.learning_rate * min((step * rl.updates + i + 1) / max(rl.warmup_steps, 1), 1.0)
                metrics |= self._learn(batch, rate)
                if i == 0:
                    self._check_sampler(metrics["mismatch"])
                self._count_update(batch)
        metrics.pop("accuracy", None)
        return experience.budget, metrics | experience.metrics

    def _check_sampler(self, mismatch: float) -> None:
        """Say once if the sampler's log-probabilities are not those of the policy that it sampled from."""
        most = MOST_MISMATCH[self.config.model.dtype]
        if mismatch > most and not self.warned:
            self.warned = True
            self.warn(
                f"step {self.step + 1}: sampler and trainer differ by {mismatch:.2g} nats a token on one policy, "
                f"more than the {most} that {self.config.model.dtype} explains: ratios are wrong"
            )

    def _count_update(self, batch: Batch) -> None:
        flops, tokens = update_cost(batch, self.config.model, self.experiment.vocab)
        self.ledger = self.ledger.add("update", flops=flops, tokens=tokens)
        if self.reference is not None:
            self.ledger = self.ledger.add("reference", flops=flops // 3, tokens=tokens)

    def save(self, kind: str, targets: dict[str, list[float]]) -> str:
        """A checkpoint of now that stands for these thresholds."""
        with self.watch("checkpoint"):
            return checkpoints.save(
                self.run,
                self.state,
                {
                    "step": self.step,
                    "phase": self.phase,
                    "phase_step": self.phase_step,
                    "train_flops": self.ledger.train_flops,
                    "rl_flops": self.ledger.rl_flops,
                    "thresholds": targets,
                    "kind": kind,
                    "ledger": self.ledger.to_dict(),
                },
            )


def crossings(config: Config, before: Ledger, after: Ledger) -> dict[str, list[float]]:
    """The thresholds that a step crossed, by axis: train (since the first FLOP of all) and rl."""
    s = config.schedule
    return {
        "train": schedule.crossed(before.train_flops, after.train_flops, s.train_points_per_decade, s.first),
        "rl": schedule.crossed(before.rl_flops, after.rl_flops, s.points_per_decade, s.rl_first),
    }


def train(
    run_dir: Path,
    config: Config,
    *,
    terminal: Terminal,
    on_checkpoint: Callable[[str], None] | None,
    stop: Callable[[], bool],
) -> str:
    """Train from where the run directory stands to the end; "done", or "preempted" once `stop()` is true.

    `on_checkpoint` gets the name of each checkpoint of the experiment as it appears. On several hosts all of this
    is to be called on each; the first one keeps the records. Raises TrainingError for a loss or gradient that is
    not finite.
    """
    run = Run.open(run_dir)
    trainer = Trainer(config, run, terminal.message)
    saved = beat = monotonic()
    if trainer.step and not trainer.done:
        terminal.message(f"goes on after step {trainer.step}")

    def checkpoint(kind: str, targets: dict[str, list[float]]) -> None:
        name = trainer.save(kind, targets)
        if on_checkpoint is not None and kind != "resume":
            on_checkpoint(name)

    if trainer.step == 0 and trainer.phase == "rl" and not hosts.first(run.manifest_names):
        checkpoint("start", NO_TARGETS)
    while not trainer.done:
        if stop():
            trainer.save("resume", NO_TARGETS)
            return "preempted"
        before = trainer.ledger
        row = trainer.advance()
        with trainer.watch("records"):
            if hosts.is_first():
                run.append_train([row])
        targets = crossings(config, before, trainer.ledger)
        kind = None
        if row["phase"] == "warm_start" and trainer.phase == "rl":
            trainer.enter_rl()
            kind = "start"
        elif trainer.done:
            kind = "end"
        elif targets["train"] or targets["rl"]:
            kind = "threshold"
        elif hosts.any_host(monotonic() - saved > config.schedule.resume_seconds):
            kind = "resume"
        if kind is not None:
            checkpoint(kind, targets)
        now = monotonic()
        saved = saved if kind is None else now
        with trainer.watch("records"):
            if hosts.is_first() and (kind is not None or now - beat > HEARTBEAT_SECONDS):
                beat = now
                run.write_status("running", "train")
            terminal.train_row(row, **_axis(config, row))
    return "done"


def _axis(config: Config, row: dict[str, Any]) -> dict[str, Any]:
    """The end and the next threshold on the axis of the row's phase."""
    s = config.schedule
    if row["phase"] == "rl":
        upcoming = schedule.next_threshold(row["rl_flops"], s.points_per_decade, s.rl_first)
        return {"phase_total_flops": config.rl.flops, "next_threshold": min(upcoming, config.rl.flops)}
    upcoming = schedule.next_threshold(row["train_flops"], s.train_points_per_decade, s.first)
    steps = sum(stage.steps for stage in config.warm_start.stages)
    return {"phase_total_flops": row["train_flops"] * steps / row["phase_step"], "next_threshold": upcoming}
