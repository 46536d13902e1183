"""The stopping rule: hopeless arms end, all others go on, and the backtest counts what it cost."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from synthetic_runs import saturated, straight, write_run
from synthetic_series import COMPUTE, bend, draw

from analysis.stopping import against_leader, decide, decide_series
from analysis.stopping_backtest import (
    SHARES,
    THRESHOLDS,
    Competition,
    choose,
    competition,
    competitions,
    play,
    text,
)

TARGET = 10 * COMPUTE[-1]


def arm(low, high, name, compute=COMPUTE, seed=0):
    return draw(bend(low, high, 6e10, 1.2), compute, shared=7, seed=seed, name=name, problems=256)


def test_a_hopeless_arm_ends_and_an_equal_one_goes_on():
    series = [arm(0.1, 0.3, "low", seed=1), arm(0.1, 0.8, "high", seed=2), arm(0.1, 0.8, "as high", seed=3)]
    decided = {d.arm: d for d in decide_series(series, TARGET, 0.05, replicates=100)}
    assert {name for name, d in decided.items() if d.stop} == {"low"}
    assert (decided["low"].probability or 0) < 0.05 and "with probability 0.0" in decided["low"].reason


def test_an_arm_that_cannot_be_forecast_goes_on_and_ends_no_other():
    series = [arm(0.1, 0.8, "short", COMPUTE[-3:]), arm(0.1, 0.3, "long")]
    short, long = decide_series(series, TARGET, 0.5, replicates=100)
    assert not short.stop and short.probability is None and "3 points" in short.reason
    assert not long.stop and long.reason.startswith("most likely best")


def test_runs_are_decided_on_by_what_is_evaluated(tmp_path):
    begun = write_run(tmp_path / "begun", straight, rl=(), problems=50, budgets=(8,)).path
    going = write_run(tmp_path / "going", saturated, problems=50, budgets=(8,)).path
    found = decide({"begun": [begun], "going": [going], "queued": []}, 1e13, 0.05)
    assert [(d.arm, d.stop) for d in found] == [("begun", False), ("going", False), ("queued", False)]
    assert "no checkpoint of RL is evaluated yet" in found[0].reason and found[2].reason == "no run yet"


@pytest.mark.parametrize(("target", "probability"), [(0, 0.05), (1e12, 0), (1e12, 1)])
def test_numbers_outside_their_range_are_refused(target, probability):
    with pytest.raises(ValueError, match="must be above 0"):
        decide({}, target, probability)


def test_of_many_equal_arms_none_is_hopeless():
    rng = np.random.default_rng(0)
    chances = against_leader({f"arm {i}": rng.normal(size=1000) for i in range(40)})
    assert min(list(chances.values())[1:]) > 0.4


# The backtest ----------------------------------------------------------------------------------------------


def played(ends, looks):
    levels = tuple({name: np.array(drawn) for name, drawn in look.items()} for look in looks)
    return Competition("lab", "one", ends, levels)


SURE = {"a": [0.1] * 100, "b": [0.5] * 100, "c": [0.1] * 50 + [0.2] * 50}


def test_an_ended_arm_saves_what_it_would_have_spent_and_stays_ended():
    found = play(played({"a": 0.1, "b": 0.4, "c": 0.2}, [SURE, SURE, SURE]), 0.05)
    assert (found.ended, found.lost, found.regret) == (1, False, 0)
    assert found.saved == pytest.approx((1 - SHARES[0]) / 3)


def test_an_ended_winner_is_counted_with_its_regret():
    found = play(played({"a": 0.3, "b": 0.2, "c": 0.4}, [{}, {}, SURE]), 0.05)
    assert found.lost and found.regret == pytest.approx(0.1)


def test_the_threshold_is_the_largest_that_loses_few_winners():
    right = played({"a": 0.1, "b": 0.4, "c": 0.2}, [SURE] * 3)
    wrong = played({"a": 0.3, "b": 0.2, "c": 0.4}, [SURE] * 3)
    assert choose([right] * 20) == THRESHOLDS[-1]
    assert choose([right] * 19 + [wrong]) == THRESHOLDS[-1]
    assert choose([right, wrong]) == 0 and choose([]) == 0
    assert choose([right] * 40 + [replace(wrong, source="other")]) == 0, "no source is lost for the sake of others"


def test_curves_of_one_data_set_compete():
    assert competition("lcdb11", "978|CatBoost", "CatBoost") == "978"
    assert competition("olmo_ladder", "190M-0.5xC|piqa_val", "190M") == competition(
        "olmo_ladder", "760M-0.5xC|piqa_val", "760M"
    )
    assert competition("revisiting_nsl", "IC|bird_10|BiT/50/1", "IC") == "IC|bird_10"
    assert competition("lab", "anything", "mine") == "mine"


def test_a_table_of_curves_whose_order_is_plain_saves_compute_and_loses_no_winner():
    rows = [{"source": "lab", "group": group, "curve": f"{group} {end}", "seed": None, "problem": None,
             "compute": float(c), "unit": "FLOPs", "metric": "error", "value": end + 0.3 * (c / 1e10) ** -0.5,
             "n": None, "successes": None, "split": "fit"}
            for group in ("x", "y") for end in (0.1, 0.5) for c in np.geomspace(1e10, 1e13, 25)]  # fmt: skip
    found = competitions(pl.DataFrame(rows, infer_schema_length=None))
    assert [c.name for c in found] == ["x", "y"]
    assert all(set(look) == {f"{c.name} 0.1", f"{c.name} 0.5"} for c in found for look in c.levels)
    outcomes = [play(one, 0.05) for one in found]
    assert not any(o.lost for o in outcomes) and all(o.saved > 0.2 for o in outcomes)
    assert "chosen on all sources" in text(found)
