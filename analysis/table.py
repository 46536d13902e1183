"""Anybody's table of points, read into the one form that is fitted; everything wrong with it is said at once.

A table has a row a point: `compute` (positive, any unit) and one of `accuracy`, `error`, `loss`, or the long
layout `metric` and `value`, or counts alone, `successes` and `n`. Optional: n (items behind the point),
successes, curve, seed, problem, split (fit or holdout), source, group, compute_unit. Other columns are ignored.

No row is dropped and no value changed without a `Note` that says so; what cannot be used is a `TableError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from analysis.series import MIN_POINTS
from analysis.table_files import LISTED, Note, Raw, TableError, error, is_table, load

__all__ = ["CANONICAL", "METRICS", "ORDER", "Note", "TableError", "check", "is_table", "read"]


METRICS = ("accuracy", "error", "loss")
SPLITS = ("fit", "holdout")
CANONICAL = {
    "source": pl.String,
    "group": pl.String,
    "curve": pl.String,
    "seed": pl.Int64,
    "problem": pl.String,
    "compute": pl.Float64,
    "unit": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "n": pl.Float64,
    "successes": pl.Float64,
    "split": pl.String,
}
"""Columns of the canonical frame, in order. n and successes are floats: averaged counts are fractional."""
CURVE = ("source", "curve")
"""What tells curves apart: the same name in two sources is two curves."""
POINT = ("source", "curve", "seed", "problem", "compute", "metric")
MEASURED = ("value", "n", "successes", "split")
ORDER = ("source", "curve", "seed", "compute", "problem")
EMPTY = ("", "nan", "-nan", "na", "n/a", "null", "none")
"""What programs write, in any case, where a number is missing."""
ROUNDING = 1e-9
"""How far arithmetic may carry a fraction past 0 or 1."""


def read(path: str | Path, x: str | None = None, y: str | None = None) -> tuple[pl.DataFrame, list[Note]]:
    """The canonical frame of a table file (`CANONICAL`, sorted by `ORDER`), and what there is to say about it.

    x: the column that is the compute, if not "compute"; y: "accuracy", "error" or "loss", or COLUMN:METRIC for
    a column of another name. Raises TableError for whatever makes the file unusable.
    """
    return check(load(path), x, y)


# Which column is what --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Choice:
    """Columns by use. `value` None: successes / n. `metric` None: the column "metric" says, row by row."""

    compute: str
    value: str | None
    metric: str | None
    only: str | None = None


def _choose(file: str, columns: Sequence[str], x: str | None, y: str | None) -> _Choice:
    wrong: list[Note] = []
    listed = ", ".join(columns[:12]) or "no column"

    def missing(names: Sequence[str], shown: str, option: str) -> None:
        folded = {column.casefold(): column for column in columns}
        close = [m for name in names for m in difflib.get_close_matches(name.casefold(), folded, 1)]
        has = f"the nearest is {folded[close[0]]!r}" if close else f"the table has {listed}"
        wrong.append(Note(file, None, shown, None, f"missing; {has}; another column is named by {option}"))

    compute = x or "compute"
    if compute not in columns:
        missing([compute], compute, "--x COLUMN")
    long, counts = {"metric", "value"} <= set(columns), {"successes", "n"} <= set(columns)
    found = [name for name in METRICS if name in columns] + (["value"] if long else [])
    column, _, metric = (y or "").rpartition(":") if y not in METRICS else (y, "", y)
    chosen = _Choice(compute, column, metric)
    if y is None:
        if len(found) > 1:
            text = f"has columns {', '.join(found)}: choose one by --y, as --y {found[0]}"
            wrong.append(Note(file, None, None, None, text))
        elif not found and not counts:
            missing(METRICS, "accuracy, error or loss", "--y COLUMN:accuracy (or :error, :loss)")
        name = found[0] if found else None
        chosen = _Choice(compute, name, "accuracy" if name is None else None if name == "value" else name)
    elif y == "value" and long:
        chosen = _Choice(compute, "value", None)
    elif metric not in METRICS or not column:
        text = f"y {y!r} is none of accuracy, error, loss, or COLUMN:METRIC such as 'val/acc:accuracy'"
        wrong.append(Note(file, None, None, None, text))
    elif column not in columns:
        if y == column and long:
            chosen = _Choice(compute, "value", None, only=metric)
        elif y == "accuracy" and counts:
            chosen = _Choice(compute, None, "accuracy")
        else:
            missing([column], column, f"--y COLUMN:{metric}")
    if wrong:
        raise TableError(map(str, wrong))
    return chosen


# Values ----------------------------------------------------------------------------------------------------


def _text(column: pl.Series) -> pl.Series:
    """Any column as stripped text; numbers that are whole without their ".0", which a gap above adds."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = column.cast(pl.Int64, strict=False)
        fits = whole.null_count() == column.null_count() and (whole.cast(column.dtype) == column).all()
        column = whole if fits else column
    if column.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null) or column.dtype.is_numeric():
        return column.cast(pl.String).str.strip_chars()
    return pl.Series(column.name, [None if v is None else str(v) for v in column], dtype=pl.String)


