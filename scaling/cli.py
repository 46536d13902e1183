"""The front door: `scaling run|train|evaluate|fit|…`, one thin command each.

A command imports its package when it is called, so that `scaling --help` answers at once. Exit codes: 0 done,
1 failed (the reason stands in status.json), 2 bad input (one line a problem), 75 stopped by a signal and
resumable by the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, UseAppendAction, arg

from scaling import hosts
from scaling.arguments import overridden, sound
from scaling.closing import (
    DONE,
    FAILED,
    PREEMPTED,
    exit_code,
    finish,
    print_json,
    print_plan,
    reported,
    said,
    silence,
    unless_lost,
)
from scaling.hosts import ALONE, Cluster
from scaling.quantities import how_many

if TYPE_CHECKING:
    from scaling.config import Config

ABOUT = "How far are reasoning models from saturating? Train, evaluate, fit, report."

PresetOrFile = Annotated[
    Positional[str | None], arg(metavar="[CONFIG]", help="A preset (tiny, demo, hour, slice, pod) or a YAML file.")
]
RunDirectory = Annotated[Positional[Path], arg(metavar="DIR", help="A run's directory.")]
Column = Annotated[str | None, arg(metavar="COLUMN")]
Overrides = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(name="set", metavar="A.B=C", help="Set a field of the config; --a.b=c does the same."),
]
Several = Annotated[Cluster, OmitArgPrefixes]
Json = Annotated[bool, arg(name="json", help="Print one JSON object and nothing else.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors of arguments exit at once, with code 2."""
    commands, prog, description = COMMANDS, "scaling", ABOUT
    try:
        args = overridden(sound(sys.argv[1:] if argv is None else argv))
        if args[:1] == ["sweep"]:
            from sweeps import commands as sweeping

            commands, prog, description = sweeping.COMMANDS, "scaling sweep", sweeping.__doc__
            args = sweeping.words(args[1:])
        code = tyro.extras.subcommand_cli_from_dict(
            commands,
            args=args,
            prog=prog,
            description=description,
            config=(FlagCreatePairsOff,),
        )
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return PREEMPTED
    except BrokenPipeError:  # who read our output has seen enough
        silence(sys.stdout)
        return DONE
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        if hosts.is_first() or code == FAILED:  # bad input is known to all, trouble may be one host's
            with unless_lost(sys.stderr):
                print(said(error), file=sys.stderr, flush=True)
        if isinstance(error, hosts.HostError):
            hosts.leave(code)
        return code


def run(
    config: PresetOrFile = None,
    *,
    dir: Annotated[Path | None, arg(metavar="DIR", help="Default: runs/CONFIG-sSEED.")] = None,
    overrides: Overrides = (),
    json: Json = False,
    dry_run: Annotated[bool, arg(help="Print the plan and do nothing.")] = False,
    cluster: Several = ALONE,
) -> int:
    """The whole experiment: train, evaluate, fit, report. Called again, it goes on where it stopped.

    Without CONFIG: that of an existing DIR, or else the preset demo.
    """
    from scaling import resolve, stages
    from scaling.interrupt import Stop

    if dry_run:
        from scaling.plan import plan as planned

        return print_plan(planned(resolve.config_and_directory(config, dir, overrides)[0]), json)
    with Stop() as stop, ExitStack() as until_the_end:
        with stages.together(cluster):
            settings, path = hosts.first(lambda: resolve.config_and_directory(config, dir, overrides))
            with stages.alone(path):
                until_the_end.enter_context(stages.mirrored(path, settings, quiet=json))
                state = stages.train(path, settings, stop, evaluating=True, quiet=json)
                if state == "done":
                    state = stages.evaluate(path, settings, stop, names=None, quiet=json)
        if state == "done" and hosts.is_first():
            return reported(path, stages.report(path), json)
    return finish(path, state, json)


def train(
    dir: RunDirectory,
    config: PresetOrFile = None,
    *,
    overrides: Overrides = (),
    json: Json = False,
    cluster: Several = ALONE,
) -> int:
    """Train only: warm start, then RL, with checkpoints along the schedule.

    CONFIG is for a new DIR (default: demo); an existing one goes on with its own.
    """
    from scaling import resolve, stages
    from scaling.interrupt import Stop

    with Stop() as stop, stages.together(cluster):
        settings, path = hosts.first(lambda: resolve.config_and_directory(config, dir, overrides))
        with stages.alone(path), stages.mirrored(path, settings, quiet=json):
            state = stages.train(path, settings, stop, evaluating=False, quiet=json)
    return finish(path, state, json, next=f"scaling evaluate {path}")


