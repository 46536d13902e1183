"""Counts, FLOPs, times and bytes as people read them. Standard library only: `analysis` says them the same way."""

from __future__ import annotations


def how_many(count: int, thing: str) -> str:
    """1 run, 2 runs."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def flops(compute: float) -> str:
    """To two digits, as a config writes them and as charts can, few fonts having every superscript: 3.2e11."""
    if compute <= 0:
        return "0"
    mantissa, exponent = f"{compute:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float) -> str:
    """A time in two units: 45 s, 3 min 20 s, 2 h 05 min, 3 d 04 h."""
    whole = round(seconds)
    for unit, name, part, of in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // part:02d} {of}"
    return f"{whole} s"


def seconds(value: float) -> str:
    """A time in one unit, for columns and bars: 4.5 s, 3.3 min, 2.1 h, 1.5 d."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= unit:
            return f"{value / unit:.1f} {name}"
    return f"{value:.1f} s"


def size(count: float) -> str:
    """Bytes in the largest decimal unit that leaves a digit before the point: 12 kB, 3.4 GB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.3g} kB"
