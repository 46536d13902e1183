"""Verdicts on curves with a known truth."""

import numpy as np
import pytest
from synthetic_series import COMPUTE, bend, draw, line

from analysis.saturation import answer, describe


def test_a_flat_end_is_saturated_and_its_asymptote_identified():
    found, _ = answer("c", draw(bend(0.2, 0.6, 3e10, 1.5)))
    assert found.verdict == "saturated" and found.identified
    assert found.asymptote.lo90 - 0.03 < 0.6 < found.asymptote.hi90 + 0.03
    assert found.realised.median > 0.95 and abs(found.headroom.median) < 0.02
    assert found.compute_95.median < found.data_range[1]


def test_a_straight_line_is_not_saturated_and_has_no_asymptote():
    found, _ = answer("c", draw(line(0.2, 0.08)))
    assert found.verdict == "not saturated" and found.probability < 0.1
    assert found.gain_10x.lo90 - 0.01 < 0.08 < found.gain_10x.hi90 + 0.01
    assert found.gain_2x.median < found.gain_10x.median


def test_a_form_without_a_ceiling_identifies_none():
    """Where the line has nearly all weight, its end at 1 is no asymptote, however sure it is."""
    found, _ = answer("c", draw(line(0.1, 0.13), problems=4000, scatter=0.0))
    assert found.weights["log-linear"] > 0.95 and not found.identified


def test_the_lower_half_of_an_s_is_not_saturated_and_identifies_nothing():
    found, _ = answer("c", draw(bend(0.1, 0.9, 1e13, 1.0)))
    assert found.verdict == "not saturated" and not found.identified
    assert "not identified" in found.reason and "no asymptote is identified" in describe(found)


@pytest.mark.parametrize("truth", [line(0.2, 0.05), bend(0.2, 0.4, 3e10, 1.5)], ids=["rising", "flat"])
def test_little_information_gives_cannot_tell(truth):
    verdicts = [answer("c", draw(truth, COMPUTE[::4], problems=30, seed=s))[0].verdict for s in range(5)]
    assert verdicts.count("cannot tell") >= 4


def test_confident_verdicts_are_rarely_wrong():
    wrong = 0
    for seed in range(10):
        size = {"problems": 150, "scatter": 0.01, "seed": seed}
        wrong += answer("c", draw(line(0.2, 0.06), **size))[0].verdict == "saturated"
        wrong += answer("c", draw(bend(0.2, 0.5, 3e10, 1.5), **size))[0].verdict == "not saturated"
    assert wrong <= 1


def test_an_answer_says_what_it_rests_on():
    found, mixture = answer("c", draw(line(0.2, 0.08), problems=77))
    assert found.problems == 77 and found.points == 14 and mixture is not None
    assert found.data_range == (COMPUTE[0], COMPUTE[-1]) and found.extrapolated_to == 10 * COMPUTE[-1]
    assert sum(found.weights.values()) == pytest.approx(1)


def test_too_few_points_cannot_tell_and_say_why():
    found, mixture = answer("c", draw(line(0.2, 0.08), COMPUTE[:2]))
    assert found.verdict == "cannot tell" and mixture is None
    assert "2 points with compute" in describe(found)


def test_compute_to_95_percent_matches_the_formula():
    low, high, middle, power = 0.2, 0.6, 1e11, 1.0
    found, _ = answer("c", draw(bend(low, high, middle, power), 10 ** np.linspace(9, 13.5, 16), problems=4000))
    share = (0.95 * high - low) / (high - low)
    wanted = middle * (share / (1 - share)) ** (1 / power)
    assert found.compute_95.lo90 / 1.3 < wanted < found.compute_95.hi90 * 1.3
