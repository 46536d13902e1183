"""From a table of a curve to a verdict: how far is it from saturating, and what would settle it?

Without a path: an example, s1-32B's accuracy against thinking tokens, read off a figure of arXiv 2501.19393.

python analysis/notebooks/csv_verdict.py --path points.csv [--x tokens] [--y val_acc:accuracy] [--out curves.png]
marimo run analysis/notebooks/csv_verdict.py -- --path points.csv
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="From a table to a verdict")

with app.setup:
    from pathlib import Path

    import marimo as mo

    from analysis.curve_plot import plot_curves
    from analysis.fit import fit
    from analysis.load import gather
    from analysis.notebook import finish, lines, options, picture, refusing, summary, table
    from analysis.saturation import DEFINITION
    from analysis.words import describe

    EXAMPLE = Path(__file__).with_name("s1.csv")
    SOURCE = (
        "The example is s1-32B's accuracy against thinking tokens under budget forcing, read off a figure of "
        "arXiv 2501.19393: the counts are exact, the tokens nearly so."
    )


@app.cell(hide_code=True)
def _():
    given = options("path", "x", "y")
    path = mo.ui.text(given["path"] or str(EXAMPLE), label="Table", full_width=True)
    x = mo.ui.text(given["x"], placeholder="compute", label="Column of compute")
    y = mo.ui.text(given["y"], placeholder="val_acc:accuracy", label="Column of values, and what they are")
    title = mo.md("""
    # From a table to a verdict

    How far is a curve from saturating? A table (CSV, TSV, Parquet, JSON lines) has a row a point: `compute` in any
    unit, `accuracy`, `error` or `loss`, and `n`, the items behind a point, where that is known.
    """)
    mo.vstack([title, path, mo.hstack([x, y], justify="start")])
    return given, path, x, y


@app.cell
def _(path, x, y):
    with refusing():
        frame, notes = gather([path.value], x.value or None, y.value or None)
        found = fit(frame)
    sentences = [SOURCE] if path.value == str(EXAMPLE) else []
    sentences += [*map(str, notes), *(describe(curve.answer) for curve in found.curves)]
    lines(sentences)
    return found, frame, sentences


@app.cell
def _(found):
    figure = plot_curves(found)
    mo.vstack([picture(figure), table(summary(found.curves))])
    return (figure,)


@app.cell
def _(found, frame):
    mo.accordion(
        {
            "What would settle it": lines(
                f"{curve.series.name}: {option}" for curve in found.curves for option in curve.answer.settles
            ),
            "Every number (a polars frame)": found.saturation(),
            "Every point (a polars frame)": frame,
            "What saturated means": mo.plain_text(DEFINITION),
        }
    )
    return


@app.cell
def _(figure, given, sentences):
    finish("\n".join(sentences), figure, given["out"])
    return


if __name__ == "__main__":
    app.run()
