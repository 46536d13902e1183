"""Hide, forecast, compare: that nothing hidden is seen, and that the arithmetic of scores is right."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import calibration
from analysis.backtest import (
    HORIZONS,
    OURS,
    Backtest,
    Forecasts,
    Task,
    _interval_score,
    backtest,
    ours,
    overall,
    scores_of,
    summary,
    tasks,
)
from analysis.backtest import score as score_of
from analysis.peers import PEERS
from analysis.table import CANONICAL

SOURCES = ("alpha", "beta", "gamma")


def rows(source: str, curve: str, seed: int, split: bool = False, points: int = 16) -> list[dict]:
    rng = np.random.default_rng(seed)
    compute = 10 ** np.linspace(9, 12, points)
    truth = 0.1 + rng.uniform(0.4, 0.8) / (1 + (10 ** rng.uniform(10, 11.5) / compute) ** rng.uniform(0.4, 0.9))
    value = rng.binomial(300, truth) / 300
    return [
        {"source": source, "group": source[0], "curve": curve, "compute": c, "unit": "FLOPs", "metric": "accuracy",
         "value": v, "n": 300.0, "split": "holdout" if split and i >= points - 4 else "fit"}
        for i, (c, v) in enumerate(zip(compute, value, strict=True))
    ]  # fmt: skip


def frame(found: list[dict]) -> pl.DataFrame:
    return pl.DataFrame(found, schema=CANONICAL)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """Three sources of two curves; the last has its own split."""
    return frame([
        row for i, source in enumerate(SOURCES) for j in range(2)
        for row in rows(source, f"run {j}", 10 * i + j, split=source == "gamma")
    ])  # fmt: skip


@pytest.fixture(scope="module")
def found(table) -> Backtest:
    return backtest(table)


CELLS = {(s, f"{h}x") for s in SOURCES[:2] for h in HORIZONS} | {("gamma", "split")}


def test_a_row_for_every_cell_and_method(found):
    assert {(s, h) for s, h in found.table.select("source", "horizon").iter_rows()} == CELLS
    methods = {OURS, *PEERS}
    assert len(found.table) == len(CELLS) * len(methods)
    assert set(found.table["method"]) == set(found.overall["method"]) == methods
    assert found.table["curves"].to_list() == [2] * len(found.table)
    assert len(found.scores) == 2 * len(found.table)


def test_shares_are_shares_and_scores_are_positive(found):
    for frame_ in (found.table, found.overall, found.scores):
        covered = frame_.select(pl.selectors.starts_with("covered"))
        for column in covered.iter_columns():
            assert column.is_between(0, 1).all(), column.name
    assert (found.scores["covered50"] <= found.scores["covered90"]).all()
    for name in ("rmse", "rmsle", "seconds", "width90", "interval_score", "interval_score_widened"):
        assert (found.scores[name] >= 0).all() and found.scores[name].is_finite().all(), name
    assert (found.table["covered90_lo95"] <= found.table["covered90"]).all()
    assert (found.table["covered90"] <= found.table["covered90_hi95"]).all()


def test_a_widened_interval_covers_no_less(found):
    assert (found.scores["covered90_widened"] >= found.scores["covered90"]).all()
    mine = found.scores.filter(method=OURS)
    assert (mine["covered90_widened"] == mine["covered90"]).all(), "ours is calibrated as it is"


def test_ours_is_nearer_than_the_last_value(found):
    by = dict(found.overall.select("method", "rmsle_mean").iter_rows())
    assert by[OURS] < by["last value"]


def changed(table: pl.DataFrame) -> pl.DataFrame:
    """The same table, with other values past every tenth of the compute and in every holdout."""
    hidden = (pl.col("compute") > 10**11.01) if "gamma" not in table["source"] else (pl.col("split") == "holdout")
    return table.with_columns(value=pl.when(hidden).then(0.999 - pl.col("value") / 3).otherwise(pl.col("value")))


@pytest.mark.parametrize("split", [True, False])
def test_what_is_hidden_changes_scores_and_no_forecast(table, split):
    mine = table.filter((pl.col("source") == "gamma") == split)
    found, other = tasks(mine)[0], tasks(changed(mine))[0]
    keep = [i for i, t in enumerate(found) if t.horizon in ("split", "10x")]
    one, two = (ours([many[i] for i in keep]) for many in (found, other))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.quantiles, b.quantiles)
        assert (a.task.y != b.task.y).any()
        assert score_of(a).ratio.tolist() != score_of(b).ratio.tolist()


def test_a_table_of_its_own_split_is_split_there(table):
    found, left_out = tasks(table.filter(source="gamma"))
    assert [t.horizon for t in found] == ["split"] * 2 and not left_out
    for t in found:
        assert len(t.compute) == 4 and t.series.compute[-1] < t.compute.min()
        assert (t.n == 300).all() and (t.source, t.horizon) == ("gamma", "split") and t.group == "g"


def test_horizons_hide_what_they_say(table):
    found, _ = tasks(table.filter(source="alpha", curve="run 0"))
    assert [t.horizon for t in found] == ["2x", "4x", "10x"]
    for t, times in zip(found, HORIZONS, strict=True):
        last = t.compute.max()
        assert t.series.compute[-1] <= last / times * (1 + 1e-9) < t.compute.min()
        assert len(t.series.compute) + len(t.compute) == 16


def test_curves_without_a_continuation_are_named():
    short = frame(rows("alpha", "short", 0, points=4))
    found, left_out = tasks(short)
    assert not found and len(left_out) == 3 and "alpha, short, 2x: 3 points before it" in left_out[0]
    said: list[str] = []
    with pytest.raises(ValueError, match="no curve has 4 points before a continuation"):
        backtest(short, say=said.append)
    assert len(said) == 3
    nothing = frame([row | {"compute": 0.0} for row in rows("alpha", "none", 0, points=1)])
    assert tasks(nothing)[1] == ["alpha, none: no point with compute"]


def test_each_source_is_calibrated_without_itself(table):
    asked: list[str] = []

    def calibrate(source: str) -> calibration.Calibration:
        asked.append(source)
        return calibration.NONE

    found, _ = tasks(table.filter(curve="run 0"))
    ours(found, calibrate)
    assert sorted(asked) == sorted(t.source for t in found)


def test_scores_for_the_calibration_have_their_facts(table):
    scores, facts = scores_of(table.filter(source="gamma"))
    assert facts == {"gamma": {"curves": 2, "tasks": 2}}
    assert [s.source for s in scores] == ["gamma"] * 2
    for s in scores:
        assert (s.ratio >= 0).all() and len(s.ratio) == len(s.folds) == 4 and 0 <= s.weight <= 1


# Arithmetic ------------------------------------------------------------------------------------------------

points = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6)


@given(points)
def test_the_interval_score_is_a_plain_computation(found):
    lo, hi, y = (np.array(c) for c in zip(*[(min(a, b), max(a, b), c) for a, b, c in found], strict=True))
    plain = 0.0
    for one, two, value in zip(lo, hi, y, strict=True):
        plain += two - one
        if value < one:
            plain += 2 / 0.1 * (one - value)
        if value > two:
            plain += 2 / 0.1 * (value - two)
    assert _interval_score(lo, hi, y) == pytest.approx(plain / len(y))


@settings(deadline=None, max_examples=30)
@given(st.floats(0.0, 1.0), st.floats(0.01, 0.3), st.floats(0.01, 0.3))
def test_a_ratio_of_one_is_the_end_of_the_interval(middle, below, above):
    (task,) = tasks(frame(rows("gamma", "x", 0, split=True)))[0]
    quantiles = np.array([middle - below, middle, middle, middle, middle + above])[:, None] * np.ones(4)
    y = np.array([middle - below, middle + above, middle, middle + 2 * above])
    made = Forecasts(Task("s", "g", "c", "split", task.series, task.compute, y, task.n), "x", quantiles, 0.0)
    np.testing.assert_allclose(score_of(made).ratio, [1, 1, 0, 2], rtol=1e-6)


def test_overall_is_a_geometric_mean_over_cells():
    row = {"curve": "c", "method": "m", "rmse": 0.1, "covered50": 1.0, "covered90": 1.0, "covered90_widened": 1.0,
           "seconds": 1.0}  # fmt: skip
    made = pl.DataFrame([
        row | {"source": s, "horizon": "2x", "rmsle": e, "interval_score": e, "interval_score_widened": e}
        for s, errors in (("a", (0.1, 0.3)), ("b", (0.8, 0.8))) for e in errors
    ])  # fmt: skip
    cells = summary(made)
    assert cells["rmsle_mean"].to_list() == pytest.approx([0.2, 0.8])
    assert overall(cells)["rmsle_mean"][0] == pytest.approx(math.sqrt(0.2 * 0.8))
