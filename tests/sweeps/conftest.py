"""Real services for tests, on this machine alone. Where one is not installed, its tests are skipped."""

import contextlib
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

import pytest

SLURM = Path(__file__).parents[1] / "services" / "slurm.sh"
NEEDED = ("slurmctld", "slurmd", "sbatch", "srun", "munged")
INSTALL = "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"


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
    pytest.importorskip("ray.job_submission", reason="no ray; for these tests: pip install 'ray[default]'")
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # Ray's sockets lie in it, whose paths must be short
    gcs, dashboard, client = free_ports(3)
    address = f"http://127.0.0.1:{dashboard}"
    places = ["--node-ip-address=127.0.0.2", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}"]
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    size = ["--num-cpus=2", f"--object-store-memory={10**8}"]
    with (folder / "log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex())
        patch.setenv("RAY_API_SERVER_ADDRESS", address)
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        for _ in range(3):  # Ray gives a node 30 s to come up, which a busy machine may not
            cluster = subprocess.Popen(
                [*start, *places, *ports, *size], stdout=log, stderr=log, start_new_session=True
            )
            while cluster.poll() is None and not answers(address):
                time.sleep(1)
            if cluster.poll() is None:
                break
            end(cluster)
        try:
            assert cluster.poll() is None, (folder / "log").read_text()
            yield address
        finally:
            end(cluster)
            shutil.rmtree(folder, ignore_errors=True)


def end(cluster: subprocess.Popen) -> None:
    """Stop it with its daemons, which it forgets where its own start broke off."""
    cluster.terminate()
    cluster.wait(60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(cluster.pid, signal.SIGKILL)


def answers(address: str) -> bool:
    from ray.job_submission import JobSubmissionClient

    try:
        JobSubmissionClient(address).list_jobs()
    except (OSError, RuntimeError):
        return False
    return True


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]
