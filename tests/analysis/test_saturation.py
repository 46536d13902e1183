"""Verdicts on curves with a known truth."""

import numpy as np
import pytest
from synthetic_series import COMPUTE, bend, draw, line

from analysis.fit import fit_series
from analysis.saturation import Answer, answer, decide, threshold
from analysis.series import from_points
from analysis.words import describe, plain

WIDE = 10 ** np.linspace(9, 13.5, 16)
SEEDS = range(10)


def error(c: float) -> float:
    return 1 - bend(0.2, 0.6, 3e10, 1.5)(c)


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    items = np.full(len(COMPUTE), 500.0)
    rng = np.random.default_rng(0)
    falling = 2.1 + 900 * COMPUTE**-0.28 * np.exp(0.003 * rng.standard_normal(len(COMPUTE)))
    steady = 2.5 * np.exp(0.003 * rng.standard_normal(len(COMPUTE)))
    made = {
        "flat": draw(bend(0.2, 0.6, 3e10, 1.5), problems=2000),
        "straight": draw(line(0.2, 0.08)),
        "endless": draw(line(0.1, 0.13), problems=4000),
        "lower half": draw(bend(0.1, 0.9, 1e13, 1.0)),
        "slow": draw(line(0.2, 0.02), problems=300),
        "wide": draw(bend(0.2, 0.6, 1e11, 1.0), WIDE, problems=4000),
        "of 77": draw(line(0.2, 0.08), problems=77),
        "short": draw(line(0.2, 0.08), COMPUTE[:2]),
        "error": from_points(COMPUTE, rng.binomial(500, [error(c) for c in COMPUTE]) / 500, "error", items),
        "loss": from_points(COMPUTE, falling, "loss"),
        "flat loss": from_points(COMPUTE, steady, "loss"),
        "little, rising": draw(line(0.2, 0.05), COMPUTE[::4], problems=30),
        "little, flat": draw(bend(0.2, 0.4, 3e10, 1.5), COMPUTE[::4], problems=30),
    }
    for seed in SEEDS:
        size = {"problems": 150, "scatter": 0.01, "seed": seed}
        made[f"rising {seed}"] = draw(line(0.2, 0.06), **size)
        made[f"level {seed}"] = draw(bend(0.2, 0.5, 3e10, 1.5), **size)
    fitted = fit_series(list(made.values()), replicates=100)
    return {name: found.answer for name, found in zip(made, fitted, strict=True)}


def test_a_flat_end_is_saturated_and_its_asymptote_identified(answers):
    found = answers["flat"]
    assert found.verdict == "saturated" and found.identified
    assert found.asymptote.lo90 - 0.03 < 0.6 < found.asymptote.hi90 + 0.03
    assert found.realised.median > 0.95 and abs(found.headroom.median) < 0.02
    assert found.compute_95.median < found.data_range[1]


def test_one_sentence_for_who_reads_nothing_else(answers):
    said = {name: plain(answers[name], "training with RL") for name in ("flat", "straight", "lower half", "short")}
    assert said["flat"].startswith("Training with RL is saturated (probability")
    assert said["straight"].startswith("Training with RL is not saturated (probability")
    assert "expected to change accuracy from" in said["straight"] and "90% interval +" in said["straight"]
    assert (
        said["short"] == "Whether training with RL is saturated cannot be told: " + answers["short"].reason + "."
    )


def test_a_straight_line_is_not_saturated(answers):
    found = answers["straight"]
    assert found.verdict == "not saturated" and found.probability < 0.1
    assert found.gain_10x.lo90 - 0.01 < 0.08 < found.gain_10x.hi90 + 0.01


def test_a_form_without_a_ceiling_identifies_none(answers):
    """Where the line has nearly all weight, its end at 1 is no asymptote, however sure it is."""
    found = answers["endless"]
    assert found.weights["log-linear"] > 0.9 and not found.identified
    assert "forms that have none weigh" in found.reason


