"""Every command of the pages runs, itself or what `substitutes` has for it, and shows what its page says."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest
from pages import PAGES, ROOT, blocks
from substitutes import COMMANDS, Run

from scaling import config as configs
from scaling import memory, plan, records
from scaling.cli import main
from scaling.structure import read_yaml, structure
from sweeps import file as sweep_file
from sweeps.directory import Directory
from sweeps.expand import expand
from sweeps.launchers.slurm import Slurm
from tests.analysis.synthetic_runs import saturated, straight, write_run
from tests.scaling.small_runs import small

SHELL = [block for page in PAGES for block in blocks(page, "bash")]
FOLLOWED = {block.section for block in blocks("CONTRIBUTING.md") if block.file}
"""Sections whose commands `test_contributing` runs, after their edits."""
WRITTEN = {command for block in SHELL if block.section not in FOLLOWED for command in block.commands}
LOG_A_RUN = """
import wandb
run = wandb.init(mode="offline", project="study", dir=".")
for i in range(12):
    run.log({"compute": 10.0 ** (9 + i / 3), "accuracy": 0.8 / (1 + 2.0 ** (5 - i))})
run.finish()
"""


def test_every_command_of_the_pages_is_known_and_no_other():
    assert WRITTEN - COMMANDS.keys() == set(), "say in tests/docs/substitutes.py what is run"
    assert COMMANDS.keys() - WRITTEN == set(), "no page has these any more"


def test_every_extra_that_is_installed_is_one():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "".join((ROOT / page).read_text() for page in PAGES)
    named = set(re.findall(r"pip install (?:-e )?'?(?:scaling|\.)\[([\w-]+)\]", text))
    assert named and named <= extras.keys()


def test_every_piece_of_python_is_run_somewhere():
    """Of the README by tests/analysis/test_readme.py; of CONTRIBUTING.md it is a file to make."""
    assert {block.page for page in PAGES for block in blocks(page, "python") if not block.file} == {"README.md"}


# Runs -------------------------------------------------------------------------------------------------------


def bends(path: Path, header: str, *curves: str) -> None:
    """A table of rows x, accuracy, items; for each curve what its rows have more."""
    levels = [(10 ** (20 + i / 4), 0.8 / (1 + 2.0 ** (5 - i))) for i in range(12)]
    rows = (f"{x:g},{level:.4f},1000{more}" for more in curves for x, level in levels)
    path.write_text("\n".join([header, *rows]) + "\n")


def sums(path: Path) -> None:
    pairs = [(a, b) for a in range(70) for b in range(70)]
    rows = (f'{{"prompt": "{a} + {b} =", "answer": "{a + b}", "solution": "{b} + {a}"}}' for a, b in pairs)
    path.write_text("\n".join(rows) + "\n")


def sweep(path: Path) -> None:
    """The sweep tiny, all of it done."""
    plans, folder = sweep_file.read(Path("tiny")), Directory(path)
    folder.create(plans)
    for planned in expand(plans):
        text = configs.dump(planned.config)
        run = records.Run.create(folder.run(planned.name), text, planned.hash, {"command": "scaling run"})
        run.write_status("done", "report")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the commands of the pages work on."""
    here = tmp_path_factory.mktemp("here")
    grid = {"problems": 64, "budgets": (0, 8, 32), "samples": (1, 2, 4), "tokens": 64}
    write_run(here / "runs" / "demo-s0", saturated, **grid)
    for width, recipe, truth in ((32, "rloo", saturated), (64, "grpo", straight)):
        fields = {"model": {"width": width}, "rl": {"recipe": recipe}}
        write_run(here / "runs" / "widths" / f"width{width}", truth, **grid, fields=fields)
    sweep(here / "runs" / "tiny")
    bends(here / "points.csv", "compute,accuracy,n", "")
    bends(here / "history.csv", "tokens,val_acc,n", "")
    bends(here / "optimisers.csv", "compute,accuracy,n,optimiser", ",adam", ",muon")
    bends(here / "split.csv", "compute,accuracy,n,split", ",fit", ",holdout")
    sums(here / "problems.jsonl")
    (here / "small.yaml").write_text(configs.dump(small()))
    (here / "mine.yaml").write_text("base: tiny\n")
    return here