def _number(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The column as Float64 with null for what is missing, and a mask of the cells that are no number."""
    if column.dtype.is_numeric():
        number = column.cast(pl.Float64).fill_nan(None)
        return number, pl.repeat(False, len(column), eager=True)
    text = _text(column)
    number = text.cast(pl.Float64, strict=False).fill_nan(None)
    return number, number.is_null() & _given(text)


def _whole(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The same as Int64, not by way of a float, which would round long seeds."""
    text = _text(column)
    number = text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    return number, number.is_null() & _given(text)


def _given(text: pl.Series) -> pl.Series:
    return text.is_not_null() & ~text.str.to_lowercase().is_in(EMPTY).fill_null(True)


def _notes(
    raw: Raw, t: pl.DataFrame, column: str, mask: pl.Expr, text: str | pl.Expr, limit: int = LISTED
) -> list[Note]:
    """A note for each of the first `limit` rows of the mask, and one that counts the others."""
    found = t.filter(mask).select("at", text=pl.lit(text) if isinstance(text, str) else text)
    cells = raw.frame[column] if column in raw.frame.columns else pl.repeat(None, len(raw.frame), eager=True)
    notes = []
    for at, said in found.head(limit).iter_rows():
        shown = "empty" if cells[at] is None else str(cells[at]) or "empty"
        notes.append(Note(raw.file, raw.rows[at], column, shown, said))
    if len(found) > limit:
        rest = raw.rows[found["at"][limit:]]
        more = f"… and {len(rest)} more rows (from {rest.min()} to {rest.max()}), as {notes[0].text}"
        notes.append(Note(raw.file, None, column, None, more))
    return notes


def _typed(raw: Raw, choice: _Choice) -> tuple[pl.DataFrame, list[Note]]:
    """The rows in canonical columns, `at` their place in raw; then the cells that are no number."""
    frame, nothing = raw.frame, pl.repeat(None, len(raw.frame), dtype=pl.Null, eager=True)
    t = pl.DataFrame({"at": pl.int_range(len(frame), eager=True)})
    wrong: list[Note] = []
    numbers = {"compute": choice.compute, "value": choice.value} | {k: k for k in ("n", "successes", "seed")}
    for name, column in numbers.items():
        parse, text = (_whole, "not a whole number") if name == "seed" else (_number, "not a number")
        number, bad = parse(frame[column] if column in frame.columns else nothing)
        t = t.with_columns(number.alias(name), bad=bad)
        if column:
            wrong += _notes(raw, t, column, pl.col("bad"), text)
    labels = {"unit": "compute_unit"} | {k: k for k in ("source", "group", "curve", "problem", "metric", "split")}
    for name, column in labels.items():
        label = _text(frame[column] if column in frame.columns else nothing)
        t = t.with_columns(label.replace("", None).alias(name))
    if choice.metric:
        t = t.with_columns(metric=pl.lit(choice.metric, pl.String))
    if choice.value is None:
        t = t.with_columns(value=pl.when(pl.col("n") > 0).then(pl.col("successes") / pl.col("n")))
    return t.with_columns(pl.col("split").fill_null(SPLITS[0])), wrong


def _fractions(raw: Raw, t: pl.DataFrame, name: str, metric: str) -> tuple[pl.DataFrame, list[Note], list[Note]]:
    """The rows with one metric as fractions; then errors; then a note where they were percents.

    Percent is a scale of the whole column: most of what is not 0 is above 1, and no curve stays below it.
    """
    value, mine = pl.col("value"), pl.col("metric") == metric
    near = mine & value.is_between(-ROUNDING, 1 + ROUNDING)
    t = t.with_columns(value=pl.when(near).then(value.clip(0, 1)).otherwise(value))
    above, below = mine & value.is_between(1, 100, closed="right"), mine & value.is_between(0, 1, closed="right")
    text = f"{metric} is a fraction from 0 to 1, or a percent up to 100"
    outside = ~value.is_between(0, 100) & value.is_finite()
    errors = _notes(raw, t, name, mine & outside, text)
    percents, small = t.filter(above), t.filter(below & (value > 0))
    if percents.is_empty():
        return t, errors, []
    if len(percents) < len(small):
        text = f"{metric} is from 0 to 1, as most others in this column are"
        return t, errors + _notes(raw, t, name, above, text), []
    top = pl.when(mine).then(value).max().over(CURVE)
    text = "its whole curve is at most 1, but other curves are in percent: give all on one scale"
    errors += _notes(raw, t, name, below & (value > 0) & (top <= 1), text)
    t = t.with_columns(value=pl.when(mine).then(value / 100).otherwise(value))
    text = f"{metric} is taken as a percent, and all of this column divided by 100"
    return t, errors, _notes(raw, percents, name, pl.lit(True), text)[:1]


def _unusable(raw: Raw, t: pl.DataFrame, compute: str, value: str) -> list[Note]:
    """The cells that no reading makes sense of; what is outside of a fraction is found in `_fractions`."""
    c, v, n, k, metric = (pl.col(name) for name in ("compute", "value", "n", "successes", "metric"))
    known = metric.is_in(METRICS)
    share = pl.when(metric == "error").then(1 - k / n).otherwise(k / n)
    apart = metric.is_in(["accuracy", "error"]) & (n > 0) & k.is_between(0, n) & v.is_between(0, 1)
    checks: list[tuple[str, pl.Expr, str | pl.Expr]] = [
        (compute, c.is_infinite(), "infinite; compute is a finite number, of any unit"),
        (compute, c.is_finite() & (c < 0), "negative; compute is positive, of any unit"),
        (value, v.is_infinite() & c.is_not_null(), "infinite; give a finite number"),
        (value, (metric == "loss") & v.is_finite() & (v <= 0), "a loss is positive"),
        ("n", n.is_infinite() | (n <= 0), "n, the items behind the point, is positive and finite"),
        ("successes", (k < 0) | k.is_infinite() | (k > n), pl.format("successes are from 0 to n, here {}", n)),
        (value, apart & ((v - share).abs() > 0.5 / n + 1e-6), pl.format("but successes and n make it {}", share)),
        ("metric", v.is_not_null() & ~known.fill_null(False), "a metric is accuracy, error or loss"),
        ("split", ~pl.col("split").is_in(SPLITS), "a split is fit or holdout, or empty for fit"),
    ]
    return [note for column, mask, text in checks for note in _notes(raw, t, column, mask, text)]


def _mixed(raw: Raw, t: pl.DataFrame, label: str, column: str, advice: str) -> list[Note]:
    """Curves that have more than one metric, or unit, and so are not one curve."""
    t = t.with_columns(first=pl.col(label).drop_nulls().first().over(CURVE))
    text = pl.format(f"curve {{}} also has {label} {{}}; {advice}", "curve", "first")
    other = (pl.col(label) != pl.col("first")) & pl.struct(*CURVE, label).is_first_distinct()
    return _notes(raw, t, column, other, text)


def _repeated(raw: Raw, t: pl.DataFrame, compute: str) -> tuple[pl.DataFrame, list[Note]]:
    """The rows without second copies of one fact. Points that differ in anything measured are all kept."""
    point = pl.struct(POINT)
    twice = t.filter(point.is_duplicated()).with_columns(
        first=pl.col("at").first().over(POINT), kinds=pl.struct(MEASURED).n_unique().over(POINT)
    )
    twice = twice.filter(pl.col("at") != pl.col("first"))
    rows = raw.rows.gather(twice["first"]).alias("first")
    copies = pl.col("kinds") == 1
    twice = twice.with_columns(rows)
    notes = _notes(raw, twice, compute, copies, pl.format("the same point as row {}: counted once", "first"))
    text = pl.format("the point of row {} with another value: both kept, as repeated measurements", "first")
    notes += _notes(raw, twice, compute, ~copies, text, limit=1)
    return t.join(twice.filter(copies).select("at"), on="at", how="anti", maintain_order="left"), notes


def _short(raw: Raw, t: pl.DataFrame) -> list[Note]:
    """A note for each curve that has too few computes to be fitted."""
    mine = (pl.col("split") == SPLITS[0]) & (pl.col("compute") > 0)
    counts = t.group_by(CURVE, maintain_order=True).agg(computes=pl.col("compute").filter(mine).n_unique())
    few = counts.filter(pl.col("computes") < MIN_POINTS)
    text = f"distinct positive computes to fit, of at least {MIN_POINTS}: left out of fits"
    notes = [
        Note(raw.file, None, "curve", curve if source is None else f"{curve} ({source})", f"has {count} {text}")
        for source, curve, count in few.head(LISTED).iter_rows()
    ]
    if len(few) > LISTED:
        notes.append(Note(raw.file, None, "curve", None, f"… and {len(few) - LISTED} more curves, as the last"))
    return notes


def check(raw: Raw, x: str | None = None, y: str | None = None) -> tuple[pl.DataFrame, list[Note]]:
    """The canonical frame of a table as found, and its notes; see `read`. Raises TableError."""
    choice = _choose(raw.file, raw.frame.columns, x, y)
    notes: list[Note] = []
    if choice.only:
        other = (_text(raw.frame["metric"]) != choice.only).fill_null(True)
        text = f"{other.sum()} rows of another metric are left out, for --y {y}"
        notes += [Note(raw.file, None, "metric", None, text)] if other.any() else []
        raw = Raw(raw.file, raw.frame.filter(~other), raw.rows.filter(~other), raw.curve)
    if raw.frame.is_empty():
        raise error(raw.file, f"no rows{f' of metric {choice.only}' if choice.only else ''} below the header")
    compute, value = choice.compute, choice.value or "successes"
    t, wrong = _typed(raw, choice)
    unnamed = t["curve"].null_count()
    if 0 < unnamed < len(t):
        text = f"{unnamed} rows name no curve: taken together as curve {raw.curve}"
        notes.append(Note(raw.file, None, "curve", None, text))
    t = t.with_columns(pl.col("curve").fill_null(pl.lit(raw.curve)))
    for metric in METRICS[:2] if choice.value else ():
        t, errors, scaled = _fractions(raw, t, value, metric)
        wrong, notes = wrong + errors, notes + scaled
    wrong += _unusable(raw, t, compute, value)
    wrong += _mixed(raw, t, "metric", "metric", "choose one by --y")
    wrong += _mixed(raw, t, "unit", "compute_unit", "name the curves apart")
    if wrong:
        raise TableError(map(str, wrong))
    empty = {compute: pl.col("compute").is_null(), value: pl.col("value").is_null()}
    for column, mask in empty.items():
        notes += _notes(raw, t, column, mask, "no number: the row is left out")
    t = t.filter(~pl.any_horizontal(*empty.values()))
    if t.is_empty():
        raise TableError([*map(str, notes), str(Note(raw.file, None, None, None, "no row has a point"))])
    text = "the state before any compute; has no logarithm, so serves only as the curve's left end"
    notes += _notes(raw, t, compute, pl.col("compute") == 0, text, limit=1)
    t, repeats = _repeated(raw, t, compute)
    frame = t.select(pl.col(name).cast(dtype) for name, dtype in CANONICAL.items())
    return frame.sort(ORDER, maintain_order=True), [*notes, *repeats, *_short(raw, t)]
