"""The report: complete, self-contained, escaped, and written for runs of every size."""

import json
import re
from pathlib import Path

import pytest
from synthetic_runs import straight, write_run

from analysis.report import fit_run, format_answer, write_report


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict]:
    path = tmp_path_factory.mktemp("report") / "a<b>&c"
    run = write_run(path, straight, rl=[10 ** (10 + i / 2) for i in range(6)], problems=60)
    return run.path, write_report(run.path, "scaling run --set task.name='<x>'")


def test_every_file_is_written_and_named(written):
    path, facts = written
    names = {"report.html", "panels.png", "heatmap.png", "compute.png", "time.png", "answer.json"}
    assert {Path(file).name for file in facts["files"]} == names
    assert all(Path(file).stat().st_size > 1000 for file in facts["files"])
    assert (path / "panels.png").read_bytes().startswith(b"\x89PNG")
    assert "RL train compute: " in facts["verdict"] and facts["numbers"]["problems"] == 60


def test_the_page_needs_nothing_else_and_stays_small(written):
    page = (written[0] / "report.html").read_text()
    assert len(page.encode()) < 3_000_000
    outside_of_scripts = re.sub(r"(<script>).*?</script>", r"\1", page, flags=re.DOTALL)
    assert outside_of_scripts.count("<script") == 2
    assert not re.search(r"\b(src|href|url)\s*[=(]|@import", outside_of_scripts)
    assert page.count("vegaEmbed('#") == 4


def test_what_comes_from_outside_is_escaped(written):
    page = (written[0] / "report.html").read_text()
    assert "a&lt;b&gt;&amp;c" in page and "task.name=&#x27;&lt;x&gt;&#x27;" in page
    assert "a<b>" not in page and "<x>" not in page


def test_the_page_says_how_it_came_about(written):
    page = (written[0] / "report.html").read_text()
    for words in (
        "Before and after RL",
        "Checkpoints",
        "ScaleRL",
        "Assumed",
        "jax 0.10.2",
        "not by its result",
    ):
        assert words in page


def test_wall_time_counts_the_evaluations_by_their_own_rows(written):
    page = (written[0] / "report.html").read_text()
    (spec,) = re.findall(r"vegaEmbed\('#time', (.*), \{renderer", page)
    (table,) = json.loads(spec)["datasets"].values()
    seconds = {row["phase"]: row["value"] for row in table}
    evaluations = len(list((written[0] / "evals").glob("*.jsonl")))
    assert seconds["evaluation"] == pytest.approx(0.01 * evaluations * 60 * 5)
    assert seconds["compiling"] == 20


def test_the_answer_is_plain_json_and_reads_as_text(written):
    path, facts = written
    stored = json.loads((path / "answer.json").read_text())
    assert stored["verdict"] == facts["verdict"] and len(stored["answers"]) == 4
    rl = stored["answers"][0]
    assert rl["data_range"] == [1e10, pytest.approx(10**12.5)] and rl["fits"][1]["form"] == "sigmoid"
    text = format_answer(fit_run(path))
    assert "gain from the next 10×" in text and "extrapolated to" in text and rl["definition"] in text


def test_a_run_too_short_to_fit_still_gets_its_report(tmp_path):
    run = write_run(
        tmp_path / "tiny", straight, rl=(1e10, 3e10), warm=(1e9,), problems=6, budgets=(0, 4), samples=(1, 2)
    )
    facts = write_report(run.path)
    assert "cannot tell (2 points with compute; a fit needs 4)" in facts["verdict"]
    assert all(Path(file).exists() for file in facts["files"])


def test_a_run_stopped_in_its_warm_start_still_gets_its_report(tmp_path):
    run = write_run(tmp_path / "warm", straight, rl=(), problems=6, budgets=(0, 4), samples=(1, 2))
    assert "0 points with compute" in write_report(run.path)["verdict"]
