"""Plain data to frozen dataclasses and back: YAML, `a.b=c` overrides, and errors that name every bad field.

Nothing here knows the experiment. A field's documentation is the string literal below it.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import cattrs
import yaml
from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn

T = TypeVar("T")

LARGEST_FILE = 2**30
"""Characters of a file that is read whole; a device such as /dev/zero has no end."""
LONGEST_VALUE = 1000
"""Characters of one value in YAML: of text, and of a number, whose decimal digits Python prints only so far."""


class ConfigError(ValueError):
    """Values that cannot be used: a line for each problem, with path, value and what would be right."""

    def __init__(self, lines: Sequence[str]):
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), (self.lines,)


def structure(data: Mapping[str, Any], cls: type[T]) -> T:
    """The dataclass that plain data describes. Raises ConfigError with every unknown or wrong field."""
    try:
        return _converter().structure(data, cls)
    except cattrs.BaseValidationError as error:
        raise ConfigError(list(_describe(error, data, ""))) from None


@functools.cache
def _converter() -> cattrs.Converter:
    """cattrs with strict leaves: what is not plainly a value of the field's type is an error, not cast."""
    converter = cattrs.Converter()

    def structure_class(cls: type) -> Callable[[Any, Any], Any]:
        inner = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)

        def structure(value: Any, _: Any) -> Any:
            if not isinstance(value, Mapping):
                raise ValueError(f"must be a section with fields {', '.join(f.name for f in fields(cls))}")
            return inner(value, cls)

        return structure

    def structure_tuple(cls: Any) -> Callable[[Any, Any], Any]:
        item = get_args(cls)[0]

        def structure(value: Any, _: Any) -> Any:
            if not isinstance(value, list | tuple):
                raise ValueError("must be a list, such as [16, 32]" if item is int else "must be a list")
            return tuple(converter.structure(value, list[item]))

        return structure

    converter.register_structure_hook_factory(is_dataclass, structure_class)
    converter.register_structure_hook_factory(lambda cls: get_origin(cls) is tuple, structure_tuple)
    converter.register_structure_hook(int, lambda value, _: _whole(value))
    converter.register_structure_hook(float, lambda value, _: _number(value))
    converter.register_structure_hook(bool, lambda value, _: _typed(value, bool, "true or false"))
    converter.register_structure_hook(str, lambda value, _: _typed(value, str, "text (in quotes)"))
    return converter


def _number(value: Any) -> float:
    """A finite float; from text too, because YAML 1.1 reads 3e-4 and 1e13 as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("must be a finite number, such as 3e-4")
    return number


def _whole(value: Any) -> int:
    """An integer; also 1e3 or 32.0, where nothing is lost."""
    if isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            pass
    try:
        number = _number(value)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise ValueError("must be a whole number")
    return int(number)


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"must be {name}")
    return value


def _describe(error: BaseException, value: Any, path: str) -> Iterator[str]:
    """A line for each leaf of cattrs' tree of errors; `value` is what stood at `path`."""
    if isinstance(error, ForbiddenExtraKeysError):
        known = [f.name for f in fields(error.cl)]
        for name in sorted(error.extra_fields, key=str):
            yield f"{_join(path, name)} = {value[name]!r}: unknown field{hint(name, known)}"
    elif isinstance(error, cattrs.BaseValidationError):
        for inner in error.exceptions:
            here, part = path, value
            for note in getattr(inner, "__notes__", ()):
                if isinstance(note, AttributeValidationNote):
                    here, part = _join(path, note.name), value[note.name]
                elif isinstance(note, IterableValidationNote):
                    here, part = _join(path, note.index), value[note.index]
            yield from _describe(inner, part, here)
    else:
        yield f"{path} = {value!r}: {error}"


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def merge(old: Any, new: Any) -> Any:
    """Mappings merge field by field; everything else, lists included, is replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: merge(old.get(name), value) for name, value in new.items()}}
    return new


def override(data: Any, overrides: Sequence[str]) -> tuple[Any, list[str]]:
    """Plain data with `a.b=c` strings applied, and a line for each of them that could not be.

    The value is YAML, so `a=[1, 2]` sets a list; an item of a list is named by its position, as in `a.0=5`.
    """
    lines = []
    for text in overrides:
        path, equals, value = text.partition("=")
        try:
            if not equals or not path:
                raise ValueError("must read path=value, such as rl.flops=1e11")
            data = put(data, path.split("."), read_yaml(value))
        except ValueError as error:
            lines.append(f"{path or text}{equals and ' = '}{value}: {error}")
    return data, lines


def put(node: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of plain data with one place changed. Raises ValueError that says which places there are."""
    if not path:
        return merge(node, value)
    name, rest = path[0], path[1:]
    if isinstance(node, dict):
        if name not in node:
            raise ValueError(f"unknown field {name!r}{hint(name, node)}")
        return {**node, name: put(node[name], rest, value)}
    if isinstance(node, list | tuple):
        if not name.isdecimal() or int(name) >= len(node):
            raise ValueError(f"{name!r} is not a position in the list of {len(node)}, counted from 0")
        return [put(item, rest, value) if i == int(name) else item for i, item in enumerate(node)]
    raise ValueError(f"{name!r} stands below a single value")


