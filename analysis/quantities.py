"""Quantities as people read them. None, where an estimate may hold it, is "beyond" what is named."""

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


def seconds(value: float) -> str:
    """A time in one unit, for columns and bars: 4.5 s, 3.3 min, 2.1 h."""
    if value >= 3600:
        return f"{value / 3600:.1f} h"
    return f"{value / 60:.1f} min" if value >= 60 else f"{value:.1f} s"


def percent(share: float | None) -> str:
    """A share of 1: 45.2%."""
    return "beyond" if share is None else f"{100 * share:.1f}%"


def points(gain: float | None) -> str:
    """A difference of two shares, in percentage points: +3.1."""
    return "beyond" if gain is None else f"{100 * gain:+.1f}"


def signed(gain: float) -> str:
    """A difference of two losses: +0.0312."""
    return f"{gain:+.3g}"


def times(factor: float) -> str:
    """How many times as much: 14.2×, 3.1e4×."""
    return f"{factor:.3g}×" if factor < 1000 else f"{flops(factor)}×"


def chance(probability: float) -> str:
    """A probability; what is all but certain is not told apart."""
    if 0.01 <= probability <= 0.99:
        return f"{probability:.2f}"
    return "> 0.99" if probability > 0.5 else "< 0.01"
