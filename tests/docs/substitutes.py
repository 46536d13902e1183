"""What stands for each command of the pages when they are tested: itself, or something shorter, and why.

A command that is not here fails the tests, and so does one that is here and on no page.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One command as it is run."""

    instead: tuple[str, ...] = ()
    """What is run in its place; none: the command as it stands."""
    why: str = ""
    """Why something else, or nothing, is run."""
    shows: tuple[str, ...] = ()
    """Patterns that what it prints has."""
    makes: tuple[str, ...] = ()
    """Files that it writes."""


MAIN = "the main job, minutes"
SERVES = "serves until it is stopped; tests/analysis has what is asked and clicked"
INDEX = "installs from a package index; the extra is looked up in pyproject.toml"
HOSTS = "needs the hosts; the plan of what each of them is told"
COMPILES = "compiles 1B parameters for as many devices: minutes; the same words of a small model"
FILE = (
    "scaling run demo --set task.name=problem_file --set task.path=problems.jsonl "
    "--set warm_start.stages.0.demo=trace"
)
SHORT = "--dir runs/NAME --set rl.recipe=grpo --dry-run"
POD = "scaling run pod --dir runs/pod --task.path=problems.jsonl --dry-run"
PARAMETERS = r"[\d,]+ parameters, [\d,]+ in matrix products"
FITTED = (r": (saturated|not saturated|cannot tell)", r"asymptote", r"headroom", r"next 2×", r"next 10×")

