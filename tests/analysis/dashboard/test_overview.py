"""The table of runs: progress from the records, search and order, and text that stays text."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.dashboard.overview import ORDER, SORTS, fields_that_vary, found, groups, ordered, progress, table
from analysis.dashboard.watch import Glance, Scene

FIELDS = {
    "rl.flops": 1e12,
    "schedule.points_per_decade": 4,
    "schedule.rl_first": 1e10,
    "schedule.train_points_per_decade": 1,
    "schedule.first": 1e9,
    "warm_start.stages": [{"steps": 30}, {"steps": 10}],
}


def row(step, phase="rl", rl=0, warm=10**10, seconds=0.0):
    ledger = {"flops": {"warm_start": warm, "rollout": rl}, "seconds": {"warm_start": 5.0, "rollout": seconds}}
    return {"step": step, "phase": phase, "phase_step": step, "train_flops": warm + rl, "rl_flops": rl,
            "ledger": ledger, "metrics": {}}  # fmt: skip


def run(name="a", **changes):
    return Glance(Path("runs", name), name, **{"state": "running", "fields": FIELDS, **changes})


def test_progress_of_rl_is_towards_its_flops_and_the_next_checkpoint_of_its_grid():
    rows = (row(1, rl=10**11, seconds=10.0), row(2, rl=2 * 10**11, seconds=30.0))
    at = progress(run(rows=rows))
    assert (at.phase, at.done, at.total, at.share) == ("rl", 2e11, 1e12, 0.2)
    assert math.isclose(at.threshold, 10**11.5)
    assert at.left == pytest.approx(8e11 / (1e11 / 20))
    assert (at.flops, at.seconds) == (2.1e11, 35)


def test_the_end_of_the_warm_start_is_estimated_from_its_steps_and_no_speed_is_no_time_left():
    at = progress(run(rows=(row(10, "warm_start", warm=10**10),)))
    assert (at.phase, at.total, at.threshold, at.left) == ("warm_start", 4e10, 4e10, None)


def test_a_threshold_is_never_past_the_end():
    at = progress(run(rows=(row(9, rl=9 * 10**11),)))
    assert at.threshold == at.total == 1e12


@pytest.mark.parametrize("lost", ["rl_flops", "ledger", "phase"])
def test_rows_of_another_format_have_no_progress_and_a_place_in_the_table(lost):
    odd = {key: value for key, value in row(1).items() if key != lost}
    assert progress(run(rows=(odd,))) is None and progress(run(rows=(row(1),), fields={})) is None
    assert "<td>a</td>" in table(Scene((run(rows=(odd,)),)))


RUNS = st.lists(
    st.builds(run, st.text(max_size=5), state=st.sampled_from(ORDER), verdict=st.text(max_size=3),
              rows=st.integers(0, 10**12).map(lambda flops: (row(1, rl=flops),)) | st.just(())),
    max_size=6,
)  # fmt: skip


@given(RUNS, st.sampled_from(SORTS))
def test_sorting_and_grouping_lose_no_run(runs, sort):
    again = ordered(runs, sort)
    assert sorted(map(id, again)) == sorted(map(id, runs))
    assert sum(len(members) for _, members in groups(again, "rl.flops")) == len(runs)
    known = [progress(one) is not None for one in again]
    if sort in ("progress", "FLOPs", "seconds"):
        assert known == sorted(known, reverse=True)


def test_what_needs_a_person_comes_first():
    runs = [run(state, state=state) for state in ("done", "running", "dead", "stalled")]
    assert [one.state for one in ordered(runs, "state")] == ["dead", "stalled", "running", "done"]


def test_a_filter_takes_words_of_the_name_the_state_and_the_fields():
    runs = [run("small-1", fields={"model.width": 32}), run("big", state="dead", fields={"model.width": 64})]
    for text, names in {"": "small-1 big", "model.width=64": "big", "SMALL running": "small-1", "no": ""}.items():
        assert " ".join(one.name for one in found(runs, text)) == names


def test_only_fields_that_differ_can_be_grouped_by():
    wide = run("b", fields=FIELDS | {"rl.flops": 2e12, "new": 1})
    assert set(fields_that_vary([run(), wide])) == {"rl.flops", "new"}
    assert fields_that_vary([run()]) == ()


@given(st.text(max_size=20), st.text(max_size=20))
def test_text_of_runs_never_becomes_markup(name, reason):
    hostile = f"<script>{name}</script>"
    one = replace(run(hostile), why=reason, damage=(f"<img src=x onerror={reason}>",), verdict="<b>")
    plain = table(Scene((run("x", why="y", damage=("z",), verdict="v"),)))
    tags = re.findall(r"<(/?\w+)", table(Scene((one,)), by="rl.flops"))
    assert set(tags) <= set(re.findall(r"<(/?\w+)", plain))
