"""Which settings are looked at: by rule, never by their result."""

import numpy as np
import pytest
from synthetic_runs import straight, write_run

from analysis.configs import headline_budget
from analysis.study import study
from scaling.files import RecordError


@pytest.mark.parametrize(
    ("budgets", "wanted"), [((0, 8, 16, 32, 64, 128), 32), ((0, 4), 4), ((0,), 0), ((8, 16), 16)]
)
def test_the_headline_is_the_middle_one_of_the_positive_budgets(budgets, wanted):
    assert headline_budget(budgets) == wanted


def test_curves_hold_the_axes_they_name(saturated_study):
    found = saturated_study
    rl, train, budget, votes = (found.curve(key).series for key in ("rl", "train", "budget", "votes"))
    assert rl.compute[0] == 0 and len(rl.compute) == 14, "the state before RL, then every checkpoint of RL"
    assert len(train.compute) == 17 and train.compute[0] == 1e9
    assert len(budget.compute) == 5 and len(votes.compute) == 6
    assert all((np.diff(series.compute) > 0).all() for series in (rl, train, budget, votes))
    assert found.votes == 8, "the largest budget at which all 32 samples were drawn"


def test_verdicts_on_runs_with_a_known_truth(saturated_study, straight_study):
    assert saturated_study.curve("rl").answer.verdict == "saturated"
    assert straight_study.curve("rl").answer.verdict == "not saturated"


def test_a_curve_keeps_its_series_forecast_and_answer(saturated_study):
    for curve in saturated_study.curves:
        assert curve.forecast is not None and curve.forecast.series is curve.series
        assert curve.answer.curve == curve.series.name and curve.answer.points == len(curve.series.compute)
        assert curve.series.values.shape == (len(curve.series.compute), 300)


def test_a_run_with_little_information_cannot_tell(tmp_path):
    run = write_run(tmp_path / "low", straight, rl=(1e10, 1e11, 1e12, 2e12), problems=30)
    assert study(run.path).curve("rl").answer.verdict == "cannot tell"


def test_states_are_before_middle_and_last(straight_study):
    found = straight_study
    compute = [float(found.outcomes.filter(checkpoint=name)["rl_flops"][0]) for name in found.states]
    assert compute[0] == 0 and compute[2] == found.outcomes["rl_flops"].max()
    assert compute[1] == pytest.approx(10**11.2, rel=0.01)


def test_a_run_without_a_complete_evaluation_says_so(tmp_path):
    run = write_run(tmp_path / "none", straight, rl=(1e10,), problems=3, budgets=(0,))
    for name in run.evaluation_names():
        run.evaluation_file(name).unlink()
    with pytest.raises(RecordError, match="no complete evaluation"):
        study(run.path)
