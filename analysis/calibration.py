"""How much wider than they think forecasts must be: a factor of reach, learned from other curves.

A forecast's own half-width of 90% is held against how far off it was; the factor is the 90% quantile of that ratio
among public curves at about the same reach (conformal prediction with a normalised score; Papadopoulos et al.
2002, Vovk et al. 2005). Every source weighs the same, and within it every curve. Factors are also learned
without each source, for a test on it.
`python -m analysis.calibration TABLE` makes the data file beside this module, and records itself and its input.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from analysis.arrays import Floats

FILE = Path(__file__).with_name("calibration.json")
COVERAGE = 0.9
REACHES = (1.5, 2.0, 3.0, 5.0, 10.0)
"""Times the last compute at which a factor is learned; constant outside, linear in the logarithm between."""
NEIGHBOURS = 0.5
"""E-folds of reach within which a forecast counts."""
UNLICENSED = ("o1_mini",)
"""Sources whose licence is not stated: nothing is learned from them."""


@dataclass(frozen=True)
class Calibration:
    """Factors on widths by how far a forecast reaches; without any, `NONE`, widths stay."""

    reaches: tuple[float, ...] = (1.0,)
    """Times the last compute, rising."""
    factors: tuple[float, ...] = (1.0,)

    def factor(self, folds: Floats) -> Floats:
        """Factor on widths at e-folds of compute from the last point."""
        return np.interp(folds, np.log(self.reaches), self.factors)


NONE = Calibration()


@dataclass(frozen=True)
class Score:
    """How far off a forecast was, over its own half-width of 90%; arrays [Q] over what it forecast."""

    source: str
    curve: str
    folds: Floats
    ratio: Floats
    weight: float = 1.0


def learn(scores: Sequence[Score], without: str | None = None) -> Calibration:
    """Factors by reach, from all sources but one. Raises ValueError where nothing is left."""
    scores = [s for s in scores if s.source != without]
    if not scores:
        raise ValueError("calibration: no forecast of another source to learn from")
    factors = []
    for reach in REACHES:
        ratios, weights, sources = [], [], []
        for s in scores:
            near = np.abs(s.folds - np.log(reach)) < NEIGHBOURS
            if near.any():
                ratios.append(s.ratio[near])
                weights.append(np.full(near.sum(), s.weight / near.sum()))
                sources += [s.source] * int(near.sum())
        if not ratios:
            factors.append(factors[-1] if factors else 1.0)
            continue
        ratio, weight, source = np.concatenate(ratios), np.concatenate(weights), np.array(sources)
        for name in set(sources):
            weight[source == name] /= weight[source == name].sum()
        order = np.argsort(ratio)
        below = np.cumsum(weight[order])
        factors.append(float(ratio[order][np.searchsorted(below, COVERAGE * below[-1])]))
    return Calibration(REACHES, tuple(factors))


def load(without: str | None = None) -> Calibration:
    """The factors that ship with the project, learned without a source where it was among those learned from."""
    found = json.loads(FILE.read_text())
    name = without if without in found["without"] else None
    return Calibration(tuple(found["reaches"]), tuple(found["without"][name] if name else found["factors"]))


def main(args: Sequence[str]) -> int:
    """Learn from a table of curves, their counts hidden, and write the data file."""
    from analysis.backtest import scores_of
    from analysis.table import read

    (path,) = args
    frame = read(path)[0]
    frame = frame.filter(~frame["source"].is_in(UNLICENSED)).with_columns(n=pl.lit(None, dtype=pl.Float64))
    scores, facts = scores_of(frame)
    sources = sorted({s.source for s in scores})
    result = learn(scores)
    text = {
        "command": "python -m analysis.calibration curves.csv.gz",
        "inputs": {Path(path).name: hashlib.sha256(Path(path).read_bytes()).hexdigest()},
        "sources": {name: facts[name] for name in sources},
        "reaches": result.reaches,
        "factors": [round(f, 4) for f in result.factors],
        "without": {name: [round(f, 4) for f in learn(scores, name).factors] for name in sources},
    }
    FILE.write_text(json.dumps(text, indent=1) + "\n")
    print(FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
