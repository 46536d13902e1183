"""Whether a run fits: the bytes that one device must hold, from compiling the run's programs ahead of time.

The programs are compiled for virtual devices of the CPU, in a process of their own (`scaling.aot`). What is held
from step to step is exact; temporary memory is what this compiler needs, and an accelerator's may need more or
less. Recomputed blocks (`model.remat`) stay recomputed, which the CPU's compiler undoes unless told not to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from scaling.config import Config, dump
from scaling.structure import ConfigError, override, structure

PROGRAMS = ("gradient", "step", "prompts", "rollout", "evaluation")
USABLE = 0.9
"""Share of a device's memory that a run may take: the runtime, the compiled programs and gaps need the rest."""
KEEP_REMAT = "--xla_disable_hlo_passes=cse_barrier_expander"
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""Code that is never run need not be good; which memory it needs is decided before it is generated."""


def compiled(config: Config, devices: int, programs: Sequence[str] = PROGRAMS) -> dict[str, Any]:
    """What `scaling.aot.measure` says of so many virtual devices, its progress on standard error.

    Raises ConfigError where the mesh does not fit the devices or the task refuses.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} {KEEP_REMAT} {QUICK}".strip()
    here = str(Path(__file__).parents[1])
    env = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # a program read back from it does not know its memory
        "XLA_FLAGS": flags,
        "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])),
    }
    request = json.dumps({"config": dump(config), "programs": programs})
    done = subprocess.run(
        [sys.executable, "-m", "scaling.aot"], env=env, input=request, text=True, stdout=subprocess.PIPE
    )
    if done.returncode:
        raise RuntimeError(f"compiling for {devices} virtual devices ended with exit code {done.returncode}")
    facts = json.loads(done.stdout.splitlines()[-1])
    if "error" in facts:
        raise ConfigError([facts["error"]])
    return facts


def needed(config: Config, facts: dict[str, Any]) -> dict[str, int]:
    """Bytes on one device while each compiled program runs: its own, and what else is held meanwhile.

    The trainer holds parameters and optimiser state throughout, and the policy that RL started from where
    `rl.kl` wants it. An evaluation between two steps restores a second state beside the trainer's.
    """
    params, opt = facts["parameters"], facts["optimiser"]
    reference = params if config.rl.kl else 0
    beside = {"gradient": opt, "step": reference, "prompts": opt + reference, "rollout": opt + reference}
    beside["evaluation"] = params + 2 * opt + reference
    return {
        name: beside[name] + found["arguments"] + max(found["results"] + found["temporary"], found["growing"])
        for name, found in facts["programs"].items()
    }


def account(config: Config, devices: int | None, limit: float | None) -> dict[str, Any]:
    """The memory of a run by program, whether it fits into `limit` bytes a device, and if not what would.

    Without `devices`, on as few as the mesh can do with.
    """
    devices = devices or prod(max(size, 1) for size in (config.mesh.data, config.mesh.fsdp, config.mesh.tensor))
    facts = compiled(config, devices)
    need = needed(config, facts)
    found: dict[str, Any] = {"devices": devices, "mesh": facts["mesh"]}
    found |= {name: facts[name] for name in ("parameters", "optimiser")}
    found |= {"gradients": facts["parameters"], "programs": facts["programs"], "needed": need}
    found |= {"most": max(need.values()), "advice": _uneven(config, facts["mesh"])}
    if limit is not None:
        usable = USABLE * limit
        over = [name for name, size in need.items() if size > usable]
        found |= {"limit": limit, "usable": usable, "fits": not over}
        if over:
            found["alternatives"] = list(alternatives(config, devices, facts["mesh"], over, usable))
    return found


def _uneven(config: Config, mesh: dict[str, int]) -> list[str]:
    """Settings that the mesh cannot split, so that every device does all of the work."""
    ways, chunk = mesh["data"] * mesh["fsdp"], config.evaluation.chunk
    sizes = {"microbatch": config.microbatch, "rl.chunk": config.rl.chunk, "evaluation.chunk": chunk}
    return [
        f"{name} = {size} is no multiple of data × fsdp = {ways}: every device does all of it"
        for name, size in sizes.items()
        if size % ways
    ]


def alternatives(
    config: Config, devices: int, mesh: dict[str, int], over: Sequence[str], usable: float
) -> Iterator[dict[str, Any]]:
    """Changes of the config, each alone, and all together where none is enough, with what the compiler says.

    A change goes as far as it must for the programs that it helps, or as far as it can.
    """
    tried, enough = [], False
    for helped, changes in _changes(config, mesh, over):
        need: dict[str, int] = {}
        change: list[str] = []
        for change in changes:
            need = _needed_with(config, change, devices, helped)
            if max(need.values()) <= usable:
                break
        tried += change
        fits = max(need.values()) <= usable and set(over) <= set(helped)
        enough |= fits
        yield {"set": change, "needed": need, "fits": fits}
    if len(tried) > 1 and not enough:
        need = _needed_with(config, tried, devices, PROGRAMS)
        yield {"set": tried, "needed": need, "fits": max(need.values()) <= usable}


def _changes(
    config: Config, mesh: dict[str, int], over: Sequence[str]
) -> Iterator[tuple[Sequence[str], list[list[str]]]]:
    """Programs that a change helps, and the change in steps that go further and further."""
    ways = mesh["data"] * mesh["fsdp"]

    def halved(name: str, size: int) -> list[list[str]]:
        steps = range(1, size.bit_length())
        return [[f"{name}={size >> i}"] for i in steps if size % 2**i == 0 and size >> i >= ways]

    tensor = [f"mesh.tensor={mesh['tensor']}"] if config.mesh.tensor == -1 else []
    rest = [] if config.mesh.data == -1 else ["mesh.data=-1", *tensor]
    fsdp = [mesh["fsdp"] * 2**i for i in range(1, ways.bit_length())]
    changes: list[tuple[Sequence[str], list[list[str]]]] = [
        (PROGRAMS, [[f"mesh.fsdp={n}", *rest] for n in fsdp if ways % n == 0]),
        (["gradient"], [] if config.model.remat else [["model.remat=true"]]),
        (["gradient"], halved("microbatch", config.microbatch)),
        (["rollout", "prompts"], halved("rl.chunk", config.rl.chunk)),
        (["evaluation"], halved("evaluation.chunk", config.evaluation.chunk)),
    ]
    for helped, steps in changes:
        if steps and set(helped) & set(over):
            yield helped, steps


def _needed_with(config: Config, settings: Sequence[str], devices: int, programs: Sequence[str]) -> dict[str, int]:
    data, _ = override(asdict(config), settings)
    changed = structure(data, Config)
    return needed(changed, compiled(changed, devices, programs))
