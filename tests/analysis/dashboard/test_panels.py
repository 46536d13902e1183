"""The two panels: what is read for a choice, and what is drawn of it."""

import json
import shlex
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import saturated, straight, write_run

from analysis.dashboard import panels
from analysis.dashboard.accuracy_axis import EDGE, accuracy
from analysis.dashboard.fitted import LONGER, MORE
from analysis.dashboard.panels import Choice

CHOICE = Choice(budget=8, samples=4, estimator="maj")


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Too few points for any fit."""
    path = tmp_path_factory.mktemp("runs") / "it's <b>"
    return write_run(path, straight, rl=(1e10, 1e11), budgets=(0, 8), samples=(1, 4), problems=40).path


@pytest.fixture(scope="module")
def found(short):
    return panels.fitted(short, CHOICE)


def spec(found, choice=CHOICE, theme="light") -> str:
    return json.dumps(panels.chart(found, choice, theme).to_dict())


def test_the_left_panel_follows_the_chosen_setting_from_before_rl_on(found):
    rows = found.train.points
    assert rows["compute"].to_list() == [0, 1e10, 1e11] and rows["x"][0] is None
    assert set(rows["budget"]) == {8} and set(rows["samples"]) == {4}


def test_the_right_panel_is_of_the_chosen_checkpoint_and_each_panel_marks_the_one_choice(short):
    name = panels.fitted(short, CHOICE).train.points["checkpoint"][1]
    got = panels.fitted(short, replace(CHOICE, checkpoint=name))
    assert got.checkpoint == name and [curve.way for curve in got.test] == [LONGER, MORE]
    assert all(set(curve.points["checkpoint"]) == {name} for curve in got.test)
    assert got.train.points.filter("chosen")["checkpoint"].to_list() == [name]
    for curve in got.test:
        assert curve.points.filter("chosen").select("budget", "samples").rows() == [(8, 4)]


def test_a_run_without_the_checkpoint_shows_its_last_before_it(short, found):
    names = found.train.points["checkpoint"].to_list()
    assert panels.fitted(short, replace(CHOICE, checkpoint="99999999")).checkpoint == names[-1]
    assert panels.fitted(short, replace(CHOICE, checkpoint="00000001")).checkpoint < names[0]


def test_hovering_shows_counts_and_a_command_that_a_shell_takes(short, found):
    row = found.train.points.row(-1, named=True)
    right, of = (int(word) for word in row["shown"].split() if word.isdigit())
    assert 0 <= right <= of == 40 * 4
    assert shlex.split(row["command"]) == ["scaling", "evaluate", str(short), row["checkpoint"]]
    assert row["tokens"] == pytest.approx(4 * 12)


def test_with_too_few_points_there_are_points_alone_and_the_reason(found):
    assert found.train.band is None and found.train.asymptote is None
    assert "a fit needs" in found.train.words and "a fit needs" in spec([found])


def test_a_setting_that_was_not_evaluated_is_said(short):
    choice = replace(CHOICE, budget=99)
    got = panels.fitted(short, choice)
    assert got.train.points.is_empty() and "not evaluated" in spec([got], choice)


def test_a_run_without_evaluations_is_said_and_not_an_error(tmp_path):
    run = write_run(tmp_path / "none", straight, rl=(1e10,), budgets=(0, 8), samples=(1, 4), problems=4)
    for name in run.evaluation_names():
        run.evaluation_file(name).unlink()
    assert "No complete evaluation" in spec([panels.fitted(run.path, CHOICE)])


def test_arms_share_a_colour_and_runs_do_not(tmp_path):
    runs = [
        write_run(tmp_path / f"r{i}", straight, rl=(1e10,), budgets=(0, 8), samples=(1, 4), problems=20, seed=i,
                  fields={"model": {"width": width}}).path
        for i, width in enumerate((32, 32, 64))
    ]  # fmt: skip
    found = [panels.fitted(run, CHOICE) for run in runs]
    assert '"domain": ["r0", "r1", "r2"]' in spec(found)
    assert '"domain": ["width 32", "width 64"]' in spec(found, replace(CHOICE, colour="arm"))


def test_what_a_fit_depends_on_is_not_how_it_is_drawn():
    assert replace(CHOICE, logit=True, colour="arm").fitted == CHOICE.fitted
    assert replace(CHOICE, axis="train_flops").fitted != CHOICE.fitted


def test_both_themes_are_transparent_and_differ_in_ink(found):
    light, dark = (json.loads(spec([found], theme=theme))["config"] for theme in ("light", "dark"))
    assert light["background"] == dark["background"] == "transparent"
    assert light["axis"]["labelColor"] != dark["axis"]["labelColor"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.booleans())
def test_every_accuracy_has_a_place_on_the_axis_in_its_order(levels, logit):
    axis = accuracy(levels, logit, 340)
    placed = axis.place(pl.DataFrame({"accuracy": sorted(levels)}))["accuracy"].to_numpy()
    low, high = axis.axis("accuracy").to_dict()["scale"]["domain"]
    assert np.all(np.diff(placed) >= 0) and np.all((placed >= low - 1e-9) & (placed <= high + 1e-9))
    if not logit:
        assert placed.tolist() == sorted(levels)


def test_a_logit_axis_places_an_accuracy_at_its_logit_and_none_beyond_the_edge():
    axis = accuracy([0, 0.5, 1], True, 340)
    placed = axis.place(pl.DataFrame({"accuracy": [0.0, EDGE, 0.5, 0.8, 1.0]}))["accuracy"].to_list()
    assert placed[0] == placed[1] and placed[2] == 0 and placed[3] == pytest.approx(np.log(4))
    assert placed[-1] == pytest.approx(-placed[0])


@pytest.mark.slow
def test_a_fit_is_drawn_with_bands_past_the_data_and_its_asymptote(tmp_path):
    choice = Choice(32, 1, "mean")
    got = panels.fitted(write_run(tmp_path / "flat", saturated).path, choice)
    assert got.train.band is not None and got.train.asymptote is not None
    assert got.train.band["x"].max() == pytest.approx(got.train.points["x"].max() + 1)
    low, middle, high = got.train.asymptote.row(0)
    assert low < 0.1 + 0.6 * 0.7 < high and low < middle < high
    assert "saturated (probability" in spec([got], choice) and "saturated" in panels.words([got])[0]
