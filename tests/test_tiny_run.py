"""The whole experiment through the command line, as a newcomer starts it: files, answer, report, and again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from analysis.load import EXPORT_COLUMNS
from scaling import config as configs
from scaling.check import counts
from scaling.records import Run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
TINY = configs.load("tiny")
DEADLINE = 600
"""Seconds after which a command is taken to hang."""


@dataclass(frozen=True)
class Place:
    """Where commands are run."""

    folder: Path
    cache: Path
    """Of compiled programs: the test's own, so that it is empty at first."""

    def start(self, *words: str) -> subprocess.Popen:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(self.cache), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-m", "scaling", *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def scaling(self, *words: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=DEADLINE)
        return process.returncode, out, err


@dataclass(frozen=True)
class Ran:
    run: Run
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    folder = tmp_path_factory.mktemp("home")
    return Place(folder, folder / "compiled")


@pytest.fixture(scope="module")
def disturbed(place) -> tuple[Run, list[tuple[int, str, int]]]:
    """A run terminated twice, with (exit code, state, rows) after each; it compiles all, so there is time to."""
    run, seen = Run(place.folder / "disturbed"), []
    words = ("run", "tiny", "--dir", str(run.path), "--tracking.wandb=disabled")
    for rows in (4, 8):
        with place.start(*words) as process:
            began = time.monotonic()
            while process.poll() is None and _lines(run.train_file) < rows:
                assert time.monotonic() - began < DEADLINE
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=DEADLINE)
        seen.append((process.returncode, (run.read_status() or {})["state"], _lines(run.train_file)))
    seen.append((place.scaling(*words)[0], (run.read_status() or {})["state"], _lines(run.train_file)))
    return run, seen


@pytest.fixture(scope="module")
def tiny(place, disturbed) -> Ran:
    """`scaling run tiny`, where programs are compiled already."""
    return Ran(Run(place.folder / "runs" / "tiny-s0"), *place.scaling("run", "tiny"))


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _timeless(row: dict) -> dict:
    """A record without what a clock said."""
    kept = {name: value for name, value in row.items() if name not in ("time", "seconds", "compile_seconds")}
    for part in ("ledger", "metrics"):
        if part in kept:
            kept[part] = {name: value for name, value in kept[part].items() if "second" not in name}
    return kept


def test_one_command_runs_everything_and_says_what_it_found_and_where(tiny):
    assert tiny.code == 0, tiny.err
    for words in (
        "RL train compute: ",
        "cannot tell",
        "runs/tiny-s0: done",
        "report.html",
        "next: scaling export",
    ):
        assert words in tiny.out
    assert "evaluate 00000008" in tiny.err and "Traceback" not in tiny.err


def test_all_files_are_there(tiny):
    run = tiny.run
    status = run.read_status() or {}
    assert (status["state"], status["stage"]) == ("done", "report")
    for name in ("panels.png", "heatmap.png", "compute.png", "time.png"):
        assert (run.path / name).read_bytes().startswith(b"\x89PNG")
    assert configs.parse(run.config_text()) == TINY and run.config_hash() == configs.config_hash(TINY)
    assert run.environment()["command"] == "scaling run tiny"
    assert run.environment()["devices"]
    manifests = run.manifests()
    assert {m["kind"] for m in manifests} == {"threshold", "start", "end"}
    assert run.evaluation_names() == [m["name"] for m in manifests]
    assert manifests[-1]["rl_flops"] >= TINY.rl.flops
    phases = [row["phase"] for row in run.train_rows()]
    assert phases.count("warm_start") == 8 and phases.count("rl") > 10
    began = time.monotonic()
    while not list(run.path.glob("wandb/offline-run-*/*.wandb")):  # the mirror may be left behind
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.1)


def test_the_report_needs_nothing_from_elsewhere(tiny):
    page = (tiny.run.path / "report.html").read_text()
    markup = re.sub(r"(<script>).*?</script>", r"\1", page, flags=re.DOTALL)
    assert markup.count("<script") == 2
    assert not re.search(r"<link|<iframe|<img|@import|\b(src|href|url)\s*[=(]", markup)
    assert "scaling run tiny" in page


def test_the_answer_is_one_json_object(tiny):
    answer = json.loads((tiny.run.path / "answer.json").read_text())
    assert answer["seed"] == 0 and answer["verdict"] in tiny.out
    assert [found["verdict"] for found in answer["answers"]]
    assert answer["numbers"]["problems"] == TINY.evaluation.problems


def test_check_finds_nothing_wrong(tiny, place):
    counted = f"{tiny.run.path}: nothing wrong found in {counts(tiny.run.path)}\n"
    assert place.scaling("check", str(tiny.run.path)) == (0, counted, "")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_export_has_the_documented_columns_and_plausible_rows(tiny, place, suffix):
    file = place.folder / f"points.{suffix}"
    code, _, err = place.scaling("export", str(tiny.run.path), "-o", str(file))
    assert code == 0, err
    table = pl.read_csv(file) if suffix == "csv" else pl.read_parquet(file)
    assert tuple(table.columns) == EXPORT_COLUMNS
    checkpoints, budgets, samples = len(tiny.run.manifests()), 3, len(TINY.evaluation.samples)
    assert len(table) == checkpoints * budgets * (1 + 2 * samples)
    assert table.select("checkpoint", "budget", "samples", "estimator").is_unique().all()
    assert set(table["estimator"]) == {"mean", "pass", "maj"} and set(table["n"]) == {TINY.evaluation.problems}
    inside = (table["lo95"] >= 0) & (table["lo95"] <= table["accuracy"]) & (table["accuracy"] <= table["hi95"])
    assert inside.all() and table["hi95"].max() <= 1
    assert (table["test_flops"] > 0).all() and (table["train_flops"] >= table["rl_flops"]).all()
    cost = table.filter(pl.col("estimator") == "maj", pl.col("budget") == 8).sort("step", "samples")
    assert all(costs == sorted(costs) for costs in cost.group_by("step").agg("test_flops")["test_flops"].to_list())


def test_again_changes_no_record_and_prints_one_json_object(tiny, place):
    run = tiny.run
    records = [run.config_file, run.train_file, *run.evals.iterdir(), *run.checkpoints.glob("*.json")]
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in records}
    code, out, err = place.scaling("run", "tiny", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["state"], facts["run"]) == ("done", "runs/tiny-s0")
    assert {"verdict", "files", "numbers", "answers", "next"} <= facts.keys()
    assert all((place.folder / file).is_file() for file in facts["files"])
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in records} == before
    assert {*run.evals.iterdir(), *run.checkpoints.glob("*.json")} <= before.keys()


def test_terminated_it_exits_75_and_goes_on_to_the_same_records(tiny, disturbed):
    run, seen = disturbed
    assert [(code, state) for code, state, _ in seen] == [(75, "preempted"), (75, "preempted"), (0, "done")]
    rows = [rows for _, _, rows in seen]
    assert 4 <= rows[0] < rows[1] < rows[2] and rows[1] >= 8
    assert [*map(_timeless, run.train_rows())] == [*map(_timeless, tiny.run.train_rows())]
    assert [*map(_timeless, run.manifests())] == [*map(_timeless, tiny.run.manifests())]
    assert run.evaluation_names() == tiny.run.evaluation_names()
    for name in run.evaluation_names():
        ours, theirs = ({(r["problem"], r["budget"]): _timeless(r) for r in each.evaluation_rows(name)}
                        for each in (run, tiny.run))  # fmt: skip
        assert ours == theirs
