"""A run that several tests read and none writes to."""

import pytest
from small_runs import begin, go, small

from scaling.records import Run


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Run:
    """A small run, trained without interruption and not evaluated."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    assert go(path, small()) == "done"
    return begin(path, small())
