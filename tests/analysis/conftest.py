"""Runs with a known truth that several tests read and none writes to."""

import pytest
from synthetic_runs import saturated, straight, write_run

from analysis.study import Study, study


@pytest.fixture(scope="session")
def saturated_study(tmp_path_factory) -> Study:
    return study(write_run(tmp_path_factory.mktemp("runs") / "saturated", saturated).path)


@pytest.fixture(scope="session")
def straight_study(tmp_path_factory) -> Study:
    return study(write_run(tmp_path_factory.mktemp("runs") / "straight", straight).path)
