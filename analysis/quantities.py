"""Quantities as people read them."""

from __future__ import annotations


def flops(compute: float) -> str:
    """1.6e12: in charts as in code, because few fonts have every superscript."""
    return "0" if compute <= 0 else f"{compute:.1e}".replace("e+", "e").replace("e0", "e")


def duration(seconds: float) -> str:
    """A time in two units: 45 s, 3 min 20 s, 2 h 05 min, 3 d 04 h."""
    whole = round(seconds)
    for unit, name, part, of in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // part:02d} {of}"
    return f"{whole} s"