def hint(name: Any, known: Iterable[str]) -> str:
    """The nearest known name, or all of them where none is near, as the end of a message."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(names))}"


def read_text(path: Path) -> str:
    """The text of a file. Raises OSError, or ValueError where it is no UTF-8 or longer than `LARGEST_FILE`."""
    with open(path, encoding="utf-8") as file:
        text = file.read(LARGEST_FILE + 1)
    if len(text) > LARGEST_FILE:
        raise ValueError(f"has more than {LARGEST_FILE:,} characters")
    return text


def read_yaml(text: str) -> Any:
    """Plain data from YAML text, safely. Raises ValueError with one line that says what is wrong with it."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError("not YAML that can be read: nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a repeated field is an error, where PyYAML would keep the last one silently.

    Aliases, by which a few lines stand for gigabytes, and values of more than `LONGEST_VALUE` characters are too.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "an alias is not taken; write the value out", mark)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if isinstance(node, yaml.ScalarNode) and len(node.value) > LONGEST_VALUE:
            text = f"a value of {len(node.value)} characters; at most {LONGEST_VALUE}"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value} is set twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def write_yaml(data: Mapping[str, Any]) -> str:
    """YAML with lists of plain values on one line and large floats as 1.0e+12."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Values that are one object in memory are written out each time: aliases are not read."""
        return True


def _represent_float(dumper: _Dumper, value: float) -> yaml.Node:
    if abs(value) < 1e6:
        return dumper.represent_float(value)
    mantissa, exponent = f"{Decimal(repr(value)).normalize():e}".split("e")
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"  # YAML 1.1 takes 1e+12 for text
    return dumper.represent_scalar("tag:yaml.org,2002:float", f"{mantissa}e{exponent}")


def _represent_sequence(dumper: _Dumper, values: Sequence[Any]) -> yaml.Node:
    plain = not any(isinstance(value, dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)


_Dumper.add_representer(float, _represent_float)
_Dumper.add_representer(list, _represent_sequence)
_Dumper.add_representer(tuple, _represent_sequence)


@dataclass(frozen=True)
class FieldDoc:
    path: str
    type: str
    default: Any
    doc: str


def field_docs(cls: Any, prefix: str = "") -> Iterator[FieldDoc]:
    """Every settable field with its type, default and the string literal that stands below it."""
    docs, hints, default = _docstrings(cls.__module__)[cls.__name__], get_type_hints(cls), cls()
    for f in fields(cls):
        path, kind = _join(prefix, f.name), hints[f.name]
        if is_dataclass(kind):
            yield from field_docs(kind, path)
            continue
        yield FieldDoc(path, str(f.type), getattr(default, f.name), docs[f.name])
        if get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
            yield from field_docs(get_args(kind)[0], f"{path}.0")


@functools.cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """Class name → field name → the string literal below the field, whitespace joined."""
    return {
        node.name: {
            above.target.id: " ".join(below.value.value.split())
            for above, below in itertools.pairwise(node.body)
            if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name)
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(below.value.value, str)
        }
        for node in ast.parse(inspect.getsource(sys.modules[module])).body
        if isinstance(node, ast.ClassDef)
    }
