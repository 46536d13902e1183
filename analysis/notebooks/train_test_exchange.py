"""Train against test compute: what is a decade of one worth in the other, and how is a budget best split?

python analysis/notebooks/train_test_exchange.py --path runs/demo-s0 [--out frontier.png]
marimo run analysis/notebooks/train_test_exchange.py -- --path runs/demo-s0
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="Train against test compute")

with app.setup:
    import marimo as mo
    import numpy as np
    import polars as pl

    from analysis.frontier import Points, best_split, exchange_rate, surface
    from analysis.frontier_plot import headline, plot_frontier
    from analysis.load import estimates
    from analysis.notebook import finish, lines, newest_run, options, picture, refusing, stop, table
    from analysis.quantities import percent
    from scaling.quantities import flops


@app.cell(hide_code=True)
def _():
    given = options("path")
    path = mo.ui.text(given["path"] or newest_run(), placeholder="runs/demo-s0", label="Run", full_width=True)
    title = mo.md("""
    # Train against test compute

    What is ten times more train compute worth in test compute, and how is a budget best split between training a
    model and letting it think?
    """)
    mo.vstack([title, path])
    return given, path


@app.cell
def _(path):
    if not path.value:
        stop("No run here yet: `scaling run demo` makes one; or name a run's directory by --path.")
    with refusing():
        points = Points.from_estimates(estimates(path.value).filter(estimator="mean", phase="rl"))
        fitted = surface(points)
    exchange = exchange_rate(fitted)
    sentences = [f"{headline(exchange)}.", *([f"{exchange.reason}."] if exchange.reason else [])]
    lines(sentences)
    return fitted, points, sentences


@app.cell
def _(fitted, points):
    figure = plot_frontier(fitted, points)
    answers = mo.ui.slider(
        steps=[10.0**k for k in range(3, 10)], value=1e6, show_value=True, label="Answers to be served"
    )
    mo.vstack([picture(figure), answers])
    return answers, figure


@app.cell
def _(answers, fitted):
    # From the cheapest point of the data to the dearest.
    least, most = (10**train + answers.value * 10**test for train, test in (fitted.low, fitted.high))
    splits = best_split(fitted, answers.value, np.geomspace(least, most, 5).tolist())
    table(
        pl.DataFrame(
            {
                "FLOPs in all": flops(row["total"]),
                "for training": flops(row["train"]),
                "an answer": flops(row["test"]),
                "share spent on answers": between(row, "test_share", "share_lo90", "share_hi90"),
                "accuracy": between(row, "accuracy", "lo90", "hi90"),
                "": "extrapolated" if row["extrapolated"] else "",
            }
            for row in splits.iter_rows(named=True)
        )
    )
    return (splits,)


@app.function
def between(row, median, lo, hi):
    """A share with its 90% interval."""
    return f"{percent(row[median])} ({percent(row[lo])} to {percent(row[hi])})"


@app.cell
def _(splits):
    mo.accordion({"Every split (a polars frame)": splits})
    return


@app.cell
def _(figure, given, sentences):
    finish("\n".join(sentences), figure, given["out"])
    return


if __name__ == "__main__":
    app.run()
