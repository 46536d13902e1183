"""How well coverage is predicted far beyond the samples: thin real counts, predict, compare with all of them.

    python -m analysis.coverage_backtest FILE

FILE is a Parquet table with a row per model and problem: model, problem, samples, correct.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import gammaln

from analysis.arrays import Floats
from analysis.coverage import coverage, power_law
from analysis.estimators import wilson

FURTHER = 8
"""A model takes part if its counts reach at least this many times the samples that the prediction sees."""
FLOOR = 1 / 256
"""Log errors treat a coverage below this, half a problem of 128, as this."""


def evaluate(path: str | Path, at: int = 10_000, samples: int = 128, seed: int = 0) -> pl.DataFrame:
    """A row per model: predictions of its coverage at `k` from `samples` a problem, and the truth.

    k is `at`, or the fewest samples of any of the model's problems where that is less: the truth is then the
    unbiased pass@k of every problem. (Where a problem has fewer than k samples, 1 − (1 − c/n)^k would call it
    unsolvable for good when c = 0.) Models with k below `FURTHER` × `samples` are left out. Columns: model, k,
    seen (correct samples seen), truth; median, lo90, hi90, of the expected coverage; measured_lo90,
    measured_hi90, of the truth as it was measured, which near k = n is one draw; power, power_lo90, power_hi90.
    """
    rows = []
    table = pl.read_parquet(path).sort("model", "problem")
    for index, ((model,), group) in enumerate(table.group_by("model", maintain_order=True)):
        rng = np.random.default_rng([seed, index])
        n, c = (group[name].cast(pl.Int64).to_numpy() for name in ("samples", "correct"))
        k = min(at, int(n.min()))
        if k < FURTHER * samples:
            continue
        few = rng.hypergeometric(c, n - c, samples)
        fitted = coverage(np.full_like(n, samples), few, seed=seed)
        (lo, _, median, _, hi), power = fitted.predict([k])[0], power_law(np.full_like(n, samples), few, [k])[0]
        measured = _unbiased(n, few + rng.binomial(n - samples, fitted.rates), k).mean(1)
        lo_measured, hi_measured = np.quantile(measured, (0.05, 0.95))
        row = {"model": model, "k": k, "seen": int(few.sum()), "truth": float(_unbiased(n, c, k).mean())}
        row |= {"median": median, "lo90": lo, "hi90": hi}
        row |= {"measured_lo90": lo_measured, "measured_hi90": hi_measured}
        rows.append(row | dict(zip(("power", "power_lo90", "power_hi90"), power, strict=True)))
    return pl.DataFrame(rows)


def _unbiased(n: np.ndarray, c: np.ndarray, k: int) -> Floats:
    """pass@k as `estimators.pass_at_k`, by log-gamma: k is large here, and there are many c."""
    left = np.maximum(n - c, k)
    wrong = gammaln(left + 1) - gammaln(left - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return np.where(n - c < k, 1.0, -np.expm1(np.minimum(wrong, 0.0)))


def summary(frame: pl.DataFrame) -> dict[str, float]:
    """Errors and the share of truths in the 90% intervals, with its own 95% interval (Wilson's)."""
    truth = frame["truth"].to_numpy()
    out: dict[str, float] = {"models": float(len(frame))}
    for name, median, lo, hi in (
        ("ours", "median", "lo90", "hi90"),
        ("ours_measured", "median", "measured_lo90", "measured_hi90"),
        ("power", "power", "power_lo90", "power_hi90"),
    ):
        guess, low, high = (frame[column].to_numpy() for column in (median, lo, hi))
        inside = float(((low <= truth) & (truth <= high)).mean())
        log_error = np.abs(np.log(np.maximum(guess, FLOOR)) - np.log(np.maximum(truth, FLOOR)))
        out |= {f"{name}_rmse": float(np.sqrt(((guess - truth) ** 2).mean())), f"{name}_log": log_error.mean()}
        out |= {f"{name}_bias": float((guess - truth).mean()), f"{name}_width": float((high - low).mean())}
        out |= dict(zip((f"{name}_inside_lo", f"{name}_inside_hi"), wilson(inside, len(frame)), strict=True))
        out[f"{name}_inside"] = inside
    return out


def main(path: str) -> None:
    """Print the errors and coverages of all models, and of those of which a right sample was seen."""
    frame = evaluate(path)
    some = frame.filter(pl.col("seen") > 0)
    for title, part in (("all models", frame), ("models with a right sample seen", some)):
        print(title)
        for name, value in summary(part).items():
            print(f"  {name:24s} {value:8.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