def evaluate(
    dir: RunDirectory,
    checkpoints: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[NAME …]", help="Checkpoints; default: all.")
    ] = (),
    *,
    json: Json = False,
    cluster: Several = ALONE,
) -> int:
    """Answer the held-out problems with every checkpoint that has not yet done so."""
    from scaling import locks, resolve, stages
    from scaling.interrupt import Stop

    def opened() -> Config:
        run, settings = resolve.open_run(dir)
        locks.refuse_if_running(run)
        return settings

    with Stop() as stop, stages.together(cluster):
        settings = hosts.first(opened)
        with stages.alone(dir), stages.mirrored(dir, settings, quiet=json):
            state = stages.evaluate(dir, settings, stop, names=checkpoints or None, quiet=json)
    return finish(dir, state, json, next=f"scaling fit {dir}; scaling report {dir}")


def fit(
    paths: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="PATH …", help="Runs, folders of runs, tables (CSV, TSV, Parquet, JSONL), or W&B runs."),
    ] = (),
    *,
    x: Column = None,
    y: Column = None,
    predict: Annotated[
        Path | None, arg(metavar="OUT.csv", help="Forecast the rows whose split is holdout, and --at.")
    ] = None,
    at: Annotated[tuple[float, ...], arg(metavar="COMPUTE", help="Forecast every curve there.")] = (),
    plot: Annotated[Path | None, arg(metavar="FOLDER", help="Draw the curves: PNG and HTML.")] = None,
    by: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="FIELD", help="Compare the groups of runs (rows) that differ by this field (column)."),
    ] = (),
    json: Json = False,
) -> int:
    """Say how far curves are from saturating: verdict, asymptote, gain from ten times the compute.

    A table has columns compute and one of accuracy, error, loss; optional n, successes, curve, seed, problem,
    split, source. --x names another column than compute; --y is accuracy, error, loss or COLUMN:METRIC.
    With --by, runs that differ by no more than their seed are one arm, and arms are compared.
    """
    from scaling.backend import prepare_jax

    prepare_jax()
    from analysis import answers, arms_words

    if by and predict is not None:
        raise answers.TableError(["--predict: not with --by, which compares arms at the computes of --at"])
    if by:
        facts, text = arms_words.answer(paths, by, x, y, at, plot), arms_words.text
    else:
        facts, text = answers.answer(paths, x, y, answers.Wanted(predict, at, plot)), answers.text
    if json:
        print_json(facts)
        return DONE
    print("\n".join(facts["notes"]), end="\n" * bool(facts["notes"]), file=sys.stderr)
    print(text(facts))
    print("\n".join(facts["files"]), end="\n" * bool(facts["files"]))
    return DONE


def backtest(
    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="TABLE …", help="Tables of curves.")] = (),
    *,
    x: Column = None,
    y: Column = None,
    alone: Annotated[bool, arg(help="Ours alone, without the peers.")] = False,
    out: Annotated[Path | None, arg(aliases=("-o",), metavar="FILE.csv", help="A row a curve and method.")] = None,
    json: Json = False,
) -> int:
    """Hide every curve's continuation, forecast it, and print how good the forecasts and intervals are.

    A table's own split is used where it has one, else the last 1/2, 3/4 and 9/10 of the compute are hidden.
    """
    from scaling.backend import prepare_jax

    prepare_jax()
    from analysis import backtest as backtests
    from analysis import load, outputs
    from analysis.table import TableError

    if out is not None and (wrong := outputs.unusable("--out", out)):
        raise TableError(wrong)
    frame, notes = load.gather(paths, x, y)
    say = (lambda text: None) if json else (lambda text: print(text, file=sys.stderr))
    for note in notes:
        say(str(note))
    found = backtests.backtest(frame, not alone, say)
    if out is not None:
        outputs.write(found.scores, out)
    if json:
        print_json({"cells": found.table.to_dicts(), "overall": found.overall.to_dicts()})
    else:
        print(backtests.text(found))
    return DONE


def report(dir: RunDirectory, *, json: Json = False) -> int:
    """Fit both curves; write report.html and its figures."""
    from scaling import resolve, stages

    _, settings = resolve.open_run(dir)
    with stages.mirrored(dir, settings, quiet=json):
        return reported(dir, stages.report(dir), json)


