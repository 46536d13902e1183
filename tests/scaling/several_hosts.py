"""Processes that are one run of two hosts on this machine, or one process with as many devices."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
DEADLINE = 600
"""Seconds after which a process is taken to hang."""
SMALL = (
    "model.layers=1",
    "warm_start.stages.0.steps=1",
    "warm_start.stages.1.steps=1",
    "rl.flops=8e7",
    "rl.budgets=[4]",
    "schedule.first=1e9",
    "schedule.points_per_decade=2",
    "evaluation.problems=4",
    "evaluation.budgets=[4]",
    "evaluation.samples=[4]",
    "evaluation.chunk=16",
)
SPLIT = "mesh.fsdp=2"
"""Over both hosts: none of them holds the whole of a matrix."""


@dataclass(frozen=True)
class Place:
    """Where processes run that share one CPU device each, with a cache of compiled programs."""

    folder: Path

    def start(self, devices: int, *words: str | Path, **variables: str) -> subprocess.Popen:
        cheap = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen=false {cheap}",
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),
        }
        return subprocess.Popen(
            [sys.executable, *words],
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def by_flags(self, *words: str | Path) -> list[subprocess.Popen]:
        address = f"127.0.0.1:{free_port()}"
        return [
            self.start(
                *(1, *words, "--coordinator", address, "--hosts", "2", "--host", str(host)),
                JAX_COORDINATOR_BIND_ADDRESS=address,
            )
            for host in range(2)
        ]

    def by_slurm(self, *words: str | Path) -> list[subprocess.Popen]:
        port = str(free_port())
        step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "JAX_COORDINATOR_PORT": port}
        step |= {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}
        step |= {"JAX_COORDINATOR_BIND_ADDRESS": f"127.0.0.1:{port}"}
        return [self.start(1, *words, **step, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)) for i in range(2)]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def ends(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each, but for what gloo says of itself; none is left behind."""
    try:
        outputs = [process.communicate(timeout=DEADLINE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    said = [(re.sub(r"(?m)^\[Gloo\].*\n", "", out), err) for out, err in outputs]
    return [(process.returncode, *output) for process, output in zip(processes, said, strict=True)]


def command(path: Path) -> list[str | Path]:
    """A run of all stages."""
    settings = [word for setting in ("tracking.wandb=disabled", SPLIT, *SMALL) for word in ("--set", setting)]
    return [HERE / "on_two_hosts.py", "run", "tiny", "--dir", path, *settings]
