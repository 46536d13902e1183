"""Shares, gains and chances as people read them. None, where an estimate may hold it, is "beyond"."""

from __future__ import annotations

from scaling.quantities import flops


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
