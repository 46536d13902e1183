"""How far a curve is from saturating: an answer in numbers, with what it rests on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import INTERVAL, Floats
from analysis.forecast import Forecast
from analysis.series import Series
from analysis.settle import Option, options

GAIN = 0.02
"""Of the next 10×, below which a curve is saturated: a share of 1, of the current loss for a loss."""
CERTAINTY = 0.9
"""Probability from which a verdict is given."""
IDENTIFIED = 0.25
"""Widest 90% interval, as a share of the metric's range (of the current loss), of an identified asymptote."""
SHARE = 0.95
"""Of the asymptote, whose compute is stated."""
FURTHEST = 6.0
"""Decades past the data up to which a compute is named; further it is "beyond"."""
DEFINITION = (
    f"Let D be what the next 10× of compute improves: accuracy or error by so many points, a loss by a share of "
    f"itself. Saturated: P(D < {GAIN}) ≥ {CERTAINTY}. Not saturated: P(D ≥ {GAIN}) ≥ {CERTAINTY}. Otherwise: "
    "cannot tell. P is the share of the forecast's paths: bootstrap replicates of all forms, weighted by evidence "
    "and by how well each predicted held-out continuations, and a guarded view that believes no form. An "
    f"asymptote counts as identified if its 90% interval is narrower than {IDENTIFIED} and at least {CERTAINTY} "
    "of the weight is on forms that have one."
)


@dataclass(frozen=True)
class Estimate:
    """Median and 90% interval; None where the value lies beyond what the answer names."""

    median: float | None
    lo90: float | None
    hi90: float | None

    @staticmethod
    def of(values: Floats) -> Estimate:
        """Of equally likely values [D]; what is infinite lies beyond."""
        lo, median, hi = (float(q) for q in np.quantile(values, INTERVAL, method="inverted_cdf"))
        return Estimate(*(None if math.isinf(q) else q for q in (median, lo, hi)))


@dataclass(frozen=True)
class Answer:
    """What one curve says. Values in the metric's own units, gains positive where the model gets better."""

    curve: str
    metric: str
    unit: str
    verdict: str
    """saturated, not saturated or cannot tell."""
    probability: float | None
    """P(D < GAIN): near 1 saturated, near 0 not."""
    definition: str
    reason: str
    """Why the program cannot tell, or what limits the answer; empty where nothing does."""
    points: int
    items: float | None
    """Coin flips that a point is worth, the median; None where no counts are known."""
    data_range: tuple[float, float] | None
    """Least (above 0) and greatest compute of the data."""
    regime_from: float | None
    """Compute of the first point of the regime that goes on; points before it are left out of the fits."""
    extrapolated_to: float | None
    """Greatest compute at which a gain is stated."""
    start: float | None
    """Measured value of the first point."""
    worsens: bool = False
    """Whether more compute makes it worse, which leaves nothing to gain and is no ceiling reached."""
    now: Estimate | None = None
    """Value of the curve at the last point."""
    asymptote: Estimate | None = None
    identified: bool = False
    headroom: Estimate | None = None
    """What is left to gain between the last point and the asymptote."""
    realised: Estimate | None = None
    """Share of the gain from start to asymptote that is realised now."""
    gain_2x: Estimate | None = None
    gain_10x: Estimate | None = None
    compute_95: Estimate | None = None
    """Compute at which 95% of the asymptote is reached (of an error or loss: 1/.95 of it)."""
    weights: dict[str, float] | None = None
    """Weight of each form."""
    belief: float | None = None
    """Share of the paths at 10× that are the posterior's; the others are the guarded view's."""
    scatter: float = 0.0
    """Standard deviation of a checkpoint about the curve beyond what the counts explain, at a level of ½."""
    settles: tuple[Option, ...] = ()
    """What would settle it, cheapest first; only where the verdict is cannot tell."""

    def as_dict(self) -> dict[str, Any]:
        """Every field as plain data, estimates as {median, lo90, hi90}."""
        return asdict(self)


def answer(series: Series, forecast: Forecast | None, reason: str = "") -> Answer:
    """How far a series is from saturating. Without a forecast (too few points) it cannot tell, for a reason."""
    inside = series.compute[series.inside]
    base = Answer(
        curve=series.name,
        metric=series.metric,
        unit=series.unit,
        verdict="cannot tell",
        probability=None,
        definition=DEFINITION,
        reason=reason,
        points=len(series.compute),
        items=float(np.median(series.size)) if series.counted and len(series.size) else None,
        data_range=(float(inside[0]), float(inside[-1])) if len(inside) else None,
        regime_from=None,
        extrapolated_to=10 * float(inside[-1]) if len(inside) else None,
        start=float(series.y[0]) if len(series.compute) else None,
        scatter=abs(series.factor) * series.scatter,
    )
    return base if forecast is None else replace(base, **_measure(series, forecast))


