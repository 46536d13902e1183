"""The report: complete, self-contained, escaped, and written for runs of every size."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_runs import straight, write_run

from analysis.answers import text
from analysis.curves import CURVES
from analysis.load import estimates
from analysis.report import write_report
from analysis.run_backtest import run_backtest
from analysis.settle import Option
from analysis.study import study
from analysis.words import rows


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict]:
    path = tmp_path_factory.mktemp("report") / "a<b>&c"
    run = write_run(path, straight, rl=[10 ** (10 + i / 2) for i in range(6)], problems=60)
    environment = json.loads(run.environment_file.read_text())
    run.environment_file.write_text(json.dumps(environment | {"command": "scaling run --set task.name='<x>'"}))
    return run.path, write_report(run.path)


def test_every_file_is_written_and_named(written):
    path, facts = written
    names = {"report.html", "answer.json"}
    names |= {f"{name}.png" for name in ("panels", "heatmap", "frontier", "backtest", "compute", "time")}
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
    places = re.findall(r'class="chart" id="([\w-]+)"', page)
    assert sorted(re.findall(r"vegaEmbed\('#([\w-]+)'", page)) == sorted(places)
    assert len(places) == len(set(places))
    assert {"panels-0", "heatmap-0", "frontier-0", "backtest-0", "compute-0", "time-0"} <= set(places)
    assert page.count('role="img" aria-label="') == 6


def test_what_comes_from_outside_is_escaped(written):
    page = (written[0] / "report.html").read_text()
    assert "a&lt;b&gt;&amp;c" in page and "task.name=&#x27;&lt;x&gt;&#x27;" in page
    assert "a<b>" not in page and "<x>" not in page


def test_the_page_says_how_it_came_about(written):
    page = (written[0] / "report.html").read_text()
    for words in (
        "Before and after RL",
        "Would this run&#x27;s past have foreseen its end?",
        "not from this run",
        "FLOPs per problem",
        "Checkpoints",
        "ScaleRL",
        "Assumed",
        "jax 0.10.2",
        "not by their result",
        "guarded view",
        "Intervals are calibrated",
        "scaling export ",
        "Log-evidence",
        "no bound",
    ):
        assert words in page


def test_wall_time_counts_the_evaluations_by_their_own_rows(written):
    page = (written[0] / "report.html").read_text()
    (spec,) = re.findall(r"vegaEmbed\('#time-0', (.*), \{renderer", page)
    (table,) = json.loads(spec)["datasets"].values()
    seconds = {row["phase"]: row["value"] for row in table}
    evaluations = len(list((written[0] / "evals").glob("*.jsonl")))
    assert seconds["evaluation"] == pytest.approx(0.01 * evaluations * 60 * 5)
    assert seconds["compiling"] == 20


def test_the_answer_is_plain_json_and_reads_as_text(written):
    path, facts = written
    stored = json.loads((path / "answer.json").read_text())
    assert stored | {"files": facts["files"]} == json.loads(json.dumps(facts)) and len(stored["answers"]) == 4
    assert stored["answer"] == stored["sentences"]["rl"] and "points" in stored["answer"]
    rl = stored["answers"][0]
    assert rl["data_range"] == [1e10, pytest.approx(10**12.5)]
    assert [f["form"] for f in rl["fits"]] == [curve.name for curve in CURVES]
    assert all(rl["weights"][f["form"]] == f["weight"] for f in rl["fits"])
    said = text({"curves": stored["answers"], "definition": stored["definition"]})
    assert "gain from the next 10×" in said and "extrapolated to" in said and rl["definition"] in said


def test_a_run_too_short_to_fit_still_gets_its_report(tmp_path):
    run = write_run(
        tmp_path / "tiny", straight, rl=(1e10, 3e10), warm=(1e9,), problems=6, budgets=(0, 4), samples=(1, 2)
    )
    facts = write_report(run.path)
    assert "cannot tell (2 points with compute; a fit needs 4)" in facts["verdict"]
    assert all(Path(file).exists() for file in facts["files"])
    page = (run.path / "report.html").read_text()
    assert "No surface of train × test compute was fitted: 6 points; a surface needs 8." in page
    assert "No curve has enough points to hide any" in page and facts["backtest"]["forecasts"] == []
    assert "Nothing is said of more samples than were drawn: 2 of 6 problems are too few" in page
    assert not (run.path / "frontier.png").exists()


def test_a_run_stopped_in_its_warm_start_still_gets_its_report(tmp_path):
    run = write_run(tmp_path / "warm", straight, rl=(), problems=6, budgets=(0, 4), samples=(1, 2))
    assert "0 points with compute" in write_report(run.path)["verdict"]


def test_what_the_page_says_of_train_and_test_compute_and_of_more_samples_is_in_the_answer(written):
    stored = json.loads((written[0] / "answer.json").read_text())
    page = (written[0] / "report.html").read_text()
    traded, sampled = stored["train_test"], stored["more_samples"]
    assert traded["points"] == 7 * 5 and 0 <= traded["misfit"] < 0.1
    assert f"Points lie {100 * traded['misfit']:.1f} points" in page
    assert traded["rate"] is None or "Ten times the train compute is worth " in page
    assert traded["rate"] is not None or traded["reason"] in page
    assert sampled["drawn"] == 32 and list(sampled["pass"]["at"]) == ["32", "128", "2048"]
    more = [sampled["pass"]["at"][k]["median"] for k in ("32", "128", "2048")]
    assert more == sorted(more) and more[-1] <= sampled["pass"]["limit"]["hi90"] + 1e-9
    assert f"{100 * more[-1]:.1f}% (" in page and "32 (drawn)" in page


def test_every_curve_with_enough_points_is_forecast_from_its_past(written):
    path, facts = written
    page = (path / "report.html").read_text()
    made = {(one["curve"], round(one["hidden_times"], 1)): one for one in facts["backtest"]["forecasts"]}
    short = made["RL train compute", 3.2]
    assert [p["compute"] for p in short["points"]] == [pytest.approx(10**12.5)] and short["seen"] == 5
    assert len(facts["backtest"]["left_out"]) + len(made) == 8
    for one in made.values():
        assert one["inside"] == sum(p["inside"] for p in one["points"]) and one["hidden"] == len(one["points"])
        assert all(p["inside"] == (p["lo90"] <= p["came"] <= p["hi90"]) for p in one["points"])
    inside, hidden = (sum(one[name] for one in made.values()) for name in ("inside", "hidden"))
    assert f"{inside} of {hidden} lay inside their 90% interval" in page


def test_compute_by_phase_adds_up_and_commands_name_the_run(written):
    path, facts = written
    shares = [row["share"] for row in facts["compute"] if row["share"] is not None]
    assert sum(shares) == pytest.approx(1) and {row["phase"] for row in facts["compute"]} >= {"evaluation"}
    for command in facts["reproduction"]["commands"]:
        words = shlex.split(command)
        assert words[0] == "scaling" and words[2].startswith(str(path))


@pytest.mark.parametrize(
    "shape",
    [
        {"rl": (), "warm": (1e9,)},
        {"rl": (1e10,), "budgets": (8,), "samples": (1,)},
        {"rl": (1e10, 3e10), "budgets": (0,), "samples": (1, 2)},
    ],
    ids=["no RL", "one value of each axis", "no thinking"],
)
def test_a_run_of_few_points_still_gets_its_report(tmp_path, shape):
    run = write_run(tmp_path / "few", straight, problems=6, **shape)
    facts = write_report(run.path)
    assert "cannot be told" in facts["answer"] and "NaN" not in (run.path / "answer.json").read_text()


def test_a_damaged_and_an_incomplete_evaluation_are_left_out_and_said(tmp_path):
    run = write_run(tmp_path / "damaged", straight, rl=(1e10, 3e10, 1e11), problems=6, budgets=(0, 4))
    first, second, *_ = run.evaluation_names()
    run.evaluation_file(first).write_text("<script>\n")
    run.evaluation_file(second).unlink()
    facts = write_report(run.path)
    page = (run.path / "report.html").read_text()
    incomplete, damaged = facts["left_out"]
    assert incomplete == f"incomplete: {second} (not evaluated)" and f"{first}.jsonl, line 1: not JSON" in damaged
    assert incomplete in page and f"{first}.jsonl, line 1: not JSON" in page
    assert facts["numbers"]["checkpoints"] == 5


def test_a_regime_left_out_and_what_would_settle_it_are_said(written):
    curve = study(written[0]).curve("rl")
    cut = replace(curve.forecast, posterior=replace(curve.forecast.posterior, cut=3, cut_evidence=4.25))
    answer = replace(curve.answer, regime_from=3e10)
    shown = dict(rows(answer, cut.posterior))
    assert shown["earlier regime"] == "3 points before 3.0e10 FLOPs are left out; log-evidence gained 4.2"
    more = Option("problems", 4, 0.9, 0.0), Option("compute", 10, 0.4, 9.0)
    shown = dict(rows(replace(answer, settles=more), cut.posterior))
    assert shown["would settle it"] == "4× the evaluation problems (probability of a verdict 0.90)"
    shown = dict(rows(replace(answer, settles=more[1:]), cut.posterior))
    assert shown["would settle it"].startswith("nothing that was tried; most likely going on to 10× the compute")


def test_a_warm_start_is_not_asked_what_rl_brings(tmp_path):
    run = write_run(
        tmp_path / "run", straight, warm=(1e8, 1e9, 1e10, 1e11, 1e12), rl=(1e10, 1e11, 1e12), problems=20
    )
    found = run_backtest(estimates(run.path))
    assert [line for line in found.left_out if "RL is all hidden" in line and line.startswith("All train compute")]
    assert all(one.made.task.curve != "All train compute" for one in found.comparisons)
