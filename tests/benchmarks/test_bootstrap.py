"""That both sides of the benchmark do the same work."""

import json

import numpy as np
import pytest

from analysis.search import search
from benchmarks import Row, __main__, faster, interleaved
from benchmarks.bootstrap import PEERS, asked_by_posterior, curve_of, disagreement, sigmoid_problems


@pytest.fixture(scope="module")
def problems():
    return sigmoid_problems(curve_of(), 10)


@pytest.mark.parametrize("peer", PEERS)
def test_both_sides_reach_the_same_optima(problems, peer):
    ours, its = problems.ours().loss, PEERS[peer](problems)
    assert disagreement(problems, ours, its) == (0, 0)
    np.testing.assert_allclose(ours, its, atol=1e-3)


def test_problems_are_every_replicate_from_every_start(problems):
    assert problems.start.shape == (40, 4)
    assert (problems.e[:4] == problems.e[0]).all() and (problems.e[4] != problems.e[0]).any()
    assert len(np.unique(problems.start, axis=0)) == 4


def test_padding_is_left_out_of_what_scipy_sees():
    asked = asked_by_posterior(curve_of(), 4)
    assert [p.curve.name for p in asked[:5]] == [p.curve.name for p in asked[5:]]
    assert all(len(p) == 4 for p in asked[5:])
    p = asked[7]
    some = p.chosen(np.array([2, 3]))
    assert p.u.shape[1] == 32 and some.u.shape == (2, 14)
    again = search(p.curve, some.u, some.e, some.size, some.mean, some.sd, some.start)
    np.testing.assert_allclose(again.loss, p.ours().loss[2:], atol=1e-6)


def test_disagreement_counts_curves_and_not_starts(problems):
    ours = problems.ours().loss
    its = ours.copy()
    its[:3] += 1.0  # Another start of the same replicate still finds the optimum.
    its[4:8] += 1.0
    assert disagreement(problems, ours, its) == (0, 0.1)


def test_runs_are_interleaved_after_a_warm_up():
    order = []
    ours, peer = interleaved(lambda: order.append("ours"), lambda: order.append("peer"), repetitions=3)
    assert order == ["ours", "peer"] * 4
    assert ours >= 0 and peer >= 0
    assert faster("x", 2.0, 8.0, "s", "").ratio == 4


@pytest.fixture
def one(monkeypatch):
    row = Row("one", 1.0, 30.0, 30.0, "s", "what was done")
    monkeypatch.setattr(__main__, "pin", lambda: None)
    monkeypatch.setattr(__main__, "registry", lambda: {"one": lambda: [row], "two": lambda: [row, row]})


def test_rows_are_printed_as_json(one, capsys):
    assert __main__.main(["two", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2
    assert rows[0] == {
        "name": "one", "ours": 1.0, "peer": 30.0, "ratio": 30.0, "unit": "s", "note": "what was done",
    }  # fmt: skip


def test_all_are_run_where_none_is_named(one, capsys):
    assert __main__.main([]) == 0
    shown = capsys.readouterr().out
    assert shown.count("what was done") == 3


def test_an_unknown_name_is_refused_with_those_there_are(one, capsys):
    with pytest.raises(SystemExit):
        __main__.main(["three"])
    assert "no benchmark three; there are one, two" in capsys.readouterr().err


def test_the_registry_has_what_is_documented():
    known = list(__main__.registry())
    assert known[:2] == ["bootstrap", "families"]
    assert known[2:] == ["peak", "train_step", "sampling", "grid_tokens"]
