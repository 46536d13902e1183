"""`scaling fit --by`: what is printed, written and drawn, from runs on disk."""

import json

import pytest
from synthetic_runs import thinking, write_run

from analysis.answers import TableError
from analysis.arms import DEFINITION
from analysis.arms_plot import COLOURS
from analysis.arms_words import answer, text
from analysis.quantities import chance
from scaling.cli import main


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two widths of two seeds; the wider ends .2 higher."""
    folder = tmp_path_factory.mktemp("sweep")
    for width, end in ((32, 0.5), (64, 0.8)):
        for seed in (0, 1):
            write_run(
                folder / f"w{width}-s{seed}",
                lambda c, budget, end=end: 0.1 + (end - 0.1) * thinking(budget) / (1 + 5e10 / max(c, 1.0)),
                seed=seed, problems=100, budgets=(8,), samples=(1, 4), fields={"model": {"width": width}},
            )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def drawn(sweep, tmp_path_factory):
    plots = tmp_path_factory.mktemp("plots")
    return answer([sweep], ["model.width"], None, None, (5e13,), plots), plots


def test_facts_are_plain_data_and_name_every_arm_pair_and_compute(drawn):
    facts, _ = drawn
    json.dumps(facts)
    assert [(a["arm"], a["runs"]) for a in facts["arms"]] == [("width 32", 2), ("width 64", 2)]
    assert [(p["first"], p["second"]) for p in facts["pairs"]] == [("width 32", "width 64")]
    assert 5e13 in [win["compute"] for win in facts["wins"]]
    assert all(set(win["probability"]) == {"width 32", "width 64"} for win in facts["wins"])


def test_the_text_says_who_wins_and_what_the_words_mean(drawn):
    facts, _ = drawn
    shown = text(facts)
    assert shown.startswith("Best at 2.5e12: width 64 (probability > 0.99)")
    assert "width 32 against width 64" in shown and "width 64 is better" in shown
    assert shown.endswith(DEFINITION)


def test_the_figure_has_a_colour_an_arm_and_is_written_whole(drawn):
    facts, plots = drawn
    assert facts["files"] == [str(plots / "arms.png"), str(plots / "arms.html")]
    assert (plots / "arms.png").read_bytes().startswith(b"\x89PNG")
    html = (plots / "arms.html").read_text()
    assert all(colour in html for colour in COLOURS[:2]) and "width 64" in html


def test_the_command_prints_one_object(sweep, capsys):
    assert main(["fit", str(sweep), "--by", "model.width", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {
        "verdict", "definition", "calibration", "arms", "compared", "pairs", "wins", "notes", "files",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--by", "model.widht"], "--by model.widht: unknown field; did you mean 'model.width'?"),
        (["--by", "model.width", "--predict", "x.csv"], "--predict: not with --by"),
        (["--by", "model.width", "--at", "-1"], "--at = -1.0: must be a compute above 0"),
    ],
)
def test_bad_input_is_a_line_and_exit_code_2(sweep, capsys, args, message):
    assert main(["fit", str(sweep), *args]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_a_plot_needs_a_folder(sweep, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TableError, match="must be a folder"):
        answer([sweep], ["model.width"], None, None, (), tmp_path / "file")


@pytest.mark.parametrize(("p", "shown"), [(0.995, "> 0.99"), (0.99, "0.99"), (0.5, "0.50"), (0.001, "< 0.01")])
def test_what_is_all_but_certain_is_not_told_apart(p, shown):
    assert chance(p) == shown
