"""Tables from run directories: the export's columns, its arithmetic, and what is left out."""

import json

import numpy as np
import pytest
from synthetic_runs import straight, write_run

from analysis.load import EXPORT_COLUMNS, estimates, evaluation_seconds, find_runs, outcomes, points
from scaling.files import RecordError


@pytest.fixture
def small(tmp_path):
    return write_run(
        tmp_path / "small", straight, rl=(1e10, 1e11), problems=12, budgets=(0, 16), samples=(1, 4, 8)
    )


def test_outcomes_have_a_row_per_checkpoint_problem_and_budget(small):
    frame = outcomes(small.path)
    assert len(frame) == 6 * 12 * 2
    assert frame.select("checkpoint", "problem", "budget").is_unique().all()
    assert (frame["votes"].list.sum() + frame["nulls"] == frame["samples"]).all()


def test_points_hold_every_setting_once_and_compute_as_if_alone(small):
    table = points([small.path])
    assert tuple(table.columns) == EXPORT_COLUMNS
    assert table.select("checkpoint", "budget", "estimator", "samples").is_unique().all()
    assert len(table) == 6 * 2 * (1 + 3 + 3)
    (row,) = table.filter(step=50, budget=16, samples=4, estimator="maj").to_dicts()
    assert row["test_flops"] == 1_000_000 + 4 * 200_000 * 20
    assert row["rl_flops"] == 1e10 and row["n"] == 12
    assert row["lo95"] <= row["accuracy"] <= row["hi95"]


def test_the_mean_is_pass_at_one_and_pass_rises_with_k(small):
    table = points([small.path])
    mean = table.filter(estimator="mean")["accuracy"].to_numpy()
    by_k = [table.filter(estimator="pass", samples=k)["accuracy"].to_numpy() for k in (1, 4, 8)]
    assert np.allclose(mean, by_k[0])
    assert (by_k[1] >= by_k[0]).all() and (by_k[2] >= by_k[1]).all()


def test_samples_of_a_budget_stop_at_what_was_drawn(tmp_path):
    run = write_run(tmp_path / "capped", straight, rl=(1e10,), problems=5, samples=(1, 4, 16), tokens=256)
    table = points([run.path])
    assert table.filter(budget=64)["samples"].max() == 4
    assert table.filter(budget=8)["samples"].max() == 16


def test_an_incomplete_evaluation_is_left_out_and_named(small, caplog):
    name = small.evaluation_names()[-1]
    file = small.evaluation_file(name)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-3]))
    small.evaluation_file(small.evaluation_names()[0]).unlink()
    frame = outcomes(small.path)
    assert name not in frame["checkpoint"] and frame["checkpoint"].n_unique() == 4
    assert f"{name} (21 of 24 cells)" in caplog.text and "00000010 (not evaluated)" in caplog.text


def test_an_evaluation_whose_counts_do_not_add_up_is_left_out_and_named(small, caplog):
    file = small.evaluation_file(small.evaluation_names()[0])
    first, *rest = file.read_text().splitlines()
    row = json.loads(first)
    row["correct"] += 1
    file.write_text("\n".join([json.dumps(row), *rest]) + "\n")
    assert file.stem not in outcomes(small.path)["checkpoint"]
    assert "problem 0, budget 0: its right answers" in caplog.text


def test_the_time_of_evaluations_is_the_sum_over_all_of_their_rows(small):
    rows = 6 * 12 * 2
    assert evaluation_seconds(small.path) == pytest.approx((0.01 * rows, 0))
    timed = {"problem": 1, "budget": 0, "seconds": 3.0, "compile_seconds": 2.0}
    small.append_evaluation("00000099", [{"problem": 0, "budget": 0}, timed])
    assert evaluation_seconds(small.path) == pytest.approx((0.01 * rows + 3, 2))


def test_runs_are_found_in_a_folder_once(small, tmp_path):
    write_run(tmp_path / "other", straight, rl=(1e10,), problems=3, budgets=(0,), seed=1)
    assert [run.name for run in find_runs([tmp_path, small.path])] == ["other", "small"]
    assert points([tmp_path])["run"].unique().sort().to_list() == ["other", "small"]
    with pytest.raises(RecordError, match="neither a run directory"):
        find_runs([tmp_path / "nothing"])


def test_a_run_without_evaluations_gives_an_empty_table(small):
    for name in small.evaluation_names():
        small.evaluation_file(name).unlink()
    assert estimates(small.path).is_empty() and tuple(points([small.path]).columns) == EXPORT_COLUMNS
