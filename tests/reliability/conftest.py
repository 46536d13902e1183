"""The bench: a sample in every test run, the whole of it with RELIABILITY=all."""

from pathlib import Path

import pytest

from tests.reliability.crash_points import Snapshots
from tests.reliability.tiny_runs import here


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "reliability: faults injected into real runs; `make reliability` runs all")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.reliability)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Snapshots:
    """A whole run of the command line in this process, and what its directory was at every moment of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with Snapshots(folder / "run", folder / "moments") as snapshots:
        assert here("run", snapshots.run.path)[0] == 0
    return snapshots
