"""Conditions mean what Python means by the same words, and nothing else can be said in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.conditions import compute, holds, parse

FIELDS = {"a.b": 3, "a.c": 0.5, "name": "rloo", "list.0": 7}
NUMBERS = st.one_of(
    st.integers(-9, 9).map(str),
    st.sampled_from([("a.b", "3"), ("a.c", "0.5"), ("list[0]", "7")]).map(lambda pair: pair[0]),
)
ARITHMETIC = st.recursive(
    NUMBERS,
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda part: f"({' '.join(part)})"),
    max_leaves=6,
)
COMPARED = st.tuples(ARITHMETIC, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), ARITHMETIC).map(" ".join)
CONDITIONS = st.recursive(
    COMPARED
    | st.sampled_from(["name in ['rloo', 'grpo']", "name not in ['dapo']", "name == 'rloo'", "1 < a.b < 9"]),
    lambda inner: (
        inner.map(lambda text: f"not ({text})")
        | st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})")
    ),
    max_leaves=6,
)


def reference(text: str) -> bool:
    """By Python itself, which here may see nothing but these texts."""
    for field, value in (("a.b", "3"), ("a.c", "0.5"), ("list[0]", "7"), ("name", "'rloo'")):
        text = text.replace(field, value)
    return eval(text, {"__builtins__": {}})


@given(CONDITIONS)
def test_a_condition_holds_where_python_says_so(text):
    assert holds(parse(text), FIELDS.__getitem__) is reference(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "__import__('os').system('true')",
            "a.b()",
            "(lambda: 1)()",
            "[x for x in a]",
            "f'{a}'",
            "a[b]",
            "a[0:2]",
        ),
        *("1 if a else 2", "{1: 2}", "a := 3", "a is b", "~a", "a @ b", "...", "b'x'", "1j", "3 +", "", "a; b"),
        *("(" * 300 + "1" + ")" * 300, "-" * 900 + "1", "1+" * 2000 + "1", "1" * 400, "not " * 200 + "a"),
    ],
)
def test_what_is_not_of_the_language_is_refused_in_one_line(text):
    with pytest.raises(ValueError) as refused:
        parse(text)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("9**9**9", "10.0**64**1 * 10.0**64 * 10**300", "1 / 0", "(-2) ** 0.5", "'a' * 3", "name < 3"),
        *("name in name", "1 and 2", "not 3", "-name"),
    ],
)
def test_what_has_no_value_says_why_in_one_line(text):
    with pytest.raises(ValueError) as refused:
        compute(parse(text), FIELDS.__getitem__)
    assert len(str(refused.value).splitlines()) == 1


def test_the_fields_of_an_expression_are_named_once_and_by_path():
    found = parse("a.b + stages[1].steps > a.b and not name == 'x'")
    assert sorted(found.fields) == ["a.b", "name", "stages.1.steps"]
