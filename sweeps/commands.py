"""Many runs from one file: start what is missing, say where they stand, stop them, try failed ones again."""

from __future__ import annotations

import functools
import json as jsons
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from tyro.conf import Positional, arg

from scaling.cli import Json, Overrides
from scaling.closing import DONE, FAILED, PREEMPTED, unless_lost
from scaling.files import replace
from scaling.quantities import how_many
from scaling.structure import ConfigError, structure, write_yaml
from sweeps import costs, wandb_sweep
from sweeps.directory import Directory
from sweeps.expand import Planned, expand
from sweeps.file import Sweep, field, read
from sweeps.judge import Judge, arms, rule
from sweeps.launch import Launch, Wish, cancel, ended_by_rule, tally
from sweeps.launchers import Launcher
from sweeps.launchers.local import Local, cores
from sweeps.launchers.ray import Ray, RayLauncher
from sweeps.launchers.slurm import Slurm, SlurmLauncher
from sweeps.state import STATES, Standing, hints, standing

T = TypeVar("T")
Engine = Literal["local", "slurm", "ray"]
WATCH_SECONDS = 5.0
CLEAR = "\x1b[H\x1b[2J"
"""A terminal's screen, so that the table stays where it is."""
MOST_QUEUED = 10_000
MOST_COMPARED = 64
"""Runs of a sweep whose curves are compared at once when it is done; of larger ones the command is printed."""
SweepDirectory = Annotated[Positional[Path], arg(metavar="DIR", help="A sweep's directory.")]
Jobs = Annotated[
    int | None,
    arg(metavar="N", help="Runs at once; default: what the cores hold (local), the engine's own limit."),
]
Retries = Annotated[int, arg(metavar="N", help="How often a failed run is started again.")]


def run(
    file: Annotated[
        Positional[Path], arg(metavar="SWEEP", help="A sweep file (YAML), or tiny, sizes, recipes, seeds.")
    ],
    *,
    dir: Annotated[Path | None, arg(metavar="DIR", help="Default: runs/NAME, by the file's name.")] = None,
    launcher: Engine = "local",
    jobs: Jobs = None,
    retries: Retries = 2,
    overrides: Overrides = (),
    dry_run: Annotated[bool, arg(help="List the runs and what they cost, and do nothing.")] = False,
    json: Json = False,
) -> int:
    """Do what is missing of a sweep: called again, it goes on where it stopped. `--set a.b=c` changes its base."""
    sweep = read(file, overrides)
    runs = expand(sweep)
    if sweep.stop:
        arms(rule(sweep.stop), runs)  # what it cannot mean is said before anything is started
    for note in sweep.notes:
        print(f"note: {note}", file=sys.stderr)
    if dry_run:
        return _print_costs(runs, json)
    directory = Directory(dir or Path("runs") / sweep.name)
    return _launch(directory, sweep, runs, launcher, jobs, retries, json, forgive=False)


def retry(
    dir: SweepDirectory,
    *,
    launcher: Engine = "local",
    jobs: Jobs = None,
    retries: Retries = 2,
    json: Json = False,
) -> int:
    """Do what is missing of a sweep, also runs that failed too often or that the stopping rule ended."""
    directory = Directory(dir)
    sweep = directory.sweep()
    return _launch(directory, sweep, expand(sweep), launcher, jobs, retries, json, forgive=True)


def status(
    dir: SweepDirectory,
    *,
    watch: Annotated[bool, arg(help="Again and again, until all are done.")] = False,
    json: Json = False,
) -> int:
    """Where the runs of a sweep stand, those that are not done each in a line."""
    directory = Directory(dir)
    sweep = directory.sweep()
    names = [planned.name for planned in expand(sweep)]
    launchers = _launchers(sweep)
    while True:
        stands = _stands(directory, names, launchers)
        if json:
            print(
                jsons.dumps({"states": tally(stands), "runs": {n: asdict(s) for n, s in stands.items()}}),
                flush=True,
            )
        else:
            clear = CLEAR if watch and sys.stdout.isatty() else ""
            print(clear + _described(stands), flush=True)
        if not watch or _settled(stands):
            return DONE
        time.sleep(WATCH_SECONDS)


