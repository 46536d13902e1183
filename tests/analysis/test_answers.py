"""`scaling fit` as a whole: tables in, one JSON object, forecasts and files out, and one line for each mistake."""

import json

import numpy as np
import polars as pl
import pytest

from analysis.answers import Wanted, answer, facts, text
from analysis.fit import fit
from analysis.load import load
from analysis.table import TableError
from scaling.cli import main

COMPUTE = 10 ** np.linspace(9, 12, 13)


def sigmoid(compute: np.ndarray) -> np.ndarray:
    return 0.1 + 0.5 / (1 + (3e10 / compute) ** 1.5)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two curves: one with counts and holdouts, one without either."""
    rng = np.random.default_rng(0)
    counted = pl.DataFrame(
        {
            "curve": "counted",
            "compute": COMPUTE,
            "accuracy": rng.binomial(2000, sigmoid(COMPUTE)) / 2000,
            "n": 2000.0,
            "split": ["fit"] * 10 + ["holdout"] * 3,
        }
    )
    bare = pl.DataFrame({"curve": "bare", "compute": COMPUTE, "accuracy": 0.05 * np.log10(COMPUTE) - 0.3})
    file = tmp_path_factory.mktemp("tables") / "curves.csv"
    pl.concat([counted, bare], how="diagonal").write_csv(file)
    return file


@pytest.fixture(scope="module")
def made(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return answer([table], None, None, Wanted(out / "forecasts.csv", (1e13,), out / "plots")), out


def test_every_curve_has_an_answer_that_json_holds(made):
    found, _ = made
    assert json.loads(json.dumps(found, allow_nan=False))["definition"].startswith("Let D be")
    assert [one["curve"] for one in found["curves"]] == ["bare", "counted"]
    for one in found["curves"]:
        assert one["verdict"] in one["sentence"]
        assert one["asymptote"]["lo90"] <= one["asymptote"]["median"] <= one["asymptote"]["hi90"]
        assert sum(one["weights"].values()) == pytest.approx(1)
        assert one["verdict"] in text(found)


def test_holdouts_and_computes_are_forecast_and_say_what_of(made):
    found, out = made
    rows = pl.read_csv(out / "forecasts.csv")
    assert rows.columns[:7] == ["curve", "compute", "median", "lo50", "hi50", "lo90", "hi90"]
    observed, levels = rows.filter(interval="observed"), rows.filter(interval="level")
    assert observed["compute"].to_list() == pytest.approx(COMPUTE[10:])
    assert levels["compute"].to_list() == [1e13, 1e13] and len(found["predictions"]) == 2
    ends = rows.select("lo90", "lo50", "median", "hi50", "hi90").to_numpy()
    assert (np.diff(ends, axis=1) >= 0).all() and (ends >= 0).all() and (ends <= 1).all()
    truth = sigmoid(COMPUTE[10:])
    assert (observed["lo90"].to_numpy() < truth).all() and (truth < observed["hi90"].to_numpy()).all()


def test_the_holdouts_themselves_are_not_seen(table, tmp_path, made):
    other = pl.read_csv(table).with_columns(accuracy=pl.when(split="holdout").then(0.9).otherwise("accuracy"))
    other.write_csv(tmp_path / "curves.csv")
    again = answer([tmp_path / "curves.csv"], None, None, Wanted(tmp_path / "f.csv"))
    assert again["curves"] == made[0]["curves"]


def test_files_are_written_and_named(made):
    found, out = made
    assert [file.rpartition("/")[2] for file in found["files"]] == ["forecasts.csv", "curves.png", "curves.html"]
    assert (out / "plots" / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "plots" / "curves.html").read_text()
    assert "<script src" not in page and "<link" not in page


def test_a_run_is_a_path_too(saturated_study):
    found = facts(fit(load(saturated_study.run.path)))
    assert [one["curve"] for one in found["curves"]] == [c.series.name for c in saturated_study.curves]
    alike = [c.answer.verdict for c in saturated_study.curves]
    assert [one["verdict"] for one in found["curves"]] == alike


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        (["--at", "0"], "--at = 0.0: must be a compute above 0"),
        (["--predict", "f.csv"], "--predict: needs rows whose split is holdout, or computes by --at"),
        (["--predict", "f.xls", "--at", "1e13"], "--predict = f.xls: must end in .csv"),
        (["--predict", "no/such/f.csv", "--at", "1e13"], "--predict = no/such/f.csv: the folder"),
        (["--plot", "bare.csv"], "--plot = bare.csv: must be a folder"),
        (["--y", "acuracy"], "bare.csv"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_exit_2(wanted, line, table, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pl.read_csv(table).filter(curve="bare").drop("split").write_csv("bare.csv")
    code = main(["fit", "bare.csv", *wanted])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and err.startswith(line) and len(err.splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bare.csv"]


def test_nothing_to_fit_is_said(capsys):
    assert main(["fit"]) == 2
    assert capsys.readouterr().err.startswith("PATH: at least one")


def test_a_curve_of_three_points_cannot_tell(tmp_path):
    (tmp_path / "short.csv").write_text("compute,accuracy\n1,.1\n2,.2\n4,.3\n")
    with_notes = answer([tmp_path / "short.csv"], None, None, Wanted())
    (one,) = with_notes["curves"]
    assert one["verdict"] == "cannot tell" and "a fit needs 4" in one["reason"] and with_notes["notes"]


def test_where_no_curve_can_be_forecast_the_file_has_its_columns_and_no_row(tmp_path):
    lines = [f"{c},.{c},{split}" for c, split in ((1, "fit"), (2, "fit"), (3, "fit"), (9, "holdout"))]
    (tmp_path / "short.csv").write_text("\n".join(["compute,accuracy,split", *lines]))
    found = answer([tmp_path / "short.csv"], None, None, Wanted(tmp_path / "out.csv", at=(10.0,)))
    assert pl.read_csv(tmp_path / "out.csv").shape == (0, 9) and found["predictions"] == []


def test_holdouts_that_cannot_be_forecast_are_said(tmp_path):
    lines = [f"a,{c},{0.1 + 0.05 * i},fit" for i, c in enumerate((1, 2, 4, 8, 16))]
    lines += ["a,32,.35,holdout", "b,1,.1,fit", "b,2,.2,holdout", "b,4,.3,holdout", "c,1,.5,holdout"]
    (tmp_path / "some.csv").write_text("\n".join(["curve,compute,accuracy,split", *lines]))
    found = answer([tmp_path / "some.csv"], None, None, Wanted(tmp_path / "out.csv"))
    assert pl.read_csv(tmp_path / "out.csv")["curve"].to_list() == ["a"]
    said = [note for note in found["notes"] if "not forecast" in note]
    assert [note.partition(":")[0] for note in said] == ["b", "c"] and "b: 2 holdout rows" in said[0]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("metric", ["accuracy", "error", "loss"])
@pytest.mark.parametrize(
    "shape",
    ["all 0", "all 1", "constant", "noise", "cliff", "repeats", "from 0", "huge compute", "seeds", "narrow"],
)
def test_whatever_can_be_read_is_answered(shape, metric, tmp_path):
    rng = np.random.default_rng(len(shape))
    points = int(rng.integers(4, 40))
    compute = np.sort(10 ** rng.uniform(0, 0.2 if shape == "narrow" else 6, points))
    y = {"all 0": np.zeros(points), "all 1": np.ones(points), "constant": np.full(points, 0.5)}.get(
        shape, rng.uniform(size=points)
    )
    if shape == "cliff":
        y = np.where(np.arange(points) < points // 2, 0.1, 0.9)
    if shape == "repeats":
        compute = np.repeat(compute, 3)[:points]
    if shape == "from 0":
        compute[0] = 0
    if shape == "huge compute":
        compute = compute * 1e25
    columns = {"compute": compute, metric: y if metric != "loss" else 1e3 * np.maximum(y, 1e-6)}
    if metric == "accuracy":
        columns["n"] = rng.integers(1, 5000, points)
    if shape == "seeds":
        columns["seed"] = rng.integers(0, 3, points)
    pl.DataFrame(columns).write_csv(tmp_path / "any.csv")
    found = facts(fit(load(tmp_path / "any.csv"), replicates=20))
    assert json.dumps(found, allow_nan=False) and text(found)
    for one in found["curves"]:
        assert one["verdict"] in ("saturated", "not saturated", "cannot tell")


def test_bad_tables_are_named_all_at_once():
    with pytest.raises(TableError) as error:
        answer(["no.csv", "neither.tsv"], None, None, Wanted())
    assert len(error.value.lines) == 2
