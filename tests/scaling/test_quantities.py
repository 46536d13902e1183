"""Quantities read back to the digits that they show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling import quantities

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


@given(st.floats(min_value=1e-30, max_value=1e30))
def test_flops_read_back_to_two_digits(compute):
    said = quantities.flops(compute)
    assert abs(float(said) / compute - 1) <= 0.05
    assert len(said.partition("e")[0]) == 3, "for a bar and a column to stand still"


def test_no_flops_are_0():
    assert quantities.flops(0) == "0"


@given(st.floats(min_value=0, max_value=1e8))
def test_a_duration_reads_back_to_its_lesser_unit(value):
    words = quantities.duration(value).split()
    read = sum(int(count) * SECONDS[unit] for count, unit in zip(words[::2], words[1::2], strict=True))
    assert 0 <= round(value) - read < SECONDS[words[-1]]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (273600, "3 d 04 h")],
)
def test_durations(value, text):
    assert quantities.duration(value) == text


@given(st.floats(min_value=0, max_value=1e8))
def test_seconds_read_back_to_a_tenth_of_their_unit(value):
    count, unit = quantities.seconds(value).split()
    assert abs(float(count) - value / SECONDS[unit]) <= 0.0501


@given(st.floats(min_value=1e3, max_value=9e14))
def test_sizes_read_back_to_three_digits(count):
    shown, unit = quantities.size(count).split()
    assert abs(float(shown) * BYTES[unit] / count - 1) <= 0.0051
