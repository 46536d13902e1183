"""What a config will cost, save and need, before anything is spent."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from scaling import costs, flops, memory, timeline
from scaling.accelerators import ACCELERATORS
from scaling.config import Config
from scaling.quantities import seconds, size
from scaling.structure import ConfigError, hint
from scaling.tasks import make_task
from scaling.tiers import samples_at


def plan(config: Config, rates: timeline.Rates | None = None) -> dict[str, Any]:
    """Parameters, FLOPs by phase, thresholds with the steps (and seconds) expected there, the test grid and the
    disk, as plain data.

    RL steps and evaluations are bounded by completions that use their whole budget; `expected` is said where
    they are taken to be as long as demonstrations. Evaluation is not train compute.
    """
    task, cost = make_task(config.task), costs.costs(config)
    vocab, warm = len(task.vocab), cost.warm_start
    stages = [
        {"demo": stage.demo, "steps": len(stage.flops), "flops": sum(stage.flops), "exact": stage.exact}
        for stage in cost.stages
    ]
    thresholds = timeline.thresholds(config, warm)
    kept = len(thresholds["train"]) + len(thresholds["rl"]) + 2
    least, expected = (costs.rl_step_at(config.rl.flops, cycle) for cycle in (cost.bound, cost.expected))
    evaluation = costs.evaluation(config, task)
    a_checkpoint = costs.checkpoint_bytes(config, vocab)
    return {
        "parameters": flops.total_params(config.model, vocab),
        "matrix_parameters": flops.matmul_params(config.model, vocab),
        "warm_start": {"flops": warm, "exact": all(stage.exact for stage in cost.stages), "stages": stages},
        "rl": {"flops": config.rl.flops, "steps_at_least": least, "steps_expected": expected},
        "thresholds": thresholds,
        "checkpoints_at_most": kept,
        "milestones": timeline.milestones(config, cost, rates),
        "evaluation": {
            "problems": config.evaluation.problems,
            "grid": [{"budget": b, "samples": samples_at(config, b)} for b in config.evaluation.budgets],
            "flops_a_checkpoint_at_most": evaluation["spent"],
            "flops_of_every_setting_alone": evaluation["alone"],
        },
        "disk": {"bytes_a_checkpoint": a_checkpoint, "bytes_at_most": a_checkpoint * (kept + 1)},
    }


@dataclass(frozen=True)
class Machine:
    """What a config is planned for; without anything, no machine and no time."""

    devices: int | None = None
    """As few as the mesh can do with where None."""
    accelerator: str | None = None
    """A name of `scaling.accelerators`."""
    utilisation: float | None = None
    """Share of the accelerator's peak that training reaches; None for the usual one."""
    calibrate: bool = False
    """This machine, timed."""
    price: float | None = None
    """USD of one device for an hour."""

    def __post_init__(self) -> None:
        """Raises ConfigError for what does not go together and for amounts that are not above 0."""
        if self.calibrate and (self.devices or self.accelerator or self.utilisation):
            raise ConfigError(
                ["--calibrate times this machine; --devices, --accelerator, --utilisation plan others"]
            )
        if self.price is not None and not (self.calibrate or self.accelerator):
            raise ConfigError(
                [f"--price = {self.price}: needs --accelerator or --calibrate, which say how long it takes"]
            )
        if self.utilisation is not None and not self.accelerator:
            raise ConfigError(
                [f"--utilisation = {self.utilisation}: needs --accelerator, of whose peak it is a share"]
            )
        if self.utilisation is not None and self.utilisation > 1:
            raise ConfigError([f"--utilisation = {self.utilisation}: must be a share, at most 1"])
        for name in ("devices", "utilisation", "price"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError([f"--{name} = {value}: must be above 0"])
        if self.accelerator is not None and self.accelerator not in ACCELERATORS:
            known = hint(self.accelerator, ACCELERATORS)
            raise ConfigError([f"--accelerator = {self.accelerator!r}: must be known{known}"])


def plan_for(config: Config, machine: Machine) -> dict[str, Any]:
    """The plan with memory, time, device-hours and cost as far as the machine says.

    Raises ConfigError for a mesh that does not fit the devices.
    """
    if machine.calibrate:
        return priced(plan(config, _calibrated(config)), 1, machine.price)
    if machine.accelerator is None and machine.devices is None:
        return plan(config)
    make_task(config.task)  # what it refuses is said before anything is compiled
    device = ACCELERATORS[machine.accelerator] if machine.accelerator is not None else None
    account = memory.account(config, machine.devices, device.memory if device is not None else None)
    if device is None:
        return plan(config) | {"memory": account}
    utilisation = machine.utilisation or timeline.UTILISATION
    sheet = timeline.from_data_sheet(config, costs.costs(config), device, account["mesh"], utilisation)
    return priced(plan(config, sheet), account["devices"], machine.price) | {"memory": account}


def _calibrated(config: Config) -> timeline.Rates:
    from scaling.backend import prepare_jax

    prepare_jax(config.mesh.cpu_devices)
    from scaling.calibrate import calibrate

    return calibrate(config, lambda text: print(text, file=sys.stderr, flush=True))


def priced(facts: dict[str, Any], devices: int, price: float | None) -> dict[str, Any]:
    """A plan that knows its seconds, with its hours on all devices and what they cost."""
    hours = facts["milestones"]["seconds"] / 3600 * devices
    return facts | {"device_hours": hours} | ({} if price is None else {"usd": hours * price})


def describe(facts: dict[str, Any]) -> str:
    """The plan as a person reads it."""
    parts = [_compute(facts), _thresholds(facts["milestones"]), _evaluation(facts["evaluation"]), _disk(facts)]
    if "memory" in facts:
        parts.append(_memory(facts["memory"]))
    if "device_hours" in facts:
        parts.append(_time(facts))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _compute(facts: dict[str, Any]) -> list[str]:
    warm, rl = facts["warm_start"], facts["rl"]
    return [
        f"{facts['parameters']:,} parameters, {facts['matrix_parameters']:,} in matrix products",
        "",
        f"warm start      {warm['flops']:9.2e} FLOPs{'' if warm['exact'] else ' (estimated)'}",
        *(f"  {s['demo']:<12} {s['steps']:>6,} steps {s['flops']:9.2e}" for s in warm["stages"]),
        f"RL              {rl['flops']:9.2e} FLOPs, at least {rl['steps_at_least']:,} steps with every",
        f"                budget used, about {rl['steps_expected']:,} if they are as long as demonstrations",
    ]


def _thresholds(found: dict[str, Any]) -> list[str]:
    timed = "seconds" in found
    lines = [f"checkpoints, about {found['checkpoints']}, the start and the end of RL among them:"]
    lines += [f"  {'FLOPs':>8} since    {'step':>9}" + (f" {'training':>10} {'in all':>10}" if timed else "")]
    for row in found["rows"]:
        since = {"train": "start", "rl": "RL"}[row["axis"]]
        line = f"  {row['flops']:8.2e} {since:<7} {row['step']:>10,}"
        lines += [line + (f" {seconds(row['train_seconds']):>10} {seconds(row['seconds']):>10}" if timed else "")]
    return lines


def _evaluation(found: dict[str, Any]) -> list[str]:
    cost, alone = found["flops_a_checkpoint_at_most"], found["flops_of_every_setting_alone"]
    return [
        f"each evaluated on {found['problems']:,} problems, at most {cost:.2e} FLOPs",
        f"({alone:.2e} if every setting were sampled alone):",
        *(f"  budget {cell['budget']:>6} samples {cell['samples']}" for cell in found["grid"]),
    ]


def _disk(facts: dict[str, Any]) -> list[str]:
    each, most = facts["disk"]["bytes_a_checkpoint"], facts["disk"]["bytes_at_most"]
    return [f"disk: a checkpoint {size(each)}, all of at most {facts['checkpoints_at_most']} {size(most)}"]


def _memory(found: dict[str, Any]) -> list[str]:
    mesh = " × ".join(f"{axis} {ways}" for axis, ways in found["mesh"].items())
    parts = ", ".join(f"{name} {size(found[name])}" for name in ("parameters", "optimiser", "gradients"))
    lines = [
        f"memory of one of {found['devices']} devices ({mesh}): {parts};",
        "with what each program needs, as compiled for virtual CPU devices (an accelerator's compiler may need",
        "more or less temporary memory):",
    ]
    for name, program in found["programs"].items():
        what = "activations" if name == "gradient" else "temporary"
        cache = f", keys and values {size(program['cache'])}" if program["cache"] else ""
        need, inner = size(found["needed"][name]), size(program["temporary"])
        lines.append(f"  {name:<11} {need:>9}  ({what} {inner}{cache})")
    if "fits" in found:
        says = "fits" if found["fits"] else "DOES NOT FIT"
        most, usable, limit = (size(found[name]) for name in ("most", "usable", "limit"))
        lines.append(f"{says}: {most} of {usable} usable in {limit}")
    for other in found.get("alternatives", ()):
        says = "fits" if other["fits"] else "is not enough"
        needs = ", ".join(f"{name} {size(held)}" for name, held in other["needed"].items())
        lines.append(f"  {' '.join(f'--set {setting}' for setting in other['set'])}: {says} ({needs})")
    return lines + [f"note: {line}" for line in found["advice"]]


def _time(facts: dict[str, Any]) -> list[str]:
    found = facts["milestones"]
    names = ("seconds", "train_seconds", "evaluation_seconds_a_checkpoint")
    whole, training, each = (seconds(found[name]) for name in names)
    lines = [f"time: {whole}, of which training {training}; an evaluation {each}"]
    lines += [f"  from {found['rates']}; compilation not counted"]
    cost = f", {facts['usd']:,.2f} USD" if "usd" in facts else ""
    return [*lines, f"{facts['device_hours']:,.2f} device-hours{cost}"]
