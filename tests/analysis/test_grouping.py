"""Runs and rows by what they differ by: every choice of arms that would mislead is an error of one line."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from synthetic_runs import saturated, straight, write_run

from analysis.grouping import arms, run_arms
from analysis.series import series_of
from analysis.table import TableError
from scaling.records import Run

FIELDS = {"model": {"width": 32, "ff": 128}, "rl": {"recipe": "cispo", "flops": 1e12}, "mesh": {"data": 1}}


def write(tmp_path, *configs):
    """Runs that have a config and nothing else; each dict overrides `model.width` and the like."""
    runs = []
    for i, changed in enumerate(configs):
        fields: dict[str, Any] = {section: dict(values) for section, values in FIELDS.items()}
        fields["seed"] = 0
        for path, value in changed.items():
            section, _, name = path.partition(".")
            if name:
                fields[section][name] = value
            else:
                fields[section] = value
        runs.append(Run.create(tmp_path / f"run{i}", yaml.safe_dump(fields), f"{i:032d}", {}).path)
    return runs


def lines(runs, *by):
    with pytest.raises(TableError) as error:
        run_arms(runs, by)
    return error.value.lines


def test_runs_of_one_arm_differ_by_seed_and_by_what_does_not_matter(tmp_path):
    other = {"model.width": 64}
    runs = write(tmp_path, {}, {"seed": 1, "mesh.data": 2, "rl.flops": 2e12}, other, other | {"seed": 1})
    found, notes = run_arms(runs, ["model.width"])
    assert found == {"width 32": runs[:2], "width 64": runs[2:]} and not notes


def test_several_fields_make_an_arm_together(tmp_path):
    runs = write(tmp_path, *({"model.width": w, "rl.recipe": r} for w in (32, 64) for r in ("cispo", "rloo")))
    found, _ = run_arms(runs, ["model.width", "rl.recipe"])
    assert list(found) == [f"width {w}, recipe {r}" for w in (32, 64) for r in ("cispo", "rloo")]


def test_what_else_arms_differ_by_is_said(tmp_path):
    _, notes = run_arms(write(tmp_path, {}, {"model.width": 64, "model.ff": 256}), ["model.width"])
    assert len(notes) == 1 and notes[0].startswith("arms differ also by model.ff:")


def test_an_arm_of_unlike_runs_is_an_error(tmp_path):
    runs = write(tmp_path, {}, {"rl.recipe": "rloo"}, {"model.width": 64})
    assert lines(runs, "model.width") == (
        "--by model.width: the runs of width 32 differ also by rl.recipe; add --by rl.recipe",
    )


def test_unknown_and_constant_fields_are_named_together(tmp_path):
    runs = write(tmp_path, {}, {"model.width": 64})
    unknown, constant = lines(runs, "model.widht", "rl.recipe")
    assert unknown == "--by model.widht: unknown field; did you mean 'model.width'?"
    assert constant == "--by rl.recipe: is 'cispo' in all 2 runs; fields that vary: model.width"


def test_the_runs_of_an_arm_are_its_seeds_and_keep_their_problems(tmp_path):
    for width, truth in ((32, straight), (64, saturated)):
        for seed in range(1 + (width == 64)):
            fields = {"model": {"width": width}}
            write_run(tmp_path / f"w{width}-s{seed}", truth, seed=seed, problems=20, budgets=(8,), fields=fields)
    frame, notes = arms([tmp_path], ["model.width"])
    small, large = series_of(frame)
    assert (small.name, large.name) == ("width 32", "width 64")
    assert small.seed is None and large.seed is not None and set(large.seed) == {0, 1}
    assert large.values is not None and large.values.shape == (28, 20)
    assert notes == ["width 32: one run, so how seeds differ is not in its intervals"]


def test_a_run_without_a_checkpoint_of_rl_is_left_out_and_said(tmp_path):
    for width in (32, 64, 128):
        rl = (1e11,) if width < 128 else ()
        write_run(tmp_path / f"w{width}", straight, rl=rl, problems=5, fields={"model": {"width": width}})
    frame, notes = arms([tmp_path], ["model.width"])
    assert frame["curve"].unique().sort().to_list() == ["width 32", "width 64"]
    left_out = "w128: left out, no checkpoint of RL is evaluated yet"
    assert any(left_out in note for note in notes)
    with pytest.raises(TableError, match="1 arms have points; two are needed") as error:
        arms([tmp_path / "w32", tmp_path / "w128"], ["model.width"])
    assert left_out in str(error.value)


def test_rows_of_a_table_are_grouped_by_any_column(tmp_path):
    rows = [{"compute": 10.0**i, "accuracy": 0.1 * i, "optimiser": o, "curve": f"{o}{s}", "n": 100}
            for o in ("adam", "muon") for s in (0, 1) for i in range(1, 6)]  # fmt: skip
    pl.DataFrame(rows).write_csv(tmp_path / "t.csv")
    frame, _ = arms([tmp_path / "t.csv"], ["optimiser"])
    found = series_of(frame)
    assert [s.name for s in found] == ["optimiser adam", "optimiser muon"]
    assert all(s.seed is not None and len(np.unique(s.seed)) == 2 and len(s.compute) == 10 for s in found)


@pytest.mark.parametrize(
    ("by", "message"), [("optimizer", "did you mean 'optimiser'"), ("lab", "has one value in all rows")]
)
def test_a_column_that_tells_nothing_apart_is_an_error(tmp_path, by, message):
    rows = {"compute": [1.0, 2.0], "accuracy": [0.1, 0.2], "optimiser": ["a", "b"], "lab": ["x", "x"]}
    pl.DataFrame(rows).write_csv(tmp_path / "t.csv")
    with pytest.raises(TableError, match=message):
        arms([tmp_path / "t.csv"], [by])
