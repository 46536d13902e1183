"""The notebooks: marimo finds nothing to say, a script says what Python says, and bad input is one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_runs import saturated, straight, write_run

pytest.importorskip("marimo", reason="the extra dashboard is not installed")

from analysis import notebook
from analysis.fit import fit
from analysis.load import load
from analysis.words import describe

pytestmark = pytest.mark.notebook
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "analysis" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
EXAMPLE = FOLDER / "s1.csv"


def script(name: str, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / name), *options]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)


def drawn(name: str, *options: str, cwd: Path) -> list[str]:
    """Lines of a notebook run as a script, which has written its figure."""
    done = script(name, *options, "--out", "figure.svg", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert (cwd / "figure.svg").read_text().startswith("<svg")
    *lines, file = done.stdout.splitlines()
    assert file == "figure.svg"
    return lines


# Fast -------------------------------------------------------------------------------------------------------


def test_marimo_finds_nothing_to_say():
    command = [sys.executable, "-m", "marimo", "check", "--strict", *map(str, NOTEBOOKS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert len(NOTEBOOKS) == 4 and done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_first_what_it_answers_and_how_to_run_it(path):
    text = path.read_text()
    assert re.match(r'"""[A-Z][^\n]+[.?]\n', text)
    assert f"\npython analysis/notebooks/{path.name} --path " in text
    assert f"\nmarimo run analysis/notebooks/{path.name} -- --path " in text


def test_the_example_names_its_source_and_has_whole_counts():
    frame = load(EXAMPLE)
    assert frame["source"].str.contains("arXiv 2501.19393").all()
    assert frame.group_by("curve").len().sort("curve").rows() == [
        ("AIME24", 7),
        ("GPQA Diamond", 5),
        ("MATH500", 5),
    ]
    assert set(frame["n"]) == {30, 198, 500} and (frame["successes"] % 1 == 0).all()


def test_where_notebooks_look_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert notebook.newest_run() == notebook.newest_sweep() == ""
    folders = ["runs/old", "runs/new", "runs/sweep/a", "runs/sweep/b", "runs/single/a"]
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text("seed: 0\n")
    os.utime("runs/old", (1, 1))
    assert notebook.newest_run() == "runs/new"
    assert notebook.newest_sweep() == "runs/sweep"


def test_what_is_shown_is_text_and_never_markup():
    assert "<li>a &lt;b&gt; *c*</li>" in notebook.lines(["a <b> *c*"]).text


def test_the_summary_says_a_row_a_curve(saturated_study):
    table = notebook.summary(saturated_study.curves)
    assert table["curve"].to_list() == [curve.series.name for curve in saturated_study.curves]
    assert table["verdict"].to_list() == [curve.answer.verdict for curve in saturated_study.curves]
    assert set(table.filter(verdict="cannot tell")["probability"]) <= {""}


# As scripts -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_o1_figure_says_what_a_study_says(saturated_study, tmp_path):
    said = drawn("o1_figure.py", "--path", str(saturated_study.run.path), cwd=tmp_path)
    assert said == [describe(curve.answer) for curve in saturated_study.curves]


@pytest.mark.slow
def test_without_a_path_the_example_gets_its_verdict(tmp_path):
    source, *said = drawn("csv_verdict.py", cwd=tmp_path)
    assert "arXiv 2501.19393" in source
    assert said == [describe(curve.answer) for curve in fit(load(EXAMPLE)).curves]


@pytest.mark.slow
def test_arms_are_told_apart_by_what_varies(tmp_path):
    for width, truth in ((32, straight), (64, saturated)):
        run = tmp_path / "runs" / "widths" / f"width{width}"
        write_run(run, truth, problems=128, budgets=(8, 32), samples=(1, 2), fields={"model": {"width": width}})
    verdict, *notes = drawn("sweep_arms.py", cwd=tmp_path)
    assert verdict.startswith("Best at 2.5e12: width 64 (probability")
    assert notes == [f"width {width}: one run, so how seeds differ is not in its intervals" for width in (32, 64)]


@pytest.mark.slow
def test_train_compute_has_its_price_in_test_compute(saturated_study, tmp_path):
    (said,) = drawn("train_test_exchange.py", "--path", str(saturated_study.run.path), cwd=tmp_path)
    assert re.fullmatch(r"10× train compute is worth \S+× test compute \(90%: \S+× to \S+×\)\.", said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "o1_figure.py",
            [],
            "No run here yet: `scaling run demo` makes one; or name a run's directory by --path.",
        ),
        ("train_test_exchange.py", ["--path", "nowhere"], "nowhere: not a run directory (it has no config.yaml)"),
        ("sweep_arms.py", ["--pth", "runs"], "--pth: unknown; known: --path, --by, --out"),
        ("csv_verdict.py", ["--path", "nowhere.csv"], "nowhere.csv: No such file or directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(name, options, said, tmp_path):
    done = script(name, *options, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said + "\n")
