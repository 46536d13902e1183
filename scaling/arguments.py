"""The words of a command line, before a command reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def sound(args: Sequence[str]) -> Sequence[str]:
    """The words of a command. Raises ConfigError for what names nothing: an empty one, which pathlib takes for the
    folder one is in, and a null byte."""
    empty = "is empty; is a variable of the shell not set?"
    lines = [f"word {i} after scaling {empty}" for i, text in enumerate(args, 1) if not text]
    lines += [f"{text} {empty}" for text in args if re.fullmatch("--?[a-z_-]+=", text)]
    lines += [f"{text}: no name has a null byte" for text in args if "\0" in text]
    if lines:
        from scaling.structure import ConfigError

        raise ConfigError(lines)
    return args


def overridden(args: Sequence[str]) -> list[str]:
    """`--a.b=c`, as agents of W&B sweeps pass settings, becomes `--set a.b=c`."""
    given = []
    for text in args:
        name, equals, _ = text.partition("=")
        if equals and name.startswith("--") and _is_field(name[2:].partition(".")[0]):
            given += ["--set", text[2:]]
        else:
            given.append(text)
    return given


def _is_field(name: str) -> bool:
    from dataclasses import fields

    from scaling.config import Config

    return name in (f.name for f in fields(Config))
