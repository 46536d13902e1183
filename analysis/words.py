"""Answers in words: numbers, intervals, sentences, and the rows of a table."""

from __future__ import annotations

from collections.abc import Callable

from analysis.posterior import Posterior
from analysis.quantities import chance, percent, points, signed
from analysis.saturation import GAIN, Answer, Estimate
from analysis.settle import ENOUGH
from scaling.quantities import flops


def describe(found: Answer) -> str:
    """The verdict as a sentence."""
    if found.probability is None or found.now is None or found.gain_10x is None:
        return f"{found.curve}: cannot tell ({found.reason})."
    text = (
        f"{found.curve}: {found.verdict}"
        + (f" (probability {certainty(found)})" if found.verdict != "cannot tell" else "")
        + (", but it gets worse with compute" if found.worsens else "")
        + f". At {value(found, found.now.median)} now; the next 10× of compute is expected to "
        + _gain_words(found)
    )
    if found.identified and found.asymptote is not None:
        limit = found.asymptote
        return text + (
            f"; asymptote {value(found, limit.median)} ({value(found, limit.lo90)} to {value(found, limit.hi90)})."
        )
    return text + "; no asymptote is identified."


def plain(found: Answer, doing: str) -> str:
    """The answer of an accuracy as one sentence for who reads nothing else; doing: "training with …"."""
    gain, now = found.gain_10x, found.now
    if gain is None or now is None:
        return f"Whether {doing} is saturated cannot be told: {found.reason}."
    numbers = f"90% interval {points(gain.lo90)} to {points(gain.hi90)}"
    if found.verdict == "cannot tell":
        return (
            f"Whether {doing} is saturated cannot be told: from the {percent(now.median)} accuracy of now, ten "
            f"times its compute is expected to bring {points(gain.median)} points ({numbers})."
        )
    worse = ", and gets worse with compute" if found.worsens else ""
    return (
        f"{doing[0].upper()}{doing[1:]} is {found.verdict} (probability {certainty(found)}){worse}: ten times its "
        f"compute is expected to change accuracy from {percent(now.median)} by {points(gain.median)} points "
        f"({numbers})."
    )


def _gain_words(found: Answer) -> str:
    gain = found.gain_10x
    assert gain is not None
    numbers = f"{points(gain.median)} ({points(gain.lo90)} to {points(gain.hi90)})"
    if found.metric == "loss":
        numbers = f"{-(gain.median or 0):+.3g} ({-(gain.hi90 or 0):+.3g} to {-(gain.lo90 or 0):+.3g})"
        return f"change the loss by {numbers}"
    return f"{'add' if found.metric == 'accuracy' else 'take off'} {numbers} points"


def certainty(found: Answer) -> str:
    """Probability of the verdict that was given."""
    if found.probability is None:
        return "unknown"
    return chance(found.probability if found.verdict == "saturated" else 1 - found.probability)


def value(found: Answer, y: float | None) -> str:
    """A value of the curve: percent, or a loss as it is."""
    if found.metric == "loss":
        return "beyond" if y is None else f"{y:.3g}"
    return percent(y)


def rows(found: Answer, posterior: Posterior | None) -> list[tuple[str, str]]:
    """The numbers of an answer, with what they rest on, as (name, text). posterior: None if nothing was fitted."""
    out = []
    unit = "" if found.unit == "compute" else f" {found.unit}"
    if found.data_range is not None:
        low, high = map(flops, found.data_range)
        items = "no counts" if found.items is None else f"worth {found.items:.0f} items each"
        out.append(("data", f"{found.points} points, {items}, {low} to {high}{unit}"))
    if posterior is None or found.now is None or found.extrapolated_to is None:
        return out
    gain, gains = (points, " points") if found.metric != "loss" else (signed, "")
    if found.scatter:
        out.append(
            (
                "scatter of checkpoints",
                f"{gain(found.scatter).lstrip('+')}{gains} at 50%, beyond what counts explain",
            )
        )
    if posterior.cut and found.regime_from is not None:
        left = f"{posterior.cut} points before {flops(found.regime_from)}{unit} are left out"
        out.append(("earlier regime", f"{left}; log-evidence gained {posterior.cut_evidence:.1f}"))
    out.append((f"{found.metric} at the last point", interval(found.now, lambda y: value(found, y))))
    out.append(("gain from the next 2×", interval(found.gain_2x, gain) + gains))
    out.append(("gain from the next 10×", interval(found.gain_10x, gain) + gains))
    out.append(("  extrapolated to", f"{flops(found.extrapolated_to)}{unit}"))
    out.append((f"P(gain of 10× < {f'{GAIN:g}'.lstrip('0')})", f"{found.probability:.2f}"))
    asymptote = interval(found.asymptote, lambda y: value(found, y))
    out.append(("asymptote", asymptote if found.identified else f"not identified: {asymptote}"))
    out.append(("headroom", interval(found.headroom, gain) + gains))
    out.append(("share of the gain realised", interval(found.realised, percent)))
    out.append(("compute to 95% of asymptote", f"{interval(found.compute_95, flops)}{unit}"))
    out.append(("weight of each form", ", ".join(f"{name} {w:.2f}" for name, w in (found.weights or {}).items())))
    out.append(("belief in the forms at 10×", f"{found.belief:.2f} of the paths; the others believe none"))
    if found.settles:
        settling = [str(option) for option in found.settles if option.settles >= ENOUGH]
        most = max(found.settles, key=lambda option: option.settles)
        out.append(("would settle it", "; ".join(settling) or f"nothing that was tried; most likely {most}"))
    return out


def interval(estimate: Estimate | None, show: Callable[[float], str]) -> str:
    """Median and 90% interval of an estimate, each as `show` writes it; "" for none."""
    if estimate is None:
        return ""
    ends = (estimate.median, estimate.lo90, estimate.hi90)
    median, lo, hi = ("beyond" if end is None else show(end) for end in ends)
    return f"{median} ({lo} to {hi})"
