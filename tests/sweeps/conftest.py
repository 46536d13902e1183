"""Real services for tests, on this machine alone. Where one is not installed, its tests are skipped."""

import os
import shutil
import subprocess
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
