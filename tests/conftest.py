"""Settings of every test process, made before JAX starts."""

import os
from pathlib import Path

PROGRAMS = Path(__file__).parent.parent / ".pytest_cache" / "programs"
"""Compiled programs, which the processes of a test run share, and the next test run too."""


def pytest_configure() -> None:
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(PROGRAMS))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
