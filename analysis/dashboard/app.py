"""The dashboard's page. What it shows is made elsewhere; here are the controls, and what follows from which."""

import marimo

app = marimo.App(width="full", app_title="scaling")

with app.setup:
    from pathlib import Path

    import marimo as mo

    from analysis.configs import headline_budget
    from analysis.dashboard import completions, overview
    from analysis.dashboard.style import CSS, only
    from analysis.dashboard.watch import watching

    TABS = ("Overview", "Two panels", "Train × test", "RL health", "Problems")
    ALL, LAST = "all", "last"
    MOST_PICKED = 7
    watch = watching(Path(str(mo.cli_args().get("dir") or "runs")))
    theme = mo.app_meta().theme
    remembered = {}

    def picked(name, options, default):
        """What was chosen before, as far as it can still be; else the default."""
        known = [value for value in remembered.get(name, ()) if value in options]
        return known or [value for value in default if value in options]

    def dropdown(name, options, label, default=None):
        """A choice of one that survives new options."""
        chosen = picked(name, options, [default] if default in options else options[:1])
        return mo.ui.dropdown(
            options,
            value=chosen[0] if chosen else None,
            label=label,
            on_change=lambda value: remembered.update({name: [value]}),
        )

    def several(name, options, label):
        return mo.ui.multiselect(
            options,
            value=picked(name, options, options[:1]),
            label=label,
            max_selections=MOST_PICKED,
            on_change=lambda value: remembered.update({name: list(value)}),
        )

    def view(name, *parts):
        """What a tab shows; the page's markup says which one it is."""
        return mo.vstack([mo.Html(f'<div data-view="{name}"></div>'), *parts])

    def row(*controls):
        return mo.hstack(list(controls), justify="start", align="end", gap=1, wrap=True)


@app.cell
def _():
    scene, show = mo.state(watch.look())
    names, rename = mo.state(scene().readable)
    varying, vary = mo.state(overview.fields_that_vary(scene().runs))
    evaluated, evaluate = mo.state({})
    logged, log = mo.state({})
    return evaluate, evaluated, log, logged, names, rename, scene, show, vary, varying


@app.cell
def _():
    refresh = mo.ui.refresh(options=["2s", "5s", "30s"], default_interval="5s")
    tabs = mo.ui.tabs(dict.fromkeys(TABS, ""))
    return refresh, tabs


@app.cell
def _(names, refresh, rename, scene, show, vary, varying):
    mo.stop(not refresh.value)
    _now = watch.look()
    if _now != scene():
        show(_now)
    if set(_now.readable) != set(names()):
        rename(_now.readable)
    if (_fields := overview.fields_that_vary(_now.runs)) != varying():
        vary(_fields)
    return


@app.cell
def _(evaluate, evaluated, log, logged, refresh, run, runs):
    _ = refresh.value
    _picked = {str(name) for name in (*runs.value, run.value) if name}
    if (_found := {name: watch.evaluated(name) for name in _picked}) != evaluated():
        evaluate(_found)
    if (_rows := {name: watch.logged(name) for name in runs.value}) != logged():
        log(_rows)
    return


@app.cell
def _(refresh, scene, tabs):
    _head = mo.hstack([mo.Html(overview.summary(scene())), refresh], justify="space-between", align="center")
    mo.vstack([mo.Html(CSS), _head, tabs, mo.Html(only(tabs.value))])
    return


@app.cell
def _():
    search = mo.ui.text(label="Filter", placeholder="words, field=value", debounce=300)
    sort = mo.ui.dropdown(list(overview.SORTS), value="state", label="Sort by")
    return search, sort


@app.cell
def _(varying):
    group = dropdown("group", ["nothing", "sweep", *varying()], "Group by")
    return (group,)


@app.cell
def _(group, scene, search, sort, tabs):
    mo.stop(tabs.value != "Overview")
    _by = None if group.value == "nothing" else group.value
    view("Overview", row(search, sort, group), mo.Html(overview.table(scene(), search.value, sort.value, _by)))
    return


@app.cell
def _(names):
    runs = several("runs", list(names()), "Runs")
    run = dropdown("run", list(names()), "Run")
    return run, runs