@pytest.fixture
def here(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sweeps.commands.MOST_COMPARED", 0)  # `scaling fit` is compared elsewhere
    return folder


def done(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints; commands of `scaling` run in this process."""
    words = shlex.split(command)
    if words[0] == "scaling":
        try:
            code = main(words[1:])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
    else:
        python = words[0].endswith("python")
        words = [str(ROOT / word) if python and (ROOT / word).is_file() else word for word in words]
        where = Path.cwd() if python and words[1] != "-m" else ROOT
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        given = [sys.executable, *words[1:]] if python else words
        ran = subprocess.run(given, cwd=where, env=env, capture_output=True, text=True)
        code, out, err = ran.returncode, ran.stdout, ran.stderr
    assert code == 0, f"{command}\n{out}{err}"
    return out + err


CASES = [pytest.param(command, run, id=command) for command, run in COMMANDS.items() if run.instead or not run.why]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "run"), CASES)
def test_a_command_runs_and_shows_what_its_page_says(command: str, run: Run, here, capsys):
    if "offline-run" in command:
        log_a_run()
    said = "\n".join(done(one, capsys) for one in run.instead or (command,))
    assert [pattern for pattern in run.shows if not re.search(pattern, said)] == [], said
    assert [file for file in run.makes if not Path(file).is_file()] == []


def log_a_run() -> None:
    quiet = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    subprocess.run([sys.executable, "-c", LOG_A_RUN], env=quiet, check=True, timeout=120)
    (run,) = Path("wandb").glob("offline-run-*")
    run.rename(run.with_name("offline-run-1"))


# What pages show of files and of what is printed ------------------------------------------------------------


def test_the_columns_of_an_export_are_those_that_the_readme_names(here, capsys):
    done("scaling export runs/demo-s0 -o columns.csv", capsys)
    columns = pl.read_csv("columns.csv").columns
    (line,) = re.findall(r"^scaling export .*# (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    before, after = (part.strip(", ").split(", ") for part in line.split("..."))
    assert columns[: len(before)] == before
    assert [name for name in columns if name in after] == after


def test_every_piece_of_yaml_is_a_sweep_or_what_a_run_asks_of_slurm():
    (shown,) = blocks("README.md", "yaml")
    assert len(expand(sweep_file.parse(read_yaml(shown.text), "shown"))) > 1
    (asked,) = blocks("docs/clusters.md", "yaml")
    assert structure(read_yaml(asked.text), Slurm).time == "12:00:00"


def skeleton(line: str) -> str:
    """A line without its amounts and its columns."""
    return " ".join(re.sub(r"\d[\d.,]*(?: [kMGT]?B)?", "N", line).split())


def test_a_plan_that_does_not_fit_reads_as_the_readme_shows_it(monkeypatch):
    (shown,) = [block.text for block in blocks("README.md") if "DOES NOT FIT" in block.text]

    def compiled(config, devices, programs=memory.PROGRAMS):
        program = {"arguments": 0, "results": 0, "growing": 0, "cache": 0, "temporary": 1e9}
        gradient = program | {"temporary": config.microbatch * (0.9e9 if config.model.remat else 1e9)}
        found = {name: gradient if name == "gradient" else program for name in programs}
        mesh = {"data": 1, "fsdp": 1, "tensor": 1}
        return {"mesh": mesh, "parameters": 0, "optimiser": 0, "programs": found}

    monkeypatch.setattr(memory, "compiled", compiled)
    facts = plan.plan(small()) | {"memory": memory.account(small("microbatch=64"), 1, 16e9)}
    printed = {skeleton(line) for line in plan.describe(facts).splitlines()}
    assert {skeleton(line) for line in shown.splitlines()} <= printed


@pytest.mark.slow
def test_the_page_on_the_architecture_knows_every_file_of_a_run(here, capsys):
    done("scaling run small.yaml --dir runs/whole", capsys)
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("## The files of a run")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    known = [word.rstrip("/") for cell in cells for word in re.findall("`(.*?)`", cell)]
    assert [file for file in Path("runs/whole").iterdir() if not any(file.match(name) for name in known)] == []