def stop(dir: SweepDirectory, *, json: Json = False) -> int:
    """Stop a sweep: no more runs are started, and running ones save and stop. The same command goes on."""
    directory = Directory(dir)
    launchers, attempts = _launchers(directory.sweep()), directory.attempts()
    directory.stop_file.touch()
    said = hints(list(attempts.values()), launchers)
    alive = [attempt for name, attempt in attempts.items() if said[name] in ("queued", "running")]
    cancel(alive, launchers)
    if json:
        print(jsons.dumps({"sweep": str(dir), "asked_to_stop": [attempt.run for attempt in alive]}))
    else:
        print(f"{dir}: {how_many(len(alive), 'run')} asked to save and stop\nnext: scaling sweep status {dir}")
    return DONE


def hand_over(
    file: Annotated[Positional[Path], arg(metavar="SWEEP", help="A sweep file without zip, where and ${…}.")],
    *,
    dir: Annotated[Path | None, arg(metavar="DIR", help="Of base.yaml; default: runs/NAME.")] = None,
    overrides: Overrides = (),
    dry_run: Annotated[bool, arg(help="Print what W&B would get, and create nothing.")] = False,
    json: Json = False,
) -> int:
    """Make it a sweep of Weights & Biases, with an account; `wandb agent` then does its runs."""
    from scaling.config import dump

    sweep = read(file, overrides)
    expand(sweep)  # what cannot be run is said here, and not by an agent
    base = (dir or Path("runs") / sweep.name) / "base.yaml"
    description = wandb_sweep.described(sweep, base)
    if dry_run:
        print(jsons.dumps(description) if json else write_yaml(description), end="\n" * json)
        return DONE
    base.parent.mkdir(parents=True, exist_ok=True)
    replace(base, dump(sweep.base).encode())
    name = wandb_sweep.create(description, sweep.base.tracking.project)
    print(jsons.dumps({"sweep": name, "base": str(base)}) if json else f"next, here: wandb agent {name}")
    return DONE


COMMANDS: dict[str, Callable[..., Any]] = {
    "run": run,
    "status": status,
    "cancel": stop,
    "retry": retry,
    "wandb": hand_over,
}


def words(args: Sequence[str]) -> list[str]:
    """`SWEEP …` is short for `run SWEEP …`."""
    named = args and (args[0] in COMMANDS or args[0] in ("-h", "--help"))
    return list(args) if named or not args else ["run", *args]


def _launchers(sweep: Sweep, at_once: int | None = None) -> Callable[[str], Launcher]:
    """Each engine, opened when it is first asked for. Raises ConfigError for what a run cannot ask of it."""

    @functools.cache
    def opened(engine: str) -> Launcher:
        if engine == "local":
            return Local(at_once or 1)
        if engine == "slurm":
            return SlurmLauncher(_asked(sweep, engine, Slurm), at_once)
        return RayLauncher(_asked(sweep, engine, Ray))

    return opened


def _asked(sweep: Sweep, engine: str, kind: type[T]) -> T:
    """What a run asks of an engine, by the file."""
    try:
        return structure(sweep.engines[engine], kind)
    except ConfigError as error:
        raise ConfigError([f"{engine}.{line}" for line in error.lines]) from None


