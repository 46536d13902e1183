"""Real services for tests, on this machine alone. Where one is not installed, its tests are skipped."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

SLURM = Path(__file__).parents[1] / "services" / "slurm.sh"
NEEDED = ("slurmctld", "slurmd", "sbatch", "srun", "munged")
INSTALL = "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"

TOKEN = secrets.token_hex()
"""Ray's, which a process reads once, as it imports Ray."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Path]:
    """The folder of a Slurm of one node with 4 CPUs and partitions low and high, found by SLURM_CONF."""
    path = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    if missing := [name for name in NEEDED if shutil.which(name, path=path) is None]:
        pytest.skip(f"no {', '.join(missing)}; for these tests: {INSTALL}")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        try:
            started = subprocess.run([SLURM, "start", folder], capture_output=True, text=True, timeout=60)
            assert started.returncode == 0, started.stderr
            patch.setenv("SLURM_CONF", started.stdout.strip())
            yield folder
        finally:
            subprocess.run([SLURM, "stop", folder], capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def ray() -> Iterator[str]:
    """The address of a Ray cluster of two CPUs on this machine, also found by RAY_API_SERVER_ADDRESS.

    Some of Ray's ports listen on every interface, so that who has no token is refused.
    """
    if importlib.util.find_spec("ray") is None:
        pytest.skip("no ray; for these tests: make ray")
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # Ray's sockets lie in it, whose paths must be short
    gcs, dashboard, client = free_ports(3)
    address = f"http://127.0.0.1:{dashboard}"
    places = ["--node-ip-address=127.0.0.2", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}"]
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    size = ["--num-cpus=2", f"--object-store-memory={10**8}"]
    with (folder / "log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        patch.setenv("RAY_API_SERVER_ADDRESS", address)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        for _ in range(2):  # Ray gives a node 30 s to come up, which a busy machine may not
            with daemon([*command, *places, *ports, *size], log) as cluster:
                while cluster.poll() is None and not answers(address):
                    time.sleep(1)
                if cluster.poll() is None:
                    yield address
                    break
        else:
            pytest.skip(f"Ray did not come up twice: {(folder / 'log').read_text()[-300:]}")
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def daemon(command: list[str], log: IO[str]) -> Iterator[subprocess.Popen]:
    """A process that is stopped in the end, and killed with all of its group if it leaves some behind."""
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def answers(address: str) -> bool:
    """Whether the cluster takes jobs, which is some seconds after its dashboard is up."""
    from ray.job_submission import JobSubmissionClient

    try:
        JobSubmissionClient(address).submit_job(entrypoint="true")
    except (OSError, RuntimeError):
        return False
    return True


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]
