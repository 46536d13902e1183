"""The README's Python runs as it stands, block after block in one session, as a reader would paste it."""

import ast
import math
import re
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import pytest
from synthetic_runs import saturated, straight, write_run

from scaling.records import Run

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
REWARDS = [i / 8 for i in range(8)]
WARM = 150
"""Steps before the first that has a reward: more than readers look at unless told."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, to run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def session(block: str, names: dict[str, Any]) -> list[Any]:
    """Run a block; what its lines that are expressions give, which Jupyter would show."""
    shown = []
    for node in ast.parse(block).body:
        if isinstance(node, ast.Expr):
            shown.append(eval(compile(ast.Expression(node.value), "README.md", "eval"), names))
        else:
            exec(compile(ast.Module([node], []), "README.md", "exec"), names)
    return shown


def steps(run: Run) -> None:
    metrics = [("warm_start", {"loss": 2.0})] * WARM + [("rl", {"loss": 0.1, "reward": r}) for r in REWARDS]
    rows = [
        {"step": i, "phase": phase, "rl_flops": i, "ledger": {"flops": {"rollout": i}}, "metrics": values}
        for i, (phase, values) in enumerate(metrics, 1)
    ]
    run.append_train(rows)


def test_three_programs_read_the_same_rewards_from_a_train_file(here):
    steps(Run.create(here / "runs" / "demo-s0", "seed: 0\n", "0" * 32, {}))
    (block,) = [block for block in BLOCKS if "duckdb" in block]
    by_polars, by_pandas, by_duckdb = session(block, {})
    assert by_polars["reward"].drop_nulls().to_list() == REWARDS
    assert by_pandas["metrics.reward"].dropna().tolist() == REWARDS
    assert [reward for _, reward in by_duckdb.fetchall()] == REWARDS
    assert by_pandas["ledger.flops.rollout"].tolist() == by_polars["step"].to_list()


@pytest.mark.slow
def test_every_block_runs_and_jupyter_would_show_frames_and_charts(here):
    steps(write_run(here / "runs" / "demo-s0", saturated))
    for width, truth in ((32, saturated), (64, straight)):
        fields = {"model": {"width": width}}
        write_run(here / "runs" / "widths" / f"width{width}", truth, problems=64, fields=fields)
    compute = [10 ** (20 + i / 4) for i in range(12)]
    accuracy = [0.8 / (1 + math.exp(-(i - 5) / 2)) for i in range(12)]
    pl.DataFrame({"compute": compute, "accuracy": accuracy, "n": [1000] * 12}).write_csv("points.csv")
    names: dict[str, Any] = {}
    shown = [value for block in BLOCKS for value in session(block, names) if value is not None]
    assert (here / "curves.png").read_bytes().startswith(b"\x89PNG")
    kinds = [value for value in shown if isinstance(value, pl.DataFrame | alt.TopLevelMixin)]
    assert len(kinds) >= 6, "two panels, a frontier, arms, and their tables"
    assert all(hasattr(chart, "_repr_mimebundle_") for chart in kinds if isinstance(chart, alt.TopLevelMixin))
