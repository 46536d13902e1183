"""How far a curve is from saturating: an answer in numbers, with what it rests on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fit import FitError, Mixture, Series, fit

GAIN = 0.02
CERTAINTY = 0.9
IDENTIFIED = 0.25
FURTHEST = 6.0
"""Decades past the data up to which a compute is named; further it is "beyond"."""
INTERVAL = (0.05, 0.5, 0.95)
DEFINITION = (
    f"Let D be the accuracy that the next 10× of compute adds. Saturated: P(D < {GAIN}) ≥ {CERTAINTY}. "
    f"Not saturated: P(D ≥ {GAIN}) ≥ {CERTAINTY}. Otherwise: cannot tell. P pools the bootstrap replicates "
    "of all forms, each form weighted by how well it predicted the last points when they were held out. An "
    f"asymptote counts as identified only if its 90% interval is narrower than {IDENTIFIED} and at least "
    f"{CERTAINTY} of the weight is on forms that have one; the others end at 1, or at 0 where they fall."
)


@dataclass(frozen=True)
class Estimate:
    """Median and 90% interval; None where the value lies beyond what the answer names."""

    median: float | None
    lo90: float | None
    hi90: float | None


@dataclass(frozen=True)
class Answer:
    """What one curve says. Accuracies in [0, 1], compute in FLOPs."""

    curve: str
    """Which curve this is, in words."""
    verdict: str
    """saturated, not saturated or cannot tell."""
    probability: float | None
    """P(D < GAIN): near 1 saturated, near 0 not."""
    definition: str
    reason: str
    """Why the program cannot tell, or what limits the answer; empty where nothing does."""
    points: int
    problems: int
    data_range: tuple[float, float] | None
    """Least (above 0) and greatest compute of the data."""
    extrapolated_to: float | None
    """Greatest compute at which a gain is stated."""
    start: float | None
    """Measured accuracy of the first point."""
    now: Estimate | None = None
    """Fitted accuracy at the last point."""
    asymptote: Estimate | None = None
    identified: bool = False
    headroom: Estimate | None = None
    """Asymptote minus accuracy now."""
    realised: Estimate | None = None
    """Share of the gain from start to asymptote that is realised now."""
    gain_2x: Estimate | None = None
    gain_10x: Estimate | None = None
    compute_95: Estimate | None = None
    """Compute at which accuracy reaches 95% of the asymptote; None is beyond 10^FURTHEST times the data."""
    weights: dict[str, float] | None = None
    """Weight of each form."""
    scatter: float = 0.0
    """Standard deviation of a checkpoint about the curve beyond what the problems explain."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def answer(name: str, series: Series, seed: int = 0) -> tuple[Answer, Mixture | None]:
    """Fit a series and say how far it is from saturating, with the fits (None where points are too few)."""
    inside = series.compute[series.compute > 0]
    start = float(series.means[0]) if len(series.compute) else None
    base = Answer(
        curve=name,
        verdict="cannot tell",
        probability=None,
        definition=DEFINITION,
        reason="",
        points=len(series.compute),
        problems=series.values.shape[1],
        data_range=(float(inside[0]), float(inside[-1])) if len(inside) else None,
        extrapolated_to=10 * float(inside[-1]) if len(inside) else None,
        start=start,
    )
    try:
        mixture = fit(series, seed=seed)
    except FitError as error:
        return replace(base, reason=str(error)), None
    return replace(base, **_measure(series, mixture)), mixture


def _measure(series: Series, mixture: Mixture) -> dict[str, Any]:
    last, start = float(series.compute[-1]), float(series.means[0])
    curves = mixture.predict(last * np.array([1.0, 2.0, 10.0]))
    now, gain_2x, gain_10x = curves[..., 0], curves[..., 1] - curves[..., 0], curves[..., 2] - curves[..., 0]
    limit = asymptotes(mixture)
    rise = limit - start
    with np.errstate(divide="ignore", invalid="ignore"):
        realised = np.where(rise > 1e-3, np.clip((now - start) / rise, 0.0, 1.0), 1.0)
    asymptote = _estimate(mixture, limit)
    width = (asymptote.hi90 or 0.0) - (asymptote.lo90 or 0.0)
    saturated = mixture.share(gain_10x < GAIN)
    verdict = "saturated" if saturated >= CERTAINTY else "cannot tell"
    verdict = "not saturated" if 1 - saturated >= CERTAINTY else verdict
    bounded = sum(w for f, w in zip(mixture.fits, mixture.weights, strict=True) if f.curve.asymptote is not None)
    return {
        "verdict": verdict,
        "probability": saturated,
        "reason": _reason(mixture, verdict, saturated, width, bounded),
        "now": _estimate(mixture, now),
        "asymptote": asymptote,
        "identified": width < IDENTIFIED and bounded >= CERTAINTY,
        "headroom": _estimate(mixture, limit - now),
        "realised": _estimate(mixture, realised),
        "gain_2x": _estimate(mixture, gain_2x),
        "gain_10x": _estimate(mixture, gain_10x),
        "compute_95": _estimate(mixture, _compute_95(mixture, series, limit)),
        "weights": {f.curve.name: w for f, w in zip(mixture.fits, mixture.weights, strict=True)},
        "scatter": mixture.scatter,
    }


