"""What the charts draw, read from their specifications."""

import json

import pytest

from analysis import plots


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1e13, "1.0e13"), (9.97e9, "1.0e10"), (1.64e11, "1.6e11"), (3e100, "3.0e100")],
)
def test_flops_are_written_as_in_code(value, text):
    assert plots.flops(value) == text


def rows(spec: dict) -> list[dict]:
    return [row for table in spec["datasets"].values() for row in table]


def test_the_fit_is_drawn_one_decade_past_the_data_and_no_further(saturated_study):
    spec = plots.panels(saturated_study).to_dict()
    left = {row["x"] for row in rows({"datasets": {k: v for k, v in spec["datasets"].items() if "hi50" in v[0]}})}
    assert max(x for x in left if x > 12.6) == pytest.approx(12.4 + 1)


def test_the_state_before_rl_stands_left_of_the_first_point(saturated_study):
    spec = plots.panels(saturated_study).to_dict()
    start = [row for row in rows(spec) if row.get("rl_flops") == 0 and "way" not in row]
    assert start and all(row["x"] == pytest.approx(10 - plots.START_GAP) for row in start)


def test_an_asymptote_is_drawn_only_where_it_is_identified(saturated_study, straight_study):
    assert saturated_study.curve("rl").answer.identified and not straight_study.curve("rl").answer.identified
    assert "asymptote\\n" in json.dumps(plots.panels(saturated_study).to_dict())
    assert "asymptote\\n" not in json.dumps(plots.panels(straight_study).to_dict())


def test_the_verdict_is_in_the_title(saturated_study):
    assert "RL compute: saturated (probability" in json.dumps(plots.panels(saturated_study).to_dict())


def test_the_heat_map_has_a_cell_per_checkpoint_and_budget(saturated_study):
    cells = rows(plots.heatmap(saturated_study.estimates).to_dict())
    assert len(cells) == 17 * 5 == len({(row["train"], row["test"]) for row in cells})