def _measure(series: Series, forecast: Forecast) -> dict[str, Any]:
    last = float(series.compute[-1])
    paths = forecast.paths(last * np.array([1.0, 2.0, 10.0]))
    scale = abs(series.factor)
    limit = forecast.limits()
    now = paths[:, 0]
    gain_2x, gain_10x = scale * (now - paths[:, 1]), scale * (now - paths[:, 2])
    probability = float(np.mean(gain_10x < threshold(series)))
    verdict = decide(probability)
    start = float(series.level[0])
    rise = start - limit
    with np.errstate(divide="ignore", invalid="ignore"):
        realised = np.where(np.abs(rise) > 1e-3, np.clip((start - now) / rise, 0.0, 1.0), 1.0)
    asymptote = Estimate.of(series.to_y(limit))
    width = (asymptote.hi90 or 0.0) - (asymptote.lo90 or 0.0)
    wide = width >= IDENTIFIED * (float(series.y[-1]) if series.metric == "loss" else 1.0)
    posterior = forecast.posterior
    endless = sum(fit.weight for fit in posterior.fits if fit.curve.limit is None)
    return {
        "verdict": verdict,
        "worsens": float(np.mean(gain_10x < 0)) >= CERTAINTY and float(np.median(gain_10x)) < -threshold(series),
        "probability": probability,
        "reason": _reason(series, forecast, verdict, probability, width, wide, endless),
        "regime_from": float(series.compute[posterior.cut]) if posterior.cut else None,
        "now": Estimate.of(series.to_y(now)),
        "asymptote": asymptote,
        "identified": not wide and endless <= 1 - CERTAINTY,
        "headroom": Estimate.of(scale * (now - limit)),
        "realised": Estimate.of(realised),
        "gain_2x": Estimate.of(gain_2x),
        "gain_10x": Estimate.of(gain_10x),
        "compute_95": Estimate.of(_compute_95(forecast, limit)),
        "weights": {fit.curve.name: fit.weight for fit in posterior.fits},
        "belief": float(forecast.belief(np.log([10.0]))[0]),
        "settles": options(forecast, threshold(series) / scale, CERTAINTY) if verdict == "cannot tell" else (),
    }


def threshold(series: Series) -> float:
    """The gain that counts as none, in the metric's own units."""
    return GAIN * (float(series.y[-1]) if series.metric == "loss" else 1.0)


def decide(probability: float) -> str:
    """The verdict by P(D < GAIN)."""
    return certain(probability, "saturated", "not saturated")


def certain(probability: float, yes: str, no: str) -> str:
    """`yes` or `no`, by the probability of `yes`; "cannot tell" where neither has `CERTAINTY`."""
    if probability >= CERTAINTY:
        return yes
    return no if 1 - probability >= CERTAINTY else "cannot tell"


def _reason(
    series: Series, forecast: Forecast, verdict: str, probability: float, width: float, wide: bool,
    endless: float,
) -> str:  # fmt: skip
    parts = []
    if verdict == "cannot tell":
        parts.append(f"P(D < {GAIN}) is {probability:.2f}, between {1 - CERTAINTY:.1f} and {CERTAINTY}")
    if wide:
        parts.append(f"the asymptote is not identified: its 90% interval spans {width:.2f}")
    elif endless > 1 - CERTAINTY:
        parts.append(f"the asymptote is not identified: forms that have none weigh {endless:.2f}")
    if not series.counted:
        parts.append("no counts are known, so noise is taken from the points' own scatter")
    for fit in forecast.posterior.fits:
        if fit.weight >= 0.05 and not fit.converged:
            parts.append(f"the {fit.curve.name} fit did not converge")
        elif fit.weight >= 0.05 and fit.starts_agreeing < 0.3 and fit.curve.name != "log-linear":
            parts.append(f"few starts of the {fit.curve.name} fit agree ({fit.starts_agreeing:.0%})")
    if not forecast.posterior.origins:
        parts.append("too few points to hold any out")
    return "; ".join(parts)


def _compute_95(forecast: Forecast, limit: Floats) -> Floats:
    """[D] least compute at which a path is at 95% of its limit; inf past the furthest decade."""
    series = forecast.series
    inside = series.compute[series.inside]
    grid = 10 ** np.arange(math.log10(inside[0]), math.log10(inside[-1]) + FURTHEST, 0.05)
    paths, end = series.to_y(forecast.paths(grid)), series.to_y(limit)[:, None]
    reached: NDArray[np.bool_] = paths >= SHARE * end if series.factor < 0 else paths <= end / SHARE
    return np.where(reached.any(-1), grid[np.argmax(reached, -1)], math.inf)
