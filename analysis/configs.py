"""The config of a run as plain data, without anything that builds or fits: it opens in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scaling.files import RecordError
from scaling.records import Run

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C, where there is one, is ten times faster, which matters to two hundred runs."""


def config(run_dir: str | Path) -> dict[str, Any]:
    """The run's config as plain nested data."""
    return yaml.load(Run.open(run_dir).config_text(), LOADER)


def setting(values: dict[str, Any], path: str) -> Any:
    """A field of a plain config by its dotted path. Raises RecordError where it is missing."""
    value: Any = values
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise RecordError(f"config.yaml: lacks {path}")
        value = value[name]
    return value


def headline_budget(budgets: Sequence[int]) -> int:
    """The middle one of the positive budgets (the upper of two): chosen by rule, not by its result. Tokens."""
    positive = sorted(b for b in budgets if b > 0) or sorted(budgets)
    return positive[len(positive) // 2]


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Fields by dotted path; a list is one value."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= flat(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return out
