"""Runs that several tests read and none writes to."""

from pathlib import Path

import pytest
from synthetic_runs import saturated, straight, write_run


@pytest.fixture(scope="session")
def saturated_run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "saturated", saturated).path


@pytest.fixture(scope="session")
def straight_run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "straight", straight).path
