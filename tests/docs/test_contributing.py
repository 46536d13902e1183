"""What CONTRIBUTING.md says to do, done: its edits fit the files of now; in a copy its tests pass after them."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks, edit

from scaling.structure import read_yaml

BLOCKS = blocks("CONTRIBUTING.md")
SECTIONS = list(dict.fromkeys(block.section for block in BLOCKS if block.file))
ENTRY = {"ruff check", "ruff format --check", "pyright"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The project after all edits of the page."""
    place = tmp_path_factory.mktemp("copy")
    for folder in ("scaling", "sweeps", "analysis", "benchmarks", "tests"):
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    for block in BLOCKS:
        if block.file:
            edit(block, place)
    return place


def ran(copy: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", *words], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_a_way_for_each_kind_of_part_of_less_than_30_lines_beside_its_tests():
    assert SECTIONS == ["A task", "An RL recipe", "A curve family", "A launcher", "A dashboard view"]
    for section in SECTIONS:
        edits = [b for b in BLOCKS if b.section == section and b.file and not b.file.startswith("tests/")]
        new = [
            line.removeprefix("+")
            for block in edits
            for line in block.text.splitlines()[1:]
            if block.language == "python" or line.startswith("+")
        ]
        assert len([line for line in new if line.strip()]) < 30, section


def test_the_edits_fit_and_what_they_make_has_the_projects_style(copy):
    ran(copy, "ruff", "check")
    ran(copy, "ruff", "format", "--check")


@pytest.mark.parametrize("section", ["A task", "An RL recipe"])
def test_what_was_added_is_known_to_the_command_line(copy, section):
    (command,) = [line for line in commands(section) if "/scaling run" in line]
    assert "parameters" in ran(copy, "scaling", *shlex.split(command)[1:], "--dry-run")


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_the_tests_of_what_was_added_pass(copy, section):
    (command,) = [line for line in commands(section) if "-m pytest" in line]
    assert re.search(r"\d+ passed", ran(copy, *shlex.split(command)[2:]))


def commands(section: str) -> list[str]:
    return [line for block in BLOCKS if block.section == section and block.language == "bash"
            for line in block.commands]  # fmt: skip


def test_commit_hooks_are_the_tools_of_the_project_and_nothing_is_fetched():
    (source,) = read_yaml((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert source["repo"] == "local" and {hook["language"] for hook in source["hooks"]} == {"system"}
    said = {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in source["hooks"]}
    assert said == ENTRY
