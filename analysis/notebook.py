"""What the notebooks of `analysis/notebooks` share: where they look first, what they show, how they end.

Needs marimo (the extra dashboard).
"""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import marimo as mo
import polars as pl
import vl_convert

from analysis.drawing import PNG_SCALE, Chart, save
from analysis.fit import CurveFit, FitError
from analysis.load import find_runs
from analysis.quantities import points, signed
from analysis.table import TableError
from analysis.words import certainty, interval, value
from scaling.files import RecordError

RUNS = Path("runs")
OUT = "out"
"""The option of a script that names the file of its figure."""


def options(*names: str) -> dict[str, str]:
    """What the command line says, `--NAME VALUE` (after `--` where marimo reads it): "" for what it does not.

    Stops at an option that is neither named here nor `--out`.
    """
    given = {name: str(text) for name, text in mo.cli_args().to_dict().items()}
    known = dict.fromkeys((*names, OUT), "")
    listed = ", ".join(f"--{name}" for name in known)
    if wrong := [f"--{name}: unknown; known: {listed}" for name in given if name not in known]:
        stop("\n".join(wrong))
    return known | given


def newest_run() -> str:
    """The directory in `runs/` that was written to last; "" where it has none."""
    return _newest(_runs(RUNS))


def newest_sweep() -> str:
    """The folder of several runs in `runs/` that was written to last; "" where it has none."""
    folders = sorted(RUNS.iterdir()) if RUNS.is_dir() else []
    return _newest([folder for folder in folders if len(_runs(folder)) > 1])


def _runs(folder: Path) -> list[Path]:
    try:
        return find_runs([folder])
    except RecordError:
        return []


def _newest(paths: Sequence[Path]) -> str:
    return str(max(paths, key=lambda path: path.stat().st_mtime)) if paths else ""


def stop(problem: str) -> NoReturn:
    """Say what is wrong, a line each, and go no further: an app where its answer would stand, a script with exit
    code 2."""
    if _script():
        print(problem, file=sys.stderr)
        raise SystemExit(2)
    raise mo.MarimoStopError(mo.callout(lines(problem.splitlines()), kind="warn"))


@contextmanager
def refusing() -> Iterator[None]:
    """`stop` at what cannot be read, compared or fitted."""
    try:
        yield
    except (RecordError, TableError, FitError, OSError) as error:
        stop(str(error))


def finish(words: str, chart: Chart, out: str) -> None:
    """Of a script: print the answer; write the figure to the file `out` (.png, .svg, .html) unless that is ""."""
    if not _script():
        return
    print(words)
    if out:
        try:
            print(save(chart, out))
        except (ValueError, OSError) as error:
            stop(f"--{OUT} = {error}")


def _script() -> bool:
    return mo.app_meta().mode == "script"


# What an app shows -----------------------------------------------------------------------------------------


def lines(lines: Iterable[str]) -> mo.Html:
    """A line each, as they are: nothing in them is Markdown or HTML."""
    return mo.Html("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>")


def table(frame: pl.DataFrame) -> mo.Html:
    """A short table to be read, every row in sight."""
    cell = '<{0} style="text-align: left; padding: 2px 24px 2px 0">{1}</{0}>'
    head = "".join(cell.format("th", html.escape(name)) for name in frame.columns)
    body = ("".join(cell.format("td", html.escape(str(v))) for v in row) for row in frame.iter_rows())
    rows = "".join(f"<tr>{row}</tr>" for row in body)
    return mo.Html(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")


def picture(chart: Chart) -> mo.Html:
    """A chart as an image on white that shrinks with the window.

    As a live chart marimo would cut what is too wide, and write white on white in its dark theme.
    """
    png = vl_convert.vegalite_to_png(chart.to_dict(), scale=PNG_SCALE)
    width = int.from_bytes(png[16:20]) // PNG_SCALE
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    style = f"width: {width}px; max-width: 100%; height: auto; border-radius: 8px; margin: 8px 0"
    return mo.Html(f'<img src="{source}" alt="the figure" style="{style}">')


def summary(curves: Iterable[CurveFit]) -> pl.DataFrame:
    """A row a curve, as text; estimates with their 90% intervals."""
    rows = []
    for answer in (curve.answer for curve in curves):
        gain = points if answer.metric != "loss" else signed
        shown = interval(answer.asymptote, lambda y, answer=answer: value(answer, y))
        rows.append(
            {
                "curve": answer.curve,
                "verdict": answer.verdict,
                "probability": "" if answer.verdict == "cannot tell" else certainty(answer),
                "at the last point": interval(answer.now, lambda y, answer=answer: value(answer, y)),
                "gain of the next 10×": interval(answer.gain_10x, gain),
                "asymptote": shown if answer.identified else "not identified",
            }
        )
    return pl.DataFrame(rows)