@app.cell
def _(runs):
    _budgets, _samples = overview.settings(map(watch.fields, runs.value))
    budget = dropdown("budget", _budgets or [0], "Budget", headline_budget(_budgets or [0]))
    samples = dropdown("samples", _samples or [1], "k", _samples[-1] if _samples else 1)
    return budget, samples


@app.cell
def _(evaluated, runs):
    _names = {name for one in runs.value for name, _ in evaluated().get(one, ())}
    upto = dropdown("upto", [LAST, *sorted(_names)], "Checkpoint")
    return (upto,)


@app.cell
def _():
    estimator = mo.ui.dropdown(
        {"one sample": "mean", "any of k (pass@k)": "pass", "most of k (maj@k)": "maj"},
        value="one sample",
        label="Answered by",
    )
    compute = mo.ui.dropdown({"RL": "rl_flops", "all training": "train_flops"}, value="RL", label="Train compute")
    colour = mo.ui.dropdown(["run", "arm"], value="run", label="Colour")
    logit = mo.ui.switch(label="logit axis")
    return colour, compute, estimator, logit


@app.cell
def _(budget, colour, compute, estimator, evaluated, logit, runs, samples, tabs, upto):
    mo.stop(tabs.value != "Two panels")
    from analysis.dashboard import views as _views

    evaluated()
    _k = () if estimator.value == "mean" else (samples,)
    _chart, _words, _wrong = _views.curves(
        watch,
        runs.value,
        _views.Choice(
            budget=budget.value,
            samples=samples.value if _k else 1,
            estimator=estimator.value,
            logit=logit.value,
            colour=colour.value,
            axis=compute.value,
            checkpoint="" if upto.value == LAST else upto.value,
        ),
        theme,
    )
    view(
        "Two panels",
        row(runs, budget, estimator, *_k, upto, compute, colour, logit),
        mo.Html(overview.lines(_wrong, "damaged")),
        _chart,
        mo.Html(overview.lines(_words, "note")),
    )
    return


@app.cell
def _(evaluated, run, tabs):
    mo.stop(tabs.value != "Train × test")
    from analysis.dashboard import views as _views

    evaluated()
    _chart, _words = _views.traded(watch, run.value, theme) if run.value else (None, [])
    view("Train × test", row(run), mo.Html(overview.lines(_words, "note")), _chart)
    return


@app.cell
def _():
    axis = mo.ui.dropdown({"step": "step", "RL FLOPs": "rl_flops"}, value="step", label="Against")
    return (axis,)


@app.cell
def _(axis, evaluated, logged, runs, tabs):
    mo.stop(tabs.value != "RL health")
    from analysis.dashboard import views as _views

    evaluated()
    logged()
    _chart, _alarms, _wrong = _views.steps(watch, runs.value, axis.value, theme)
    view(
        "RL health",
        row(runs, axis),
        mo.Html(overview.lines(_alarms, "alarm") + overview.lines(_wrong, "damaged")),
        _chart,
    )
    return


@app.cell
def _(evaluated, run):
    evaluated()
    _shown, written_wrong = watch.shown(run.value) if run.value else ({}, [])
    written = completions.completions(_shown)
    return written, written_wrong


@app.cell
def _():
    wanted = mo.ui.text(label="Search", placeholder="words of a text", debounce=300)
    return (wanted,)


@app.cell
def _(written):
    checkpoint = dropdown("checkpoint", [ALL, *sorted({one.checkpoint for one in written})], "Checkpoint")
    problem = dropdown("problem", [ALL, *sorted({one.problem for one in written})], "Problem", 0)
    cut = dropdown("cut", [ALL, *sorted({one.budget for one in written})], "Thinking budget")
    verdict = dropdown("verdict", [ALL, "right", "wrong"], "Verdict")
    return checkpoint, cut, problem, verdict


@app.cell
def _(checkpoint, cut, problem, run, tabs, verdict, wanted, written, written_wrong):
    mo.stop(tabs.value != "Problems")
    _chosen = {"checkpoint": checkpoint, "problem": problem, "budget": cut, "verdict": verdict}
    _found = completions.choose(
        written, wanted.value, **{name: one.value for name, one in _chosen.items() if one.value != ALL}
    )
    view(
        "Problems",
        row(run, problem, cut, checkpoint, verdict, wanted),
        mo.Html(overview.lines(written_wrong, "damaged") + completions.page(_found)),
    )
    return


if __name__ == "__main__":
    app.run()
