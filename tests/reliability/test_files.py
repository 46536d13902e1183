"""What is read is data and never code; what is written holds no secret and stays where it belongs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.environment import environment
from tests.analysis.synthetic_runs import saturated, write_run

pytestmark = pytest.mark.reliability

ROOT = Path(__file__).parents[2]
SOURCES = [file for name in ("scaling", "analysis", "sweeps") for file in sorted((ROOT / name).rglob("*.py"))]
BANNED = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.UnsafeLoader", "yaml.FullLoader"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open"),
    *("np.load", "numpy.load", "torch.load", "joblib.load", "dill.load", "dill.loads", "cloudpickle.loads"),
    *("pl.DataFrame.deserialize", "pd.read_pickle", "tempfile.mktemp"),
}
ALLOWED = {
    ("scaling/structure.py", "yaml.load"): "with a loader derived from SafeLoader",
    ("analysis/configs.py", "yaml.load"): "with the safe loader, in C where there is one",
    ("scaling/hosts.py", "pickle.loads"): "what another host of the same run sent; never a file",
}
SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdefcanary01",
    "AWS_SECRET_ACCESS_KEY": "canary-aws-8f1c",
    "HF_TOKEN": "hf_canary9d2e",
    "GITHUB_TOKEN": "ghp_canary77aa",
    "UNRELATED_PASSWORD": "canary-password-51",
}


def calls(file: Path) -> set[str]:
    """Every banned name that a file calls or passes on, and `shell=True`."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in BANNED:
            found.add(ast.unparse(node))
        if isinstance(node, ast.keyword) and node.arg == "shell" and ast.unparse(node.value) != "False":
            found.add("shell=True")
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "marshal", "shelve", "dill"):
            found.add(f"from {node.module}")
    return found


def test_nothing_that_is_read_can_run_code():
    found = {(str(file.relative_to(ROOT)), name) for file in SOURCES for name in calls(file)}
    assert found == set(ALLOWED)


def test_yaml_is_read_in_two_places_by_a_safe_loader():
    readers = {str(f.relative_to(ROOT)) for f in SOURCES if re.search(r"yaml\.(safe_)?load\(", f.read_text())}
    assert readers == {"scaling/structure.py", "analysis/configs.py"}
    assert all("yaml.SafeLoader" in (ROOT / file).read_text() for file in readers)


def files_with(folder: Path, texts: list[str]) -> list[str]:
    return [
        f"{file.relative_to(folder)}: {text}"
        for file in folder.rglob("*")
        if file.is_file()
        for text in texts
        if text.encode() in file.read_bytes()
    ]


def test_the_environment_of_a_run_is_a_fixed_list_of_facts(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    facts = environment(["scaling", "run"])
    assert facts.keys() == {
        *("time", "command", "git_commit", "python", "platform", "host", "cpus", "devices", "packages"),
    }
    assert not any(secret in str(facts) for secret in SECRETS.values())


@pytest.mark.slow
def test_no_secret_reaches_a_record_a_report_or_the_output(tmp_path):
    """A whole run with the W&B mirror on; nothing that it writes or prints holds a secret of its environment."""
    words = (
        "rl.flops=1e8",
        "warm_start.stages.0.steps=2",
        "warm_start.stages.1.steps=2",
        "tracking.wandb=offline",
    )
    command = [sys.executable, "-m", "scaling", "run", "tiny", "--dir", str(tmp_path / "run")]
    command += [word for setting in words for word in ("--set", setting)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env |= SECRETS | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "environment.json").is_file() and (tmp_path / "run" / "report.html").is_file()
    assert files_with(tmp_path, list(SECRETS.values())) == []
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS.values())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run", saturated, problems=20, rl=(1e10, 1e11, 1e12, 1e13))


@pytest.mark.parametrize("out", ["no/such/points.csv", "points.xls", "x" * 300 + ".csv", "."])
def test_a_file_that_cannot_be_written_is_one_line(out, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run.path), "-o", out]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_run_behind_a_symbolic_link_is_that_run_and_a_circle_of_links_is_none(run, tmp_path, capsys):
    (tmp_path / "link").symlink_to(run.path)
    assert main(["export", str(tmp_path / "link"), "-o", str(tmp_path / "linked.csv")]) == 0
    assert main(["export", str(run.path), "-o", str(tmp_path / "itself.csv")]) == 0
    linked, itself = ((tmp_path / name).read_text() for name in ("linked.csv", "itself.csv"))
    assert linked.replace(str(tmp_path / "link"), str(run.path)).count("\n") == itself.count("\n")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    capsys.readouterr()
    assert main(["export", str(tmp_path / "circle"), "-o", str(tmp_path / "circle.csv")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "circle.csv").exists()
