"""Completions to read: what was recorded, in order, found by its words, and text that stays text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from analysis.dashboard.completions import MOST, choose, completions, page


def row(problem, budget, text, *, correct=False, answer="7", answers=(("8", 1, True),)):
    shown = {"prompt": f"ask {problem}", "text": text, "answer": answer, "correct": correct, "stopped": True}
    return {"problem": problem, "budget": budget, "answers": [list(a) for a in answers], "shown": shown}


SHOWN = {"00000020": [row(1, 8, "b <answer> 7"), row(0, 8, "c <answer> 8", correct=True, answer="8")],
         "00000010": [row(0, 8, "a  bb"), row(0, 0, "<answer> 7")]}  # fmt: skip


def test_a_problems_history_is_together():
    places = [(one.problem, one.budget, one.checkpoint) for one in completions(SHOWN)]
    assert places == sorted(places) and len(places) == 4


def test_a_text_is_thinking_and_an_answer():
    last = completions(SHOWN)[-1]
    assert (last.prompt, last.thinking, last.rest, last.expected) == ("ask 1", "b", "7", "8")


def test_rows_of_another_format_are_left_out():
    odd = [{"shown": {}}, {"problem": 0, "budget": 0, "shown": {"text": 1}}, {"text": "x", "problem": "no"}]
    assert completions({"a": [*odd, row(0, 0, "x")]}) == completions({"a": [row(0, 0, "x")]})


def test_a_choice_takes_words_place_and_verdict():
    every = completions(SHOWN)
    assert [one.text for one in choose(every, "A  BB")] == []
    assert [one.text for one in choose(every, "ask 1")] == ["b <answer> 7"]
    assert [one.text for one in choose(every, verdict="right")] == ["c <answer> 8"]
    assert {one.checkpoint for one in choose(every, checkpoint="00000020", budget=8)} == {"00000020"}
    assert len(choose(every, problem=0, verdict="wrong")) == 2


def test_a_page_says_how_many_it_leaves_out():
    every = completions({"a": [row(problem, 0, "x") for problem in range(MOST + 3)]})
    assert page(every).count('class="card"') == MOST and "3 more" in page(every)


@given(st.text(max_size=40), st.text(max_size=10))
def test_what_a_model_wrote_never_becomes_markup(text, answer):
    hostile = row(0, 0, f"<script>{text}</script><answer><b>{answer}", answer=f"<i>{answer}")
    found = completions({"<u>": [hostile]})
    tags = set(re.findall(r"<(/?\w+)", page(found)))
    assert tags <= {tag for name in ("div", "dl", "dt", "dd", "b", "small", "span") for tag in (name, f"/{name}")}