def _reason(mixture: Mixture, verdict: str, saturated: float, width: float, bounded: float) -> str:
    parts = []
    if verdict == "cannot tell":
        parts.append(f"P(D < {GAIN}) is {saturated:.2f}, between {1 - CERTAINTY:.1f} and {CERTAINTY}")
    if width >= IDENTIFIED:
        parts.append(f"the asymptote is not identified: its 90% interval spans {width:.2f}")
    elif bounded < CERTAINTY:
        parts.append(f"the asymptote is not identified: weight {1 - bounded:.2f} is on forms without one")
    parts += [f"the {f.curve.name} fit did not converge" for f in mixture.fits if not f.converged]
    if any(f.held_out_rmse is None for f in mixture.fits):
        parts.append("too few points to hold any out, so the forms have equal weights")
    return "; ".join(parts)


def asymptotes(mixture: Mixture) -> NDArray[np.float64]:
    """[F, R] limit of accuracy; a form without an asymptote ends at 1, or at 0 where it falls."""
    limits = []
    for found in mixture.fits:
        if found.curve.asymptote is None:
            ends = found.predict(found.last * np.array([1.0, 10.0]))
            limits.append((ends[:, 1] >= ends[:, 0]).astype(np.float64))
        else:
            limits.append(found.curve.asymptote(found.replicates))
    return np.stack(limits)


def _compute_95(mixture: Mixture, series: Series, limit: NDArray) -> NDArray[np.float64]:
    """[F, R] least compute at which the curve is at 95% of its limit; inf past the furthest decade."""
    inside = series.compute[series.compute > 0]
    grid = 10 ** np.arange(math.log10(inside[0]), math.log10(inside[-1]) + FURTHEST, 0.05)
    reached = mixture.predict(grid) >= 0.95 * limit[..., None]
    return np.where(reached.any(-1), grid[np.argmax(reached, -1)], math.inf)


def _estimate(mixture: Mixture, values: NDArray) -> Estimate:
    lo, median, hi = (float(q) for q in mixture.quantiles(values, INTERVAL))
    keep = [None if math.isinf(q) else q for q in (median, lo, hi)]
    return Estimate(*keep)


def describe(found: Answer) -> str:
    """The verdict as a sentence."""
    if found.probability is None or found.now is None or found.gain_10x is None:
        return f"{found.curve}: cannot tell ({found.reason})."
    gain = found.gain_10x
    text = (
        f"{found.curve}: {found.verdict}"
        + (f" (probability {certainty(found)})" if found.verdict != "cannot tell" else "")
        + f". At {percent(found.now.median)} now; the next 10× of compute is expected to add "
        f"{points(gain.median)} ({points(gain.lo90)} to {points(gain.hi90)}) points"
    )
    if found.identified and found.asymptote is not None:
        limit = found.asymptote
        return text + f"; asymptote {percent(limit.median)} ({percent(limit.lo90)} to {percent(limit.hi90)})."
    return text + "; no asymptote is identified."


def certainty(found: Answer) -> str:
    """Probability of the verdict that was given."""
    if found.probability is None:
        return "unknown"
    chance = found.probability if found.verdict == "saturated" else 1 - found.probability
    return "> 0.99" if chance > 0.99 else f"{chance:.2f}"


def percent(value: float | None) -> str:
    return "beyond" if value is None else f"{100 * value:.1f}%"


def points(value: float | None) -> str:
    return "beyond" if value is None else f"{100 * value:+.1f}"
