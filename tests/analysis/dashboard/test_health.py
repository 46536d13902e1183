"""RL health: how rows are thinned, what is drawn, and when an alarm is raised."""

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.dashboard import health
from analysis.dashboard.health import POINTS, alarms, charts, frame

HEALTHY = {
    "loss": 0.1, "grad_norm": 1.0, "reward": 0.5, "correct/2": 0.6, "correct/3": 0.4, "entropy": 0.5,
    "mismatch": 1e-6, "clip_fraction": 0.01, "kl": 0.0, "cut_fraction": 0.4, "slip_rate": 0.02,
    "think_tokens": 30.0, "tokens_per_second": 1e4,
}  # fmt: skip


def rows(steps: int = 60, first: int = 1, **metrics):
    """Rows of RL, as train.jsonl has them; a metric is a number or a function of the share of steps done."""
    found = []
    for i in range(steps):
        values = {
            name: value(i / max(steps - 1, 1)) if callable(value) else value
            for name, value in (HEALTHY | metrics).items()
        }
        flops = 10**9 * (i + 1)
        ledger = {"flops": {"rollout": flops}, "seconds": {"rollout": 0.5 * (i + 1), "compile": 2.0}}
        found.append({"step": first + i, "phase": "rl", "train_flops": flops, "rl_flops": flops, "ledger": ledger,
                      "metrics": values, "time": 0.0})  # fmt: skip
    return found


def held_out(*levels: float) -> pl.DataFrame:
    """Estimates of evenly spaced checkpoints, each ± .02."""
    return pl.DataFrame(
        [
            {"estimator": "mean", "budget": 8, "step": 10 * i, "rl_flops": 1e9 * 10 * i, "checkpoint": f"{i}",
             "accuracy": a, "lo95": a - 0.02, "hi95": a + 0.02}
            for i, a in enumerate(levels)
        ]
    )  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), min_size=1, max_size=3 * POINTS))
def test_thinning_keeps_extremes_mean_order_and_every_step(values):
    found = series(values)
    good = [v for v in values if v is not None]
    assert len(found) <= POINTS and found["step"].is_sorted() and found["step"][-1] == len(values)
    assert found["count"].sum() == len(values) and found["bad"].sum() == len(values) - len(good)
    if good:
        assert found["lo"].min() == min(good) and found["hi"].max() == max(good)
        weight = found["count"] - found["bad"]
        assert (found["mean"] * weight).sum() == pytest.approx(math.fsum(good), abs=1e-3)
    if len(values) <= POINTS:
        assert found["mean"].to_list() == values
    again = health.thin(found, 50)
    assert len(again) <= 50 and again["lo"].min() == found["lo"].min() and again["count"].sum() == len(values)


def series(values) -> pl.DataFrame:
    made = rows(len(values))
    for row, value in zip(made, values, strict=True):
        row["metrics"] = {"reward": value}
    return frame(made).filter(metric="reward")


def test_a_short_series_is_as_it_is():
    found = frame(rows(30, entropy=lambda t: t)).filter(metric="entropy")
    assert found["mean"].to_list() == found["lo"].to_list() == [i / 29 for i in range(30)]


def test_only_rl_counts_and_speed_is_of_the_ledger():
    first, *others = rows(21)
    found = frame([first | {"phase": "warm_start"}, *others])
    assert found["step"].min() == 2
    speed = found.filter(metric="flops_per_second")["mean"].to_numpy()
    np.testing.assert_allclose(speed, 1e9 / 0.5)


def test_a_kl_that_never_left_zero_was_not_measured_and_that_is_said():
    text = json.dumps(charts({"a": frame(rows())}).to_dict())
    assert "not measured: rl.kl is 0" in text
    assert "not measured" not in json.dumps(charts({"a": frame(rows(kl=lambda t: t))}).to_dict())


@pytest.mark.parametrize("axis", ["step", "rl_flops"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_table_of_a_chart_has_more_rows_than_altair_takes(axis, theme):
    run = frame(rows(900, reward=lambda t: math.sin(50 * t)))
    spec = charts({f"run {i}": run for i in range(9)}, axis, theme).to_dict()
    assert max(map(len, spec["datasets"].values())) <= health.MOST_ROWS


def test_nothing_recorded_is_said():
    assert "No step of RL" in json.dumps(charts({"a": frame([])}).to_dict())
    assert alarms(frame([])) == ()


def test_a_healthy_run_raises_no_alarm():
    assert alarms(frame(rows(entropy=lambda t: 0.5 - 0.4 * t)), held_out(0.2, 0.3, 0.4, 0.39)) == ()


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"entropy": lambda t: 0.5 * 10 ** (-3 * t)}, "Entropy collapsed"),
        ({"cut_fraction": 1.0}, "cuts 100.0% of the answers"),
        ({"mismatch": 0.3}, "Sampler and trainer differ"),
        ({"slip_rate": lambda t: 0.01 + 0.2 * t}, "False lines rise"),
        ({"grad_norm": lambda t: None if t > 0.9 else 1.0}, "Gradient norm not finite"),
        ({"loss": lambda t: math.nan if t == 0 else 1.0}, "Loss not finite: first by step 1, 1 times"),
    ],
)
def test_each_rule_fires_alone_on_its_own_trouble(metrics, words):
    (said,) = alarms(frame(rows(**metrics)))
    assert words in said


@pytest.mark.parametrize(
    "metrics",
    [
        {"entropy": lambda t: 0.5 - 0.47 * t},
        {"cut_fraction": 0.98},
        {"mismatch": 0.09},
        {"slip_rate": lambda t: 0.2 - 0.1 * t},
    ],
)
def test_each_rule_is_silent_short_of_its_threshold(metrics):
    assert alarms(frame(rows(**metrics))) == ()


def test_few_steps_have_no_start_and_no_end():
    assert alarms(frame(rows(10, cut_fraction=1.0))) == ()


def test_reward_that_rises_while_held_out_accuracy_falls_is_an_alarm_and_neither_alone_is():
    rising, flat = frame(rows(reward=lambda t: t)), frame(rows())
    falls, holds = held_out(0.2, 0.3, 0.4, 0.35, 0.3), held_out(0.2, 0.3, 0.4, 0.4, 0.39)
    (said,) = alarms(rising, falls)
    assert "held-out accuracy falls: 40.0% at step 20, 30.0% at step 40" in said
    assert alarms(rising, holds) == alarms(flat, falls) == alarms(rising, None) == ()
    assert alarms(rising, falls.clear()) == ()
