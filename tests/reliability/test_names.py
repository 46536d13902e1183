"""Every option that names a file or folder, given names that lead nowhere: a line, exit code 2 or, where the disk
is to blame, 1; never a traceback."""

import pytest

from analysis import table_files
from scaling import structure
from scaling.cli import main
from tests.analysis.synthetic_runs import saturated, write_run
from tests.reliability.tiny_runs import sample

pytestmark = pytest.mark.reliability

READ = {
    "run": ("run @ --dry-run", ".yaml"),
    "run, task.path": ("run tiny --dry-run --set task.name=problem_file --set task.path=@", ".jsonl"),
    "train, CONFIG": ("train new @", ".yaml"),
    "evaluate": ("evaluate @", ""),
    "report": ("report @", ""),
    "check": ("check @", ""),
    "plan": ("plan @", ".yaml"),
    "config": ("config @", ".yaml"),
    "fit, runs": ("fit @", ""),
    "fit, a table": ("fit @", ".csv"),
    "fit, Parquet": ("fit @", ".parquet"),
    "fit, W&B": ("fit @", ".wandb"),
    "fit --by, runs": ("fit @ --by model.width", ""),
    "fit --by, a table": ("fit @ --by curve", ".csv"),
    "backtest": ("backtest @", ".csv"),
    "export": ("export @ -o out.csv", ""),
    "dashboard": ("dashboard @ --port 70000", ""),
    "sweep": ("sweep @ --dry-run", ".yaml"),
    "sweep status": ("sweep status @", ""),
    "sweep cancel": ("sweep cancel @", ""),
    "sweep retry": ("sweep retry @", ""),
    "sweep wandb": ("sweep wandb @ --dry-run", ".yaml"),
}
WRITE = {
    "fit --predict": ("fit t.csv --predict @", ".csv"),
    "backtest --out": ("backtest t.csv --alone --out @", ".csv"),
    "export --out": ("export run --out @", ".csv"),
    "export --out, Parquet": ("export run --out @", ".parquet"),
}
FOLDER = {
    "run --dir": ("run tiny --dir @", ""),
    "train": ("train @ tiny", ""),
    "fit --plot": ("fit t.csv --plot @", ""),
    "fit --by --plot": ("fit t.csv --by curve --plot @", ""),
    "sweep --dir": ("sweep tiny --dir @", ""),
    "sweep wandb --dir": ("sweep wandb plain.yaml --dir @", ""),
}
NAMES = {
    "of 5,000 characters": "x" * 5000,
    "of 300 characters": "x" * 300,
    "with a null byte": "a\0b",
    "below a file": "file/x",
    "a circle of links": "circle",
    "empty": "",
}
NO_FILE = {"a folder": "folder", "in a folder that is not there": "no/such/x"}
"""Wrong for files alone: folders are made where they are not."""
DEVICE = {"a device": "device"}
"""/dev/full, which is read without end, and takes no byte."""
CASES = [
    *((option, name) for option in (*READ, *WRITE, *FOLDER) for name in NAMES),
    *((option, name) for option in (*READ, *WRITE) for name in NO_FILE),
    *((option, name) for option in (*READ, *FOLDER) for name in DEVICE),
]
TRIED = 60
"""Cases of the sample."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, a table, and everything of those names, whatever its ending."""
    place = tmp_path_factory.mktemp("names")
    write_run(place / "run", saturated, problems=20, rl=(1e10, 1e11, 1e12, 1e13))
    rows = [f"{10**i},{0.1 + 0.05 * i},{'fit' if i < 5 else 'holdout'},t" for i in range(6)]
    (place / "t.csv").write_text("\n".join(["compute,accuracy,split,curve", *rows]) + "\n")
    (place / "plain.yaml").write_text("base: tiny\nparameters: {seed: {values: [0, 1]}}\n")
    (place / "file").write_text("")
    for ending in {ending for _, ending in (READ | WRITE | FOLDER).values()}:
        (place / f"circle{ending}").symlink_to(f"circle{ending}")
        (place / f"folder{ending}").mkdir()
        (place / f"device{ending}").symlink_to("/dev/full")
    return place


@pytest.fixture
def refused(place, monkeypatch, capsys):
    """The one line of a command that ends with a code, and has made nothing."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(structure, "LARGEST_FILE", 10**6)
    monkeypatch.setattr(table_files, "LARGEST", 10**6)
    before = sorted(place.rglob("*"))

    def refused(words: str, name: str, code: int) -> str:
        found = main([word.replace("@", name) for word in words.split()])
        out, err = capsys.readouterr()
        assert (found, out) == (code, ""), (found, out, err)
        assert sorted(place.rglob("*")) == before
        return err.removesuffix("\n")

    return refused


@pytest.mark.slow
@pytest.mark.parametrize(("option", "name"), sample(CASES, TRIED))
def test_a_name_that_leads_nowhere_is_a_line(option, name, refused):
    words, ending = (READ | WRITE | FOLDER)[option]
    text = (NAMES | NO_FILE | DEVICE)[name]
    line = refused(words, text + ending if text else text, 2)
    assert line and line.isprintable() and len(line) < 520


@pytest.mark.parametrize(
    "option", [pytest.param(o, marks=[pytest.mark.slow] if "export" not in o else []) for o in WRITE]
)
def test_a_disk_that_is_full_is_no_bad_input(option, refused):
    words, ending = WRITE[option]
    *said, line = refused(words, f"device{ending}", 1).split("\n")
    assert line == f"device{ending}: No space left on device" and said in ([], ["1 of 1 forecasts"])
