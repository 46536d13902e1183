"""Runs as tasks of a Slurm array: one sbatch a call, a task a run.

Each task becomes its command (`exec`), with nothing in between that would have to pass a signal on: the USR2 that
Slurm sends ahead of the time limit and the SIGTERM of a preemption or of scancel reach the run itself, which saves
and exits. Slurm requeues a task that it preempts; one whose time is over has to be submitted again. What came of a
task is asked of nobody, so Slurm's accounting is not needed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaling.structure import ConfigError
from sweeps.launchers import Hint, Job

ANSWER_SECONDS = 60
"""Longest wait for Slurm's controller."""
QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
"""States as squeue says them. All others are ends."""


@dataclass(frozen=True)
class Slurm:
    """What a run asks of Slurm. Where it says nothing, the cluster's defaults hold."""

    partition: str | None = None
    """Where to queue."""
    time: str | None = None
    """Longest time, as sbatch takes it: minutes, hours:minutes:seconds or days-hours."""
    nodes: int = 1
    """Machines of a run."""
    tasks_per_node: int = 1
    """Processes of a run on each machine, usually one a GPU; more than one in all are started by srun."""
    gpus_per_node: int = 0
    """GPUs of a run on each machine."""
    cpus_per_task: int | None = None
    """CPUs of each process."""
    memory: str | None = None
    """Memory of a run on each machine, such as 64G."""
    notice: int = 120
    """Seconds between USR2, at which a run saves and stops, and the time limit; Slurm may take up to 60 more."""
    setup: tuple[str, ...] = ()
    """Lines of shell before the command, such as `module load cuda`."""
    options: tuple[str, ...] = ()
    """Other options of sbatch in its own words, such as --qos=low."""


@dataclass(frozen=True)
class SlurmLauncher:
    """Slurm as an engine. A handle is the number of an array and of its task, such as 812_3."""

    slurm: Slurm = Slurm()
    at_once: int | None = None
    """The most runs of one array that run at the same time; as many as there is room for where it is None."""

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """The jobs as one array. Raises ConfigError where sbatch is missing or refuses."""
        if not jobs:
            return []
        for job in jobs:
            job.log.parent.mkdir(parents=True, exist_ok=True)
        done = _ask(sbatch(self.slurm, len(jobs), self.at_once), script(self.slurm, jobs))
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise ConfigError([f"--launcher slurm: {line}" for line in said])
        number = done.stdout.strip().partition(";")[0]  # NUMBER;CLUSTER where there are several clusters
        return [f"{number}_{i}" for i in range(len(jobs))]

    def poll(self, handles: Sequence[str]) -> Mapping[str, Hint]:
        """What squeue says of each; unknown where no controller answers."""
        done = _ask(["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i %T"])
        if done.returncode:
            return dict.fromkeys(handles, "unknown")
        states = dict(line.split() for line in done.stdout.splitlines())
        return {handle: _hint(states.get(handle)) for handle in handles}

    def cancel(self, handles: Sequence[str]) -> None:
        """SIGTERM to those that run, and KILL after what the cluster sets as KillWait, 30 s by default."""
        if handles:
            _ask(["scancel", "--quiet", *handles])


def sbatch(slurm: Slurm, jobs: int, at_once: int | None = None) -> list[str]:
    """The command that takes the script of so many jobs on its standard input."""
    valued = {
        "partition": slurm.partition,
        "time": slurm.time,
        "nodes": slurm.nodes,
        "ntasks-per-node": slurm.tasks_per_node,
        "gpus-per-node": slurm.gpus_per_node or None,
        "cpus-per-task": slurm.cpus_per_task,
        "mem": slurm.memory,
        "signal": f"B:USR2@{slurm.notice}",
    }
    array = f"--array=0-{jobs - 1}" + (f"%{at_once}" if at_once else "")
    fixed = ["--parsable", "--job-name=sweep", "--requeue", "--output=/dev/null", array]
    given = [f"--{name}={value}" for name, value in valued.items() if value is not None]
    return ["sbatch", *fixed, *given, *slurm.options]


def script(slurm: Slurm, jobs: Sequence[Job]) -> str:
    """What each task runs: everything goes to the job's log, and the command takes the shell's place."""
    cases = [
        f"{i}) log={shlex.quote(str(job.log))} command=({shlex.join(job.command)}) ;;"
        for i, job in enumerate(jobs)
    ]
    several = slurm.nodes * slurm.tasks_per_node > 1
    cpus = f"--cpus-per-task={slurm.cpus_per_task} " if slurm.cpus_per_task else ""  # which srun does not inherit
    lines = [
        "#!/bin/bash",
        "case $SLURM_ARRAY_TASK_ID in",
        *cases,
        "esac",
        'exec >>"$log" 2>&1',
        *slurm.setup,
        f'exec {f"srun {cpus}" if several else ""}"${{command[@]}}"',
    ]
    return "\n".join(lines) + "\n"


def _hint(state: str | None) -> Hint:
    return "queued" if state in QUEUED else "running" if state in RUNNING else "gone"


def _ask(command: Sequence[str], script: str = "") -> subprocess.CompletedProcess[str]:
    """What Slurm answers; a failure where it is not here or does not answer in time.

    The variables of an allocation in which we may be ourselves are not the job's, and sbatch would hand them on.
    """
    own = {name: os.environ[name] for name in os.environ if not name.startswith("SLURM_") or name == "SLURM_CONF"}
    try:
        return subprocess.run(
            command, input=script, env=own, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except FileNotFoundError:
        why = f"there is no {command[0]} here; start the sweep on a machine of the cluster"
    except subprocess.TimeoutExpired:
        why = f"{command[0]} got no answer within {ANSWER_SECONDS} s; is the controller up (scontrol ping)?"
    return subprocess.CompletedProcess(command, 1, "", why)
