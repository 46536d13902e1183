"""The arms of a sweep compared: which is the best, from which compute on, and how much less compute it needs.

python analysis/notebooks/sweep_arms.py --path runs/sizes [--by model.width,rl.recipe] [--out arms.png]
marimo run analysis/notebooks/sweep_arms.py -- --path runs/sizes
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="The arms of a sweep")

with app.setup:
    import marimo as mo
    import polars as pl

    from analysis.arms import compare
    from analysis.arms_plot import plot_arms
    from analysis.arms_words import facts, rows
    from analysis.grouping import differences
    from analysis.notebook import finish, lines, newest_sweep, options, picture, refusing, stop, table


@app.cell(hide_code=True)
def _():
    given = options("path", "by")
    path = mo.ui.text(given["path"] or newest_sweep(), placeholder="runs/sizes", label="Sweep", full_width=True)
    title = mo.md("""
    # The arms of a sweep

    Which of these choices is the best, from which compute on, and how much less compute does it need? Runs that
    differ by no more than their seed are one arm.
    """)
    mo.vstack([title, path])
    return given, path


@app.cell
def _(given, path):
    if not path.value:
        stop("No sweep here yet: `scaling sweep sizes` makes one; or name a folder of runs by --path.")
    with refusing():
        fields = differences([path.value])
    if not fields:
        stop(f"{path.value}: its runs differ by no more than their seed; arms need a field that varies")
    by = mo.ui.text(given["by"] or ", ".join(fields), label="Arms by", full_width=True)
    mo.vstack([by])
    return (by,)


@app.cell
def _(by, path):
    with refusing():
        found = compare(path.value, [name.strip() for name in by.value.split(",")])
    said = facts(found)
    sentences = [said["verdict"], *found.notes]
    lines(sentences)
    return found, said, sentences


@app.cell
def _(found, said):
    figure = plot_arms(found)
    metric = said["arms"][0]["metric"]
    pairs = []
    for pair in said["pairs"]:
        names, shown = zip(*rows(pair, metric, said["compared"]), strict=True)
        pairs.append(table(pl.DataFrame({f"{pair['first']} against {pair['second']}": names, "": shown})))
    mo.vstack([picture(figure), *pairs])
    return (figure,)


@app.cell
def _(found, said):
    mo.accordion(
        {
            "Every pair (a polars frame)": found.differences(),
            "Each arm's chance to be the best (a polars frame)": found.table(),
            "What ahead, best, efficiency and cross mean": mo.plain_text(said["definition"]),
        }
    )
    return


@app.cell
def _(figure, given, sentences):
    finish("\n".join(sentences), figure, given["out"])
    return


if __name__ == "__main__":
    app.run()
