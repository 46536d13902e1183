"""What a curve's figure draws, read from its specification, and the files that it becomes."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_series import COMPUTE, bend, draw, line

from analysis.curve_plot import MOST, PAST, forecast_words, plot_curve, plot_curves, save, verdict
from analysis.drawing import round_step
from analysis.estimators import wilson
from analysis.fit import CurveFit, Fit, fit_series
from analysis.series import from_points


@pytest.fixture(scope="module")
def fits() -> dict[str, CurveFit]:
    items = np.full(len(COMPUTE), 400.0)
    made = {
        "flat": draw(bend(0.2, 0.6, 3e10, 1.5), problems=2000, name="flat"),
        "straight": draw(line(0.2, 0.08), zero=False, name="straight"),
        "error": from_points(COMPUTE, 0.8 - 0.08 * np.log10(COMPUTE / 1e10), "error", items, unit="tokens_seen"),
        "loss": from_points(COMPUTE, 2.1 + 900 * COMPUTE**-0.28, "loss"),
        "short": draw(line(0.2, 0.08), COMPUTE[:2], name="short"),
        "one": from_points(COMPUTE[:1], np.array([0.5]), "accuracy", np.array([20.0])),
    }
    return dict(zip(made, fit_series(list(made.values()), replicates=60), strict=True))


def spec(found: CurveFit, **options) -> dict:
    return plot_curve(found, **options).to_dict()


def rows(made: dict, column: str) -> list[dict]:
    return [row for table in made["datasets"].values() for row in table if column in row]


def axis(made: dict) -> dict:
    """The y of the first layer that has points."""
    return next(layer["encoding"]["y"] for layer in made["layer"] if layer["encoding"]["y"].get("axis"))


def title(made: dict) -> str:
    return " ".join(made["title"]["text"]).replace("\u00a0", " ")


def test_points_stand_at_their_values_with_wilson_s_intervals(fits):
    found = fits["straight"]
    drawn = {row["x"]: row for row in rows(spec(found), "lo95")}
    assert len(drawn) == len(COMPUTE)
    for compute, y, size in zip(COMPUTE, found.series.y, found.series.size, strict=True):
        row = drawn[math.log10(compute)]
        lo, hi = wilson(y, size)
        assert (row["value"], row["lo95"], row["hi95"]) == (pytest.approx(y), pytest.approx(lo), pytest.approx(hi))


def test_a_loss_has_no_intervals_and_no_percent(fits):
    made = spec(fits["loss"])
    assert all(row["lo95"] is None for row in rows(made, "lo95"))
    assert not any(layer["mark"].get("type") == "rule" and "lo95" in json.dumps(layer) for layer in made["layer"])
    assert "%" not in axis(made)["axis"]["format"] and axis(made)["title"] == "Loss"
    assert "of loss" in " ".join(made["title"]["subtitle"])


@pytest.mark.parametrize("past", [2.0, PAST, 100.0])
def test_bands_go_through_the_data_and_as_far_past_them_as_asked(fits, past):
    made = spec(fits["straight"], past=past)
    at = sorted({row["x"] for row in rows(made, "lo50")})
    assert at[0] == pytest.approx(math.log10(COMPUTE[0]))
    assert at[-1] == pytest.approx(math.log10(past * COMPUTE[-1]))
    dashed = next(x for x in made["layer"] if x["mark"].get("strokeDash") == [6, 4])
    start = min(row["x"] for row in made["datasets"][dashed["data"]["name"]])
    assert start == pytest.approx(math.log10(COMPUTE[-1]))


def test_a_past_of_one_or_less_is_refused(fits):
    with pytest.raises(ValueError, match="past: 1"):
        plot_curve(fits["straight"], past=1.0)


def test_everything_drawn_is_on_the_axis(fits):
    for name in ("flat", "straight", "error", "loss"):
        made = spec(fits[name])
        low, high = axis(made)["scale"]["domain"]
        values = [row[c] for c in ("value", "lo95", "hi95", "lo90", "hi90") for row in rows(made, c)]
        assert all(low <= v <= high for v in values if v is not None), name
        if name != "loss":
            assert 0 <= low < high <= 1
        assert 2 <= len(axis(made)["axis"]["values"]) <= 9


def test_the_asymptote_is_drawn_only_where_it_is_identified(fits):
    assert fits["flat"].answer.identified and not fits["straight"].answer.identified
    flat, straight = (json.dumps(spec(fits[name])) for name in ("flat", "straight"))
    assert "asymptote\\n" in flat and "asymptote\\n" not in straight


def test_the_state_before_any_compute_stands_apart_at_a_zero(fits):
    made = spec(fits["flat"])
    (start,) = {row["x"] for row in rows(made, "kind") if row["kind"] == "before"}
    assert start < 10 and any(layer["encoding"].get("text") == {"value": "0"} for layer in made["layer"])
    assert not any(row["kind"] == "before" for row in rows(spec(fits["straight"]), "kind"))


def test_points_of_an_earlier_regime_are_hollow_and_outside_the_bands(fits):
    found = fits["straight"]
    cut = replace(found, forecast=replace(found.forecast, posterior=replace(found.forecast.posterior, cut=4)))
    made = spec(cut)
    kinds = {row["x"]: row["kind"] for row in rows(made, "kind")}
    assert [kinds[x] for x in sorted(kinds)] == ["left out"] * 4 + ["used"] * 9
    assert min(row["x"] for row in rows(made, "lo50")) == pytest.approx(math.log10(COMPUTE[4]))
    assert any(layer["mark"].get("color") == "white" for layer in made["layer"])


def test_title_and_subtitle_say_the_verdict_the_next_10_and_the_items(fits):
    made = spec(fits["flat"])
    assert title(made) == f"flat: {verdict(fits['flat'].answer)}" and "saturated (probability" in title(made)
    below = " ".join(made["title"]["subtitle"])
    assert "next 10×" in below and "2000 items" in below and "bands 50% and 90%" in below
    assert "Compute (tokens seen)" in json.dumps(spec(fits["error"]))
    assert "points of error" in forecast_words(fits["error"].answer)


def test_an_error_that_falls_is_a_change_below_zero(fits):
    found = fits["error"].answer
    assert found.gain_10x.median > 0
    assert f"next 10×: {-100 * found.gain_10x.median:+.1f} points of error" in forecast_words(found)


@pytest.mark.parametrize("name", ["short", "one"])
def test_a_curve_that_was_not_fitted_shows_its_points_and_why(fits, name):
    made = spec(fits[name])
    assert not rows(made, "lo50") and "cannot tell" in title(made)
    assert "a fit needs 4" in " ".join(made["title"]["subtitle"])


def test_long_names_are_wrapped_and_not_cut(fits):
    name = "a very long name of a curve " * 6
    made = spec(replace(fits["straight"], series=replace(fits["straight"].series, name=name.strip())))
    assert len(made["title"]["text"]) > 2 and title(made).startswith(name.strip())


def test_a_grid_says_how_many_it_leaves_out(fits):
    few = plot_curves(Fit(tuple(fits.values()))).to_dict()
    assert len(few["concat"]) == len(fits) and "left out" not in json.dumps(few.get("title", ""))
    assert few["bounds"] == "flush", "panels stand in line whatever the height of their titles"
    many = plot_curves(Fit((fits["short"],) * (MOST + 3))).to_dict()
    assert len(many["concat"]) == MOST and "3 are left out" in json.dumps(many["title"])


def test_files_are_written_as_their_ending_says(fits, tmp_path):
    chart = plot_curve(fits["straight"])
    assert save(chart, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in save(chart, tmp_path / "a.svg").read_text()[:200]
    page = save(chart, str(tmp_path / "a.html")).read_text()
    assert len(page) < 2_000_000 and "straight" in page
    assert not re.search(r"<(script|link)[^>]*\b(src|href)\s*=", page), "nothing is fetched"
    with pytest.raises(ValueError, match=r"a\.pdf: a chart is written as"):
        save(chart, tmp_path / "a.pdf")


@given(span=st.floats(1e-6, 1e6), ticks=st.integers(3, 10))
def test_steps_are_round_and_few(span, ticks):
    step = round_step(span, ticks)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert any(mantissa == pytest.approx(k) for k in (1, 2, 5)) and span / step <= ticks * (1 + 1e-6)
    assert span / step >= ticks / 2.6