def test_the_lower_half_of_an_s_is_not_saturated_and_identifies_nothing(answers):
    found = answers["lower half"]
    assert found.verdict == "not saturated" and not found.identified
    assert "not identified" in found.reason and "no asymptote is identified" in describe(found)


@pytest.mark.parametrize("name", ["little, rising", "little, flat", "slow"])
def test_little_information_gives_cannot_tell_and_what_would_settle_it(answers, name):
    found = answers[name]
    assert found.verdict == "cannot tell" and found.settles
    assert "between 0.1 and 0.9" in found.reason


def test_confident_verdicts_are_rarely_wrong(answers):
    wrong = sum(answers[f"rising {seed}"].verdict == "saturated" for seed in SEEDS)
    wrong += sum(answers[f"level {seed}"].verdict == "not saturated" for seed in SEEDS)
    assert wrong <= 1


def test_more_compute_gains_more(answers):
    """Of a curve whose every form rises; medians only, where the forecast may also fall."""
    for name in ("straight", "endless", "lower half", "wide", "loss", "error"):
        assert answers[name].gain_2x.median < answers[name].gain_10x.median


def test_gains_are_positive_where_an_error_or_a_loss_falls(answers):
    assert answers["error"].verdict == "saturated" and answers["error"].metric == "error"
    assert answers["error"].asymptote.median == pytest.approx(0.4, abs=0.05)
    loss = answers["loss"]
    assert loss.gain_10x.median > 0
    assert loss.now.median == pytest.approx(2.1 + 900 * COMPUTE[-1] ** -0.28, rel=0.01)
    assert "change the loss by -" in describe(loss) and "%" not in describe(loss)


def test_a_loss_is_judged_by_shares_of_itself(answers):
    assert answers["flat loss"].probability > 0.5 > answers["loss"].probability
    series = from_points(COMPUTE, np.full(len(COMPUTE), 5.0), "loss")
    assert threshold(series) == pytest.approx(0.1)


def test_an_answer_says_what_it_rests_on(answers):
    found = answers["of 77"]
    assert found.points == 14 and found.items > 77, "eight samples tell more than one"
    assert found.data_range == (COMPUTE[0], COMPUTE[-1])
    assert found.extrapolated_to == pytest.approx(10 * COMPUTE[-1])
    assert sum(found.weights.values()) == pytest.approx(1) and 0 <= found.belief <= 1
    assert answers["loss"].items is None and answers["loss"].belief < 1e-9, "no counts, no belief in the forms"
    assert "no counts are known" in answers["loss"].reason


def test_too_few_points_cannot_tell_and_say_why(answers):
    found = answers["short"]
    assert found.verdict == "cannot tell" and found.gain_10x is None
    assert "2 points with compute" in describe(found)
    one = from_points(COMPUTE[:1], np.array([0.5]), "accuracy", np.array([9.0]))
    assert answer(one, None, "a point").reason == "a point"


def test_compute_to_95_percent_matches_the_formula(answers):
    found = answers["wide"]
    share = (0.95 * 0.6 - 0.2) / (0.6 - 0.2)
    wanted = 1e11 * share / (1 - share)
    assert found.compute_95.lo90 / 1.3 < wanted < found.compute_95.hi90 * 1.3


@pytest.mark.parametrize(
    ("probability", "wanted"),
    [(1.0, "saturated"), (0.9, "saturated"), (0.5, "cannot tell"), (0.101, "cannot tell"), (0.0, "not saturated")],
)
def test_the_verdict_follows_the_definition(probability, wanted):
    assert decide(probability) == wanted


def test_a_curve_that_falls_has_nothing_to_gain_and_says_why():
    (found,) = fit_series([draw(lambda c: 0.6 - 0.08 * float(np.log10(max(c, 1e9) / 1e9)), problems=2000)])
    assert found.answer.verdict == "saturated" and found.answer.worsens
    assert "but it gets worse with compute" in describe(found.answer)