COMMANDS = {
    # README.md: Run it
    "make demo": Run(("make --dry-run demo",), MAIN, (r"scaling run demo",)),
    "make test": Run(("make --dry-run test",), "the tests themselves", (r"ruff check", r"pyright", r"not slow")),
    # What you get
    "scaling run [demo|tiny|hour|slice|pod|FILE.yaml] [--dir runs/NAME] [--set rl.recipe=grpo] [--dry-run]": Run(
        (*(f"scaling run {name} {SHORT}" for name in ("demo", "tiny", "hour", "slice", "mine.yaml")), POD),
        "a synopsis; tests/test_tiny_run.py runs one",
        (PARAMETERS,),
    ),
    "scaling train|evaluate|report|check runs/NAME": Run(
        (
            "scaling train runs/small small.yaml",
            *(f"scaling {word} runs/small" for word in ("evaluate", "report", "check")),
        ),
        "a synopsis; the four in turn on a small config",
        (
            r"runs/small: done",
            r"next: scaling evaluate",
            r"next: scaling fit",
            r"report\.html",
            r"nothing wrong found",
        ),
        ("runs/small/answer.json", "runs/small/panels.png"),
    ),
    "scaling fit PATH...": Run(("scaling fit runs/demo-s0",), "a synopsis", FITTED),
    "scaling backtest TABLE": Run(
        ("scaling backtest points.csv --alone",), "a synopsis; the peers alone take minutes", (r"ours",)
    ),
    "scaling plan demo": Run((), "", (PARAMETERS, r"checkpoints, about", r"budget +192 samples", r"disk:")),
    "scaling export runs/NAME -o points.csv": Run(
        ("scaling export runs/demo-s0 -o exported.csv",),
        "a synopsis",
        (r"exported\.csv: \d+ points",),
        ("exported.csv",),
    ),
    "scaling config demo --fields": Run((), "", (r"seed: int = 0\n    Seed of everything random",)),
    # Watch it
    "pip install 'scaling[dashboard]'": Run((), INDEX),
    "scaling dashboard runs": Run(("scaling dashboard --help",), SERVES, (r"token", r"--port", r"--theme")),
    # How far is my curve from saturating?
    "scaling fit points.csv": Run((), "", FITTED),
    "scaling fit points.csv --at 1e25 --plot plots": Run(
        (), "", (r"at 1\.0e25: ",), ("plots/curves.png", "plots/curves.html")
    ),
    "scaling fit points.csv --predict forecasts.csv": Run(
        ("scaling fit split.csv --predict forecasts.csv",),
        "a table with rows to forecast",
        (),
        ("forecasts.csv",),
    ),
    "scaling fit history.csv --x tokens --y val_acc:accuracy": Run((), "", FITTED),
    "scaling fit wandb/offline-run-...": Run(("scaling fit wandb/offline-run-1",), "a name", FITTED),
    # Which of these runs is the best?
    "scaling fit runs/widths --by model.width [--by rl.recipe] --plot plots": Run(
        ("scaling fit runs/widths --by model.width --by rl.recipe --plot plots",),
        "a synopsis",
        (r"[Bb]est",),
        ("plots/arms.png", "plots/arms.html"),
    ),
    "scaling fit points.csv --by optimiser": Run(
        ("scaling fit optimisers.csv --by optimiser",), "a table with that column", (r"[Bb]est",)
    ),
    # Notebooks
    "python analysis/notebooks/o1_figure.py --path runs/demo-s0 --out o1.png": Run(
        (), "", (r"o1\.png",), ("o1.png",)
    ),
    "marimo run analysis/notebooks/o1_figure.py -- --path runs/demo-s0": Run(
        ("python -m marimo check --strict analysis/notebooks/o1_figure.py",), SERVES
    ),
    "marimo edit analysis/notebooks/csv_verdict.py -- --path points.csv": Run(
        ("python -m marimo check --strict analysis/notebooks/csv_verdict.py",), SERVES
    ),
    # Sweeps
    "scaling sweep sizes --dry-run": Run((), "", (r"run +warm start +RL +evaluation +disk", r"6 runs")),
    "scaling sweep tiny --jobs 2": Run(
        ("scaling sweep tiny --jobs 2 --dry-run",),
        "minutes; tests/sweeps/test_sweep_end_to_end.py does it",
        (r"8 runs",),
    ),
    "scaling sweep status runs/tiny": Run((), "", (r"8 done of 8 runs",)),
    "scaling sweep cancel runs/tiny": Run((), "", (r"0 runs asked to save and stop",)),
    "scaling sweep retry runs/tiny": Run((), "", (r"8 done of 8 runs", r"next: scaling fit runs/tiny")),
    # What may go wrong
    "scaling check runs/NAME": Run(
        ("scaling train runs/checked small.yaml", "scaling check runs/checked"),
        "a synopsis",
        (r"nothing wrong found in \d+ training rows, .* checkpoints",),
    ),
    "make reliability": Run(("make --dry-run reliability",), "an hour", (r"RELIABILITY=all",)),
    "make soak MINUTES=60": Run(("make --dry-run soak MINUTES=60",), "an hour", (r"soak 60",)),
    # Bring a task
    FILE: Run((f"{FILE} --dir runs/sums --dry-run",), MAIN, (PARAMETERS,)),
    # Where it runs
    "srun --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 scaling run pod --dir runs/pod": Run((POD,), HOSTS),
    'gcloud compute tpus tpu-vm ssh NAME --worker=all --command "scaling run pod --dir /shared/pod"': Run(
        (POD,), HOSTS
    ),
    "scaling run pod --dir runs/pod --coordinator 10.0.0.1:1234 --hosts 2 --host 0": Run(
        (f"{POD} --coordinator 10.0.0.1:1234 --hosts 2 --host 0",), HOSTS, (PARAMETERS,)
    ),
    # Plan a run
    "scaling plan demo --calibrate": Run(
        ("scaling plan tiny --calibrate",),
        "minutes; the same of a small model",
        (r"training +in all", r"device-hours"),
    ),
    "scaling plan slice --devices 8 --accelerator h100 --price 2.5": Run(
        ("scaling plan tiny --devices 2 --accelerator h100 --price 2.5",),
        COMPILES,
        (r"memory of one of 2 devices", r"fits: .* usable in", r"device-hours, .* USD"),
    ),
    "scaling plan pod --devices 256 --accelerator v5p --task.path=p.jsonl": Run(
        ("scaling plan tiny --accelerator v5p",), COMPILES, (r"fits: .* usable in", r"device-hours")
    ),
    # docs/clusters.md
    "pip install 'scaling[ray]'": Run((), INDEX),
    "RAY_USAGE_STATS_ENABLED=0 RAY_JOB_START_TIMEOUT_SECONDS=1e9 ray start --head": Run(
        (), "starts a cluster; tests/sweeps/conftest.py starts one for its tests"
    ),
    "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge && make ray": Run(
        ("make --dry-run ray",), "installs; .ci/run does it", (r"requirements-ray\.lock",)
    ),
    'python -m pytest -m "slurm or ray"': Run(
        ('python -m pytest -n 0 --collect-only -m "slurm or ray" tests/sweeps',),
        "minutes, and the services",
        (r"test_ray",),
    ),
    # CONTRIBUTING.md, but for its edits
    ".venv/bin/python -m pytest -n 0 tests/scaling/test_schedule.py": Run((), "", (r"\d+ passed",)),
    ".venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/pyright": Run((), "`make test` itself"),
}
