"""Runs as jobs of a Ray cluster, over its Jobs API: any process that reaches the dashboard can poll and cancel.

Ray starts a command in a process group of its own on a machine that has the CPUs and GPUs free, passes SIGTERM on,
and kills the command when the worker that watches it dies. The machines need the file system and the Python from
which the sweep is started; they do not get its environment variables. No cluster is started here:

    RAY_USAGE_STATS_ENABLED=0 RAY_JOB_START_TIMEOUT_SECONDS=1e9 ray start --head

Ray gives up jobs that wait for longer than RAY_JOB_START_TIMEOUT_SECONDS, by default a quarter of an hour.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.structure import ConfigError
from sweeps.launchers import Hint, Job

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient  # pyright: ignore[reportMissingImports]: an extra


@dataclass(frozen=True)
class Ray:
    """What a run asks of Ray."""

    address: str = "http://127.0.0.1:8265"
    """The cluster's dashboard, unless RAY_API_SERVER_ADDRESS names another, which Ray lets win."""
    cpus: float = 1
    """CPUs kept for a run; the cluster's CPUs over this many bound the runs at once."""
    gpus: float = 0
    """GPUs of a run; it sees no others."""
    notice: int = 120
    """Seconds between SIGTERM, at which a run saves and stops, and KILL, when it is cancelled."""
    setup: tuple[str, ...] = ()
    """Lines of shell before the command, such as `source .venv/bin/activate`."""


@dataclass(frozen=True)
class RayLauncher:
    """Ray as an engine. A handle is a job's submission id."""

    ray: Ray = Ray()

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """A job each, all or none. Raises ConfigError where Ray is not installed, does not answer or refuses."""
        handles: list[str] = []
        try:
            with self._asked() as client:
                for job in jobs:
                    job.log.parent.mkdir(parents=True, exist_ok=True)
                    handle = client.submit_job(
                        entrypoint=script(self.ray, job),
                        entrypoint_num_cpus=self.ray.cpus,
                        entrypoint_num_gpus=self.ray.gpus,
                        runtime_env={"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(self.ray.notice)}},
                        metadata={"job_name": job.name},
                    )
                    handles.append(handle)
        except ConfigError:
            self.cancel(handles)
            raise
        return handles

    def poll(self, handles: Sequence[str]) -> Mapping[str, Hint]:
        """What Ray says of each; unknown where no cluster answers.

        A job that is cancelled before its turn is queued until then, and starts only to be told to stop.
        """
        try:
            with self._asked() as client:
                states = {job.submission_id: str(job.status) for job in client.list_jobs()}
        except ConfigError:
            return dict.fromkeys(handles, "unknown")
        hints: dict[str | None, Hint] = {"PENDING": "queued", "RUNNING": "running"}
        return {handle: hints.get(states.get(handle), "gone") for handle in handles}

    def cancel(self, handles: Sequence[str]) -> None:
        """SIGTERM to each, and KILL after the notice."""
        for handle in handles:
            with contextlib.suppress(ConfigError), self._asked() as client:
                client.stop_job(handle)

    @contextlib.contextmanager
    def _asked(self) -> Iterator[JobSubmissionClient]:
        """The cluster. Raises ConfigError where Ray is not installed, does not answer or refuses."""
        try:
            from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]
            from ray.job_submission import JobSubmissionClient  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ConfigError(["--launcher ray: Ray is not installed here; pip install 'scaling[ray]'"]) from None
        try:
            yield JobSubmissionClient(self.ray.address)
        except (OSError, RuntimeError, RayError) as error:
            raise ConfigError([f"--launcher ray: {' '.join(str(error).split())}"]) from None


def script(ray: Ray, job: Job) -> str:
    """A job in shell: from this folder, everything into its log, and the command takes the shell's place."""
    lines = [
        f"cd {shlex.quote(os.getcwd())} || exit",
        f"exec >>{shlex.quote(str(job.log))} 2>&1",
        *ray.setup,
        f"exec {shlex.join(job.command)}",
    ]
    return "\n".join(lines)