def plan(
    config: PresetOrFile = None,
    *,
    overrides: Overrides = (),
    devices: Annotated[int | None, arg(metavar="N", help="Compile for so many devices; say their memory.")] = None,
    accelerator: Annotated[
        str | None, arg(metavar="NAME", help="h100, v5p, …: say whether it fits, and how long it takes there.")
    ] = None,
    utilisation: Annotated[
        float | None, arg(metavar="SHARE", help="Of the accelerator's peak FLOP/s, assumed in training.")
    ] = None,
    calibrate: Annotated[bool, arg(help="Time about 20 steps on this machine first.")] = False,
    price: Annotated[float | None, arg(metavar="USD", help="Of one device for an hour.")] = None,
    json: Json = False,
) -> int:
    """What a config costs, saves and needs: FLOPs, thresholds, test grid, disk, memory, time. Trains nothing."""
    from scaling.plan import Machine, plan_for
    from scaling.resolve import load_config

    machine = Machine(devices, accelerator, utilisation, calibrate, price)
    return print_plan(plan_for(load_config(config or "demo", overrides), machine), json)


def check(dir: RunDirectory, *, json: Json = False) -> int:
    """Verify a run's records and the hash of every leaf of its checkpoints."""
    from scaling import check as checking
    from scaling import resolve
    from scaling.backend import prepare_jax

    run, settings = resolve.open_run(dir)
    prepare_jax()
    import jax

    from scaling import checkpoints

    jax.config.update("jax_platforms", "cpu")  # the accelerator may be a run's at work

    grid = settings.evaluation
    found = [*checking.check(dir, grid.problems, grid.budgets), *checkpoints.verify(dir)]
    counts = checking.counts(dir)
    if json:
        print_json({"run": str(run.path), "verified": vars(counts), "findings": found})
    else:
        wrong = how_many(len(found), "finding") if found else "nothing wrong found"
        print("\n".join([*found, f"{dir}: {wrong} in {counts}"]))
    return FAILED if found else DONE


def export(
    dirs: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR …", help="Runs, or folders of runs.")],
    *,
    out: Annotated[Path, arg(aliases=("-o",), metavar="FILE", help="points.csv or points.parquet.")],
    json: Json = False,
) -> int:
    """Write the tidy table of all points: accuracy by train and test compute, with intervals."""
    from analysis import outputs
    from analysis.load import points
    from scaling.structure import ConfigError

    if not dirs:
        raise ConfigError(["DIR: at least one run directory, or folder of runs, must be given"])
    if wrong := outputs.unusable("--out", out, (".csv", ".parquet")):
        raise ConfigError(wrong)
    table = points(dirs)
    outputs.write(table, out)
    if json:
        print_json({"file": str(out), "rows": table.height})
    else:
        print(f"{out}: {table.height} points")
    return DONE


def config(
    config: PresetOrFile = None,
    *,
    overrides: Overrides = (),
    fields: Annotated[bool, arg(help="Explain every field instead.")] = False,
    json: Json = False,
) -> int:
    """Print a config with every field resolved, as YAML that `scaling run` takes."""
    from dataclasses import asdict

    from scaling import config as configs
    from scaling.resolve import load_config
    from scaling.structure import field_docs

    settings = load_config(config or "demo", overrides)
    if fields and json:
        print_json({doc.path: asdict(doc) for doc in field_docs(configs.Config)})
    elif fields:
        for doc in field_docs(configs.Config):
            print(f"{doc.path}: {doc.type} = {doc.default!r}\n    {doc.doc}")
    elif json:
        print_json(asdict(settings))
    else:
        print(f"# hash: {configs.config_hash(settings)}\n{configs.dump(settings)}", end="")
    return DONE


def dashboard(
    dir: Annotated[Positional[Path], arg(metavar="[DIR]", help="A folder of runs, or a run.")] = Path("runs"),
    *,
    host: Annotated[str, arg(help="Another than loopback asks for a token.")] = "127.0.0.1",
    port: Annotated[int | None, arg(metavar="N", help="Default: the first free one from 2718 on.")] = None,
    theme: Literal["light", "dark"] = "light",
) -> int:
    """Watch runs and sweeps in a browser while they are written. Needs the extra dashboard."""
    from analysis.dashboard.serve import serve
    from scaling.backend import prepare_jax

    prepare_jax()
    serve(dir, host, port, theme)
    return DONE


def sweep() -> int:
    """Many runs, from one file: `scaling sweep SWEEP`; status, cancel, retry. `scaling sweep --help` says more."""
    raise AssertionError("`main` hands the words that follow to sweeps.commands")


COMMANDS: dict[str, Callable[..., Any]] = {
    "run": run,
    "train": train,
    "evaluate": evaluate,
    "fit": fit,
    "backtest": backtest,
    "report": report,
    "plan": plan,
    "check": check,
    "export": export,
    "config": config,
    "dashboard": dashboard,
    "sweep": sweep,
}
