"""What the pages name is there: modules and what is in them, files, links."""

import ast
import re
from functools import cache

import pytest
from pages import PAGES, ROOT, blocks, prose

from tests.test_structure import MODULES

NAME = re.compile(r"\b(?:scaling|sweeps|analysis|benchmarks)(?:\.\w+)+")
TOP = ("scaling", "sweeps", "analysis", "benchmarks", "tests", "docs")
FILES = {str(file.relative_to(ROOT)) for folder in TOP for file in (ROOT / folder).rglob("*")}


def defined(node: ast.stmt) -> set[str]:
    """What a statement gives a name to."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return {target.id for target in targets if isinstance(target, ast.Name)}


@cache
def statements(module: str) -> tuple[ast.stmt, ...]:
    return tuple(ast.parse(MODULES[module].read_text()).body)


def is_there(name: str) -> bool:
    """Whether a dotted name is a module or package, or stands in one: a function, a class, its method or field."""
    parts = name.split(".")
    if (ROOT / "/".join(parts)).is_dir():
        return True
    length = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in MODULES), 0)
    inside = statements(".".join(parts[:length])) if length else ()
    for part in parts[length:]:
        node = next((node for node in inside if part in defined(node)), None)
        if node is None:
            return False
        inside = node.body if isinstance(node, ast.ClassDef) else ()
    return length > 0


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("scaling.tasks", True),
        ("scaling.tasks.root_search", True),
        ("scaling.train.Trainer.advance", True),
        ("scaling.config.RLConfig.flops", True),
        ("scaling.cli.COMMANDS", True),
        ("scaling.train.Trainer.retreat", False),
        ("scaling.train.advance", False),
        ("scaling.train.train.stop", False),
        ("scaling.nowhere", False),
    ],
)
def test_a_name_is_looked_up_in_the_source(name, there):
    assert is_there(name) == there


@pytest.mark.parametrize("page", PAGES)
def test_every_dotted_name_is_there(page):
    drawings = "".join(block.text for block in blocks(page) if not block.language)
    assert [name for name in NAME.findall(prose(page) + drawings) if not is_there(name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    """By its whole path, or by the end of one."""
    made = {block.file for block in blocks(page)}
    words = re.findall(r"`([\w./-]+)`", prose(page))
    paths = {word.rstrip("/") for word in words if word.partition("/")[0] in TOP or word.endswith(".py")}
    missing = [path for path in paths - made - FILES if not any(file.endswith(f"/{path}") for file in FILES)]
    assert missing == []


@pytest.mark.parametrize("package", ["scaling", "analysis", "sweeps"])
def test_the_readme_says_what_every_module_is_for(package):
    rows = [row for row in prose("README.md").splitlines() if row.startswith(f"| `{package}/")]
    named = {
        name.removeprefix(f"{package}/") for row in rows for name in re.findall(r"`([\w./]+)`", row.split("|")[1])
    }
    there = {file.name for file in (ROOT / package).glob("[!_]*.py")}
    assert there - named == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_the_project_leads_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", prose(page))
    folder = (ROOT / page).parent
    assert [link for link in links if "://" not in link and not (folder / link.partition("#")[0]).exists()] == []


def test_the_page_on_the_architecture_follows_a_problem_through_every_stage():
    (drawing,) = [block.text for block in blocks("docs/architecture.md") if "a seed" in block.text]
    modules = {".".join(name.split(".")[:2]) for name in NAME.findall(drawing)}
    stages = {"tasks", "rl", "objectives", "learner", "flops", "train", "checkpoints", "evaluate", "closing"}
    assert {f"scaling.{stage}" for stage in stages} <= modules and "analysis.saturation" in modules
