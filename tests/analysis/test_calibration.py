"""Factors on widths: what is learned, and what ships."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import calibration
from analysis.calibration import COVERAGE, NONE, REACHES, UNLICENSED, Calibration, Score, learn, load


def scores(source: str, scale: float, count: int = 400, seed: int = 0, weight: float = 1.0) -> list[Score]:
    """Forecasts whose errors are `scale` times as wide as they think: a normal's, over its own half-width."""
    rng = np.random.default_rng(seed)
    folds = np.log(np.array(REACHES))
    ratio = np.abs(rng.standard_normal((count, len(folds)))) * scale / 1.645
    return [Score(source, f"{source} {i}", folds, row, weight) for i, row in enumerate(ratio)]


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(scale=st.floats(0.3, 5.0), seed=st.integers(0, 99))
def test_the_factor_gives_the_stated_coverage_on_other_curves(scale, seed):
    learned = learn(scores("a", scale, 2000, seed))
    for i, s in enumerate(REACHES):
        tested = np.array([t.ratio[i] for t in scores("b", scale, 2000, seed + 100)])
        covered = np.mean(tested <= learned.factor(np.log([s]))[0])
        assert covered == pytest.approx(COVERAGE, abs=0.03)


@given(by=st.floats(0.1, 10))
@settings(deadline=None, max_examples=10)
def test_factors_go_with_the_errors(by):
    plain = learn(scores("a", 1.0, 53))
    np.testing.assert_allclose(learn(scores("a", by, 53)).factors, by * np.array(plain.factors))


def test_a_source_is_left_out_whole():
    both = [*scores("calm", 1.0), *scores("wild", 6.0)]
    assert learn(both, "wild") == learn(scores("calm", 1.0))
    assert learn(both, "calm") == learn(scores("wild", 6.0))
    assert learn(both, "wild").factors[0] < learn(both).factors[0] < learn(both, "calm").factors[0]


def test_sources_weigh_the_same_and_within_them_curves():
    many = [*scores("calm", 1.0, 2000), *scores("wild", 6.0, 100)]
    few = [*scores("calm", 1.0, 100), *scores("wild", 6.0, 100)]
    np.testing.assert_allclose(learn(many).factors, learn(few).factors, rtol=0.35)
    # A curve of many points counts as one.
    folds = np.full(1000, math.log(2))
    long = Score("a", "long", folds, np.full(1000, 50.0))
    short = [Score("a", f"short {i}", folds[:1], np.array([1.5])) for i in range(20)]
    assert learn([long, *short]).factor(np.log([2.0]))[0] == 1.5


def test_a_weight_of_nothing_counts_for_nothing():
    calm, wild = scores("a", 1.5, 403), scores("a", 9.0, 403, weight=1e-12)
    np.testing.assert_allclose(learn([*calm, *wild]).factors, learn(calm).factors)


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="no forecast of another source"):
        learn(scores("a", 1.0), "a")
    with pytest.raises(ValueError, match="no forecast of another source"):
        learn([])


def test_a_reach_without_forecasts_has_its_neighbours_factor():
    near = [Score("a", str(i), np.log([1.5]), np.array([3.0])) for i in range(10)]
    assert learn(near).factors == (3.0,) * len(REACHES)


@given(st.floats(-3, 12))
def test_factors_are_linear_between_and_constant_outside(folds):
    c = Calibration((2.0, 8.0), (1.0, 3.0))
    found = float(c.factor(np.array([folds]))[0])
    share = (folds - math.log(2)) / math.log(4)
    assert found == pytest.approx(1 + 2 * min(max(share, 0.0), 1.0))
    assert NONE.factor(np.array([folds]))[0] == 1


# What ships ------------------------------------------------------------------------------------------------


def test_the_file_says_what_it_was_learned_from():
    found = json.loads(calibration.FILE.read_text())
    assert found["sources"] and not set(found["sources"]) & set(UNLICENSED)
    assert found["without"].keys() == found["sources"].keys()
    for facts in found["sources"].values():
        assert facts["curves"] > 0 and facts["tasks"] >= facts["curves"] / 2
    (digest,) = found["inputs"].values()
    assert re.fullmatch("[0-9a-f]{64}", digest)
    (name,) = found["inputs"]
    assert found["command"].endswith(name) and "/" not in found["command"]
    for factors in (found["factors"], *found["without"].values()):
        assert len(factors) == len(found["reaches"]) and min(factors) > 0
    assert found["reaches"] == sorted(found["reaches"])


def test_a_source_that_was_learned_from_is_loaded_without_itself():
    found = json.loads(calibration.FILE.read_text())
    assert load() == load("nowhere") == Calibration(tuple(found["reaches"]), tuple(found["factors"]))
    for source, factors in found["without"].items():
        assert load(source).factors == tuple(factors)


def test_the_file_is_made_from_a_table(tmp_path, monkeypatch, capsys):
    """Two licensed sources, one that is not: it is not learned from, and the input is recorded by its hash."""
    rows = ["source,curve,compute,accuracy,n"]
    for source in ("a", "b", UNLICENSED[0]):
        for curve in range(2):
            rng = np.random.default_rng(curve)
            rows += [
                f"{source},{curve},{10 ** (9 + i / 4)},{0.2 + 0.03 * i + 0.01 * rng.standard_normal():.4f},100"
                for i in range(12)
            ]
    table = tmp_path / "points.csv"
    table.write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(calibration, "FILE", tmp_path / "calibration.json")
    assert calibration.main([str(table)]) == 0
    found = json.loads((tmp_path / "calibration.json").read_text())
    assert found["sources"] == {s: {"curves": 2, "tasks": 6} for s in ("a", "b")}
    assert found["inputs"].keys() == {"points.csv"}
    assert load("a").factors == tuple(found["without"]["a"])