def _launch(
    directory: Directory,
    sweep: Sweep,
    runs: Sequence[Planned],
    engine: str,
    jobs: int | None,
    retries: int,
    json: bool,
    *,
    forgive: bool,
) -> int:
    if engine == "local" and jobs is None:
        jobs = max(len(cores()) // max(planned.config.mesh.cpu_devices for planned in runs), 1)
    slots = jobs if jobs and engine != "slurm" else MOST_QUEUED  # Slurm's arrays have a cap of their own
    with directory.locked(), Wish() as wish:
        directory.create(sweep)
        say = _say(json)
        judge = Judge(rule(sweep.stop), directory, runs, say).ended if sweep.stop else tuple
        launch = Launch(directory, engine, _launchers(sweep, jobs), slots, retries, say, judge)
        stands = launch.go(runs, wish, forgive=forgive)
    path = directory.path
    code = DONE if _settled(stands) else PREEMPTED if wish.level else FAILED
    compare = ["fit", str(path), *(f"--by={name}" for name in _varied(sweep, runs)), "--plot", str(path)]
    after = {
        DONE: compare,
        PREEMPTED: ["sweep", str(directory.file), "--dir", str(path)],
        FAILED: ["sweep", "retry", str(path)],
    }
    following = f"scaling {shlex.join(after[code])}"
    if json:
        print(jsons.dumps({"sweep": str(path), "states": tally(stands), "next": following}))
        return code
    print(f"{_described(stands)}\nnext: {following}", flush=True)
    if code == DONE and len(runs) <= MOST_COMPARED:
        subprocess.run([sys.executable, "-m", "scaling", *compare], check=False)
    return code


def _varied(sweep: Sweep, runs: Sequence[Planned]) -> list[str]:
    """Fields that tell the arms apart; those that follow from others (`${…}`) add nothing."""
    chosen = [p.path for p in sweep.parameters if not p.fixed]
    return [path for path in chosen if len({str(field(planned.config, path)) for planned in runs}) > 1]


def _say(json: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not json:
            with unless_lost(sys.stderr):
                print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)

    return say


def _stands(
    directory: Directory, names: Sequence[str], launchers: Callable[[str], Launcher]
) -> dict[str, Standing]:
    attempts, now = directory.attempts(), time.time()
    first = {name: standing(directory.run(name), now, attempts.get(name)) for name in names}
    unclear = [attempts[name] for name, stand in first.items() if stand.state == "waiting" and name in attempts]
    said = hints(unclear, launchers)
    stands = first | {n: standing(directory.run(n), now, attempts[n], hint) for n, hint in said.items()}
    ended = {name: ended_by_rule(e) for name, e in directory.ended().items() if name in stands}
    return stands | {name: e for name, e in ended.items() if stands[name].state not in ("done", "running")}


def _settled(stands: Mapping[str, Standing]) -> bool:
    """Whether nothing is left to do."""
    return all(stand.state in ("done", "ended") for stand in stands.values())


def _described(stands: Mapping[str, Standing]) -> str:
    counts = tally(stands)
    told = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
    lines = [f"{told} of {how_many(len(stands), 'run')}"]
    now = time.time()
    for name, stand in stands.items():
        if stand.state == "done" or (stand.state == "waiting" and not stand.reason):
            continue
        ago = f", {now - stand.heartbeat:.0f} s ago" if stand.heartbeat is not None else ""
        where = f" ({stand.stage}{ago})" if stand.stage else ""
        lines.append(f"  {stand.state:<9} {name}{where}" + (f": {stand.reason}" if stand.reason else ""))
    return "\n".join(lines)


def _print_costs(runs: Sequence[Planned], json: bool) -> int:
    found = costs.each(runs)
    total = sum(found, costs.NOTHING)
    if json:
        rows = [{"run": p.name, "hash": p.hash, **asdict(c)} for p, c in zip(runs, found, strict=True)]
        print(jsons.dumps({"runs": rows, "total": asdict(total)}))
        return DONE
    width = max(len(planned.name) for planned in runs)
    print(f"{'run':<{width}}  warm start        RL  evaluation      disk")
    names = [*(planned.name for planned in runs), how_many(len(runs), "run")]
    for name, cost in zip(names, [*found, total], strict=True):
        print(
            f"{name:<{width}}  {cost.warm_start:10.2e}  {cost.rl:8.2e}  {cost.evaluation:10.2e}"
            f"  {cost.disk / 1e6:6,.0f} MB"
        )
    print("FLOPs; evaluation and disk are at most that; a warm start is that of seed 0")
    return DONE
