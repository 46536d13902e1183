"""The house: which module may import which, read from the source."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("scaling", "analysis", "sweeps", "benchmarks")
FRONT_DOOR = {"scaling.cli", "scaling.stages"}
"""The only ones of scaling that may open the other two houses, and only when called."""
RECORDS = {"scaling.records", "scaling.files", "scaling.processes", "scaling.quantities"}
"""The files of a run, how files survive a crash, how amounts are said: standard library only."""
LIVE = {
    "analysis.dashboard.watch": "scaling.status",  # what a status says, as sweeps have it
    "analysis.dashboard.overview": "scaling.schedule",  # where the next checkpoint falls
    "analysis.dashboard.serve": "scaling.structure",  # bad input, as commands say it
}
"""What the page that shows runs at work shares with those that make them, beside the records."""


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imports(name: str, *, at_start: bool = False) -> set[str]:
    """What a module imports, as dotted names; `at_start`: only what runs when it is imported itself."""
    tree = ast.parse(MODULES[name].read_text())
    found: set[str] = set()
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{name}: imports are absolute"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {path if path in MODULES else node.module for path in inside}
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not (at_start and (later or typing_only)):
            todo += ast.iter_child_nodes(node)
    return found


def package(name: str) -> str:
    return name.partition(".")[0]


def test_the_source_is_found():
    assert {"scaling.cli", "scaling.records", "scaling.tasks.root_search", "analysis.report"} <= MODULES.keys()
    assert "scaling.records" in imports("scaling.train") and "analysis.report" in imports("scaling.stages")
    assert "analysis.report" not in imports("scaling.stages", at_start=True)


@pytest.mark.parametrize("name", [name for name in MODULES if package(name) == "scaling"])
def test_scaling_imports_neither_sweeps_nor_analysis_but_for_its_front_door(name):
    others = {other for other in imports(name) if package(other) in ("analysis", "sweeps")}
    assert not others or name in FRONT_DOOR
    assert not {other for other in imports(name, at_start=True) if package(other) in ("analysis", "sweeps")}


@pytest.mark.parametrize("name", [name for name in MODULES if package(name) == "analysis"])
def test_analysis_imports_of_scaling_only_the_records(name):
    allowed = RECORDS | {LIVE.get(name)}
    assert {o for o in imports(name) if package(o) in ("scaling", "sweeps")} <= allowed


@pytest.mark.parametrize("name", [name for name in MODULES if package(name) in ("sweeps", "benchmarks")])
def test_sweeps_ask_analysis_as_a_process_and_nobody_needs_benchmarks(name):
    theirs = {"sweeps": ("scaling",), "benchmarks": ("scaling", "analysis")}[package(name)]
    assert {package(o) for o in imports(name)} & set(PACKAGES) <= {package(name), *theirs}


def test_the_records_need_the_standard_library_only():
    for name in (*RECORDS, "scaling"):
        assert {package(other) for other in imports(name) - RECORDS} <= sys.stdlib_module_names


def test_no_import_goes_in_a_circle():
    graph = {name: imports(name, at_start=True) & MODULES.keys() for name in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_analysis_starts_without_building_a_model():
    code = "import sys, analysis.report; print([m for m in sys.modules if m.startswith(('scaling', 'flax'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(ast.literal_eval(done.stdout)) == {"scaling", *RECORDS}


def test_the_overview_of_runs_starts_without_the_libraries_of_charts_and_fits():
    heavy = {"jax", "altair", "polars", "scipy"}
    code = f"import sys, analysis.dashboard.overview; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_modules_fit_in_one_head():
    long = {name: lines for name, file in MODULES.items() if (lines := len(file.read_text().splitlines())) > 400}
    assert not long
