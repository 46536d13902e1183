"""The o1 figure of a run: accuracy against train compute and against test compute, and how far both can rise.

python analysis/notebooks/o1_figure.py --path runs/demo-s0 --out o1.png
marimo run analysis/notebooks/o1_figure.py -- --path runs/demo-s0
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="The o1 figure of a run")

with app.setup:
    import marimo as mo

    from analysis.fit import Fit
    from analysis.notebook import finish, lines, newest_run, options, picture, refusing, stop, summary, table
    from analysis.plots import panels
    from analysis.saturation import DEFINITION
    from analysis.study import study
    from analysis.words import describe


@app.cell(hide_code=True)
def _():
    given = options("path")
    path = mo.ui.text(given["path"] or newest_run(), placeholder="runs/demo-s0", label="Run", full_width=True)
    title = mo.md("""
    # The o1 figure of a run

    Accuracy against the logarithm of train compute and of test compute: how far is this run from saturating on
    each?
    """)
    mo.vstack([title, path])
    return given, path


@app.cell
def _(path):
    if not path.value:
        stop("No run here yet: `scaling run demo` makes one; or name a run's directory by --path.")
    with refusing():
        found = study(path.value)
    sentences = [describe(curve.answer) for curve in found.curves]
    lines(sentences)
    return found, sentences


@app.cell
def _(found):
    figure = panels(found)
    mo.vstack([picture(figure), table(summary(found.curves))])
    return (figure,)


@app.cell
def _(found):
    mo.accordion(
        {
            "Every number (a polars frame)": Fit(found.curves).saturation(),
            "Every point (a polars frame)": found.estimates.drop("values"),
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
