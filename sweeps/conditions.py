"""Expressions over the fields of a config: `model.ff == 4 * model.width and rl.recipe in ["grpo", "rloo"]`.

Numbers, text, lists, fields by their path (an item of a list as `rl.budgets[0]`), + - * / // % **, comparisons,
in, and, or, not. They are parsed with Python's grammar and computed here, node by node; nothing is handed to
Python to run.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST, DEEPEST = 1000, 40
"""Characters of an expression, and operations within operations."""
LARGEST, LARGEST_POWER = 1e300, 64
"""Of any number that is computed, and of an exponent."""
ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
Lookup = Callable[[str], Any]


@dataclass(frozen=True)
class Expression:
    """A parsed expression of this language."""

    text: str
    tree: ast.expr
    fields: tuple[str, ...]
    """Paths of the fields that it names, each once."""


def parse(text: str) -> Expression:
    """Raises ValueError, in one line, for what is no expression of this language or too large a one."""
    if len(text) > LONGEST:
        raise ValueError(f"has {len(text)} characters; at most {LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"is not an expression ({getattr(error, 'msg', None) or error})") from None
    fields: dict[str, None] = {}
    open_nodes: list[tuple[ast.expr, int]] = [(tree, 1)]
    while open_nodes:
        node, depth = open_nodes.pop()
        if depth > DEEPEST:
            raise ValueError(f"is nested more than {DEEPEST} deep")
        path = _path(node)
        if path is not None:
            fields[path] = None
        else:
            open_nodes += [(part, depth + 1) for part in _parts(node)]
    return Expression(text, tree, tuple(fields))


def _path(node: ast.expr) -> str | None:
    """The field that a node names, if it names one."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=name):
            above = _path(inner)
            return None if above is None else f"{above}.{name}"
        case ast.Subscript(value=inner, slice=ast.Constant(value=int(place))) if not isinstance(place, bool):
            above = _path(inner)
            return None if above is None else f"{above}.{place}"
    return None


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """The expressions within one that is no field. Raises ValueError for a kind that the language lacks."""
    match node:
        case ast.Constant(value=bool() | str() | float()):
            pass
        case ast.Constant(value=int(number)) if abs(number) <= LARGEST:
            pass
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.BoolOp(values=items):
            yield from items
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=inner):
            yield inner
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            yield from (left, right)
        case ast.Compare(left=left, ops=ops, comparators=right) if not any(
            isinstance(op, ast.Is | ast.IsNot) for op in ops
        ):
            yield from (left, *right)
        case _:
            raise ValueError(f"has {ast.unparse(node)!r}, which is not of the language of conditions")


def compute(expression: Expression, lookup: Lookup) -> Any:
    """The value of an expression, its fields looked up by path. Raises ValueError, one line, where it has none."""
    try:
        return _value(expression.tree, lookup)
    except ArithmeticError as error:
        raise ValueError(f"cannot be computed ({error})") from None


def holds(expression: Expression, lookup: Lookup) -> bool:
    """Whether a condition is true. Raises ValueError where it has no value, or one that is not true or false."""
    return _truth(compute(expression, lookup))


def _value(node: ast.expr, lookup: Lookup) -> Any:
    path = _path(node)
    if path is not None:
        return lookup(path)
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return tuple(_value(item, lookup) for item in items)
        case ast.BoolOp(op=op, values=items):
            decides = isinstance(op, ast.Or)
            return decides if any(_truth(_value(i, lookup)) is decides for i in items) else not decides
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return not _truth(_value(inner, lookup))
        case ast.UnaryOp(op=op, operand=inner):
            number = _number(_value(inner, lookup))
            return -number if isinstance(op, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right):
            return _arithmetic(op, _number(_value(left, lookup)), _number(_value(right, lookup)))
        case ast.Compare(left=first, ops=ops, comparators=others):
            left = _value(first, lookup)
            for op, other in zip(ops, others, strict=True):
                right = _value(other, lookup)
                if not _compare(op, left, right):
                    return False
                left = right
            return True
    raise AssertionError(ast.dump(node))


def _arithmetic(op: ast.operator, left: float, right: float) -> float:
    if isinstance(op, ast.Pow) and abs(right) > LARGEST_POWER:
        raise ValueError(f"has the exponent {right}; at most {LARGEST_POWER}")
    result = ARITHMETIC[type(op)](left, right)
    if isinstance(result, complex) or not abs(result) <= LARGEST:
        raise ValueError(f"comes to {result:.3g}, which is no number that a field could take")
    return result


def _compare(op: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(op, ast.Eq | ast.NotEq):
        return (left == right) is isinstance(op, ast.Eq)
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(right, tuple):
            raise ValueError(f"looks for something in {right!r}, which is not a list")
        return (left in right) is isinstance(op, ast.In)
    if not (isinstance(left, str) and isinstance(right, str)):
        left, right = _number(left), _number(right)
    return ORDER[type(op)](left, right)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"takes {value!r} for a number")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"takes {value!r} for true or false")
    return value
