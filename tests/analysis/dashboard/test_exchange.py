"""Train against test compute: a map where a surface is fitted, the measured cells or a reason where none is."""

import json

import pytest
from synthetic_runs import straight, write_run

from analysis.dashboard import exchange
from analysis.frontier_plot import headline


def test_without_enough_points_the_measured_cells_stand_and_the_reason(tmp_path):
    run = write_run(tmp_path / "run", straight, rl=(), budgets=(0, 8), samples=(1,), problems=20)
    traded = exchange.fitted(run.path)
    assert "a surface needs" in exchange.words(traded)
    assert "one sample" in json.dumps(exchange.chart(traded, "dark").to_dict())


def test_without_an_evaluation_there_is_a_reason_alone(tmp_path):
    run = write_run(tmp_path / "run", straight, rl=(), budgets=(0,), samples=(1,), problems=2)
    for name in run.evaluation_names():
        run.evaluation_file(name).unlink()
    traded = exchange.fitted(run.path)
    assert exchange.words(traded) == ""
    assert "No evaluation is complete yet." in json.dumps(exchange.chart(traded).to_dict())


@pytest.mark.slow
def test_a_fitted_surface_is_drawn_with_lines_and_its_rate(tmp_path):
    traded = exchange.fitted(write_run(tmp_path / "run", straight, problems=100).path)
    text = json.dumps(exchange.chart(traded, "dark").to_dict(), ensure_ascii=False)
    assert headline(traded.found.exchange) in text and '"level"' in text and exchange.words(traded) == ""
