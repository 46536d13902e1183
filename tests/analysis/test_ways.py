"""The curves of a run: what each is made of, and that a report and a table of the same run say the same."""

import numpy as np
import polars as pl
import pytest
from synthetic_runs import straight, write_run

from analysis.answers import curve
from analysis.fit import fit
from analysis.load import estimates, load
from analysis.study import study
from analysis.ways import headline, rl_points, train_points, votes_budget, ways


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    rl = (1e10, 1e11, 1e12, 1e13)
    return write_run(folder, straight, rl=rl, problems=12, budgets=(0, 16, 64), samples=(1, 4)).path


def test_rl_starts_at_the_state_before_it_and_both_axes_rise(run):
    means = headline(estimates(run))
    rl, train = rl_points(means)["rl_flops"].to_numpy(), train_points(means)["train_flops"].to_numpy()
    assert rl[0] == 0 and (np.diff(rl) > 0).all() and (np.diff(train) > 0).all()
    assert set(means["budget"]) == {64} and set(means["estimator"]) == {"mean"}


def test_of_two_states_at_one_compute_the_later_counts(run):
    means = headline(estimates(run))
    twice = pl.concat([means, means.with_columns(pl.col("step") + 1000, accuracy=pl.lit(0.5))])
    assert set(rl_points(twice)["accuracy"].tail(-1)) == set(train_points(twice)["accuracy"]) == {0.5}


def test_test_compute_is_that_of_the_last_checkpoint(run):
    points = estimates(run)
    last = points.sort("step")["checkpoint"][-1]
    found = {way.key: way for way in ways(points)}
    assert list(found) == ["rl", "train", "budget", "votes"]
    assert set(found["budget"].points["checkpoint"]) == set(found["votes"].points["checkpoint"]) == {last}
    assert set(found["votes"].points["budget"]) == {votes_budget(points)}


def test_series_hold_every_problems_own_error_in_order(run):
    for way in ways(estimates(run)):
        rows = way.points.sort(way.axis)
        np.testing.assert_array_equal(way.series().values, 1 - np.array(rows["values"].to_list()))
        np.testing.assert_array_equal(way.series().compute, rows[way.axis])


def test_a_report_and_a_fit_of_the_run_as_a_table_say_the_same(run):
    of_table = {found.series.name: curve(found) for found in fit(load(run)).curves}
    assert {found.series.name: curve(found) for found in study(run).curves} == of_table
