"""The dashboard in a browser, over runs that are being written and over runs that are damaged."""

import json
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from synthetic_runs import replay, saturated, write_run

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[3]
PICTURES = ROOT / "artifacts" / "dashboard"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
OURS = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
PATIENCE = 240_000
"""Milliseconds until an element has to be there: a test asks whether, and never how fast."""
FIELDS = {
    "rl": {"flops": 1e12, "recipe": "cispo"},
    "schedule": {"points_per_decade": 5, "rl_first": 1e10, "train_points_per_decade": 1, "first": 1e9},
    "warm_start": {"stages": [{"steps": 40}]},
}
GRID = {"rl": tuple(10 ** (10 + i / 3) for i in range(7)), "problems": 60, "fields": FIELDS}

pytest.importorskip("marimo", reason="needs the extra dashboard: pip install 'scaling[dashboard]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}: apt install chromium"),
]


@contextmanager
def served(root, *words):
    """The address of a dashboard of a folder."""
    command = [sys.executable, "-m", "scaling", "dashboard", str(root), *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().rpartition(" ")[2].strip()
        finally:
            server.terminate()


@contextmanager
def opened(address, **looks):
    """A page whose requests all stay on this machine and whose console stays without errors."""
    outside, errors = [], []
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 800}, **looks)
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: None if request.url.startswith(OURS) else outside.append(request.url))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
        for attempt in range(60):
            try:
                page.goto(address)
                break
            except sync_api.Error:
                if attempt == 59:
                    raise
                time.sleep(1)
        page.wait_for_selector(".summary, .note")
        errors.clear()  # what the browser said while the server was still starting
        yield page
        browser.close()
    assert outside == [] and errors == []


def tab(page, name, shows):
    """Open a view; what the one before it showed stays until it is there."""
    page.get_by_role("tab", name=name, exact=True).click()
    page.wait_for_selector(f"[data-view='{name}']", state="attached")
    page.wait_for_selector(shows)


def choose(page, option):
    """Take an option of the list that has it."""
    lists = page.locator("select").filter(has=page.locator("option", has_text=option))
    lists.first.select_option(label=option)


def picture(page, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    for width, height in ((1280, 800), (1920, 1080)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(1000)
        page.screenshot(path=PICTURES / f"{name}-{width}.png")
        assert page.evaluate("document.querySelector('#App').scrollWidth <= innerWidth"), "scrolls sideways"


CHART = ".vega-embed svg, .vega-embed canvas"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_shows_a_run_as_it_is_written(tmp_path, theme):
    whole = write_run(tmp_path / "whole", saturated, **GRID)
    runs = tmp_path / "runs"
    write_run(runs / "other", saturated, seed=1, **GRID)
    writing = replay(whole, runs / "grows")
    for _ in range(8):
        next(writing)
    with served(runs, "--theme", theme) as address, opened(address) as page:
        grows = page.locator("tr", has_text="grows")
        grows.get_by_text("8 saved").wait_for()
        picture(page, f"{theme}-overview")
        last = next(writing)
        grows.get_by_text("9 saved").wait_for()
        tab(page, "Problems", ".card")
        picture(page, f"{theme}-problems")
        choose(page, last)
        page.get_by_text(f"checkpoint {last}").first.wait_for()
        last = next(writing)
        page.locator(f"option:text-is('{last}')").wait_for(state="attached")
        for name in ("Two panels", "Train × test", "RL health"):
            tab(page, name, CHART)
            picture(page, f"{theme}-{name.lower().replace(' ', '-').replace('×', 'by')}")
        assert list(writing)
        tab(page, "Overview", ".runs")
        grows.locator(".chip.done").wait_for()


def test_a_folder_of_damaged_and_hostile_runs_is_shown_whole(tmp_path):
    runs, secret = tmp_path / "runs", tmp_path / "outside"
    whole = write_run(tmp_path / "whole", saturated, **GRID)
    write_run(secret, saturated, **GRID)
    hostile = "<script>alert(1)<img src=x onerror=alert(2)>"
    for name in (hostile, "torn", "garbage", "old", "unevaluated", "going", "linked"):
        shutil.copytree(whole.path, runs / name)
    (runs / "empty").mkdir()
    (runs / "half" / "checkpoints").mkdir(parents=True)
    (runs / "link").symlink_to(secret)
    with open(runs / "torn" / "train.jsonl", "ab") as file:
        file.write(b'{"step": 9')
    with open(runs / "garbage" / "train.jsonl", "ab") as file:
        file.write(b"\xff<script>alert(3)</script>\n")
    (runs / "old" / "status.json").write_text('{"state": "running"}')
    shutil.rmtree(runs / "unevaluated" / "evals")
    shutil.rmtree(runs / "linked" / "evals")
    (runs / "linked" / "evals").symlink_to(secret / "evals")
    for file in (runs / hostile / "evals").iterdir():
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        shown = {"prompt": "../../etc/passwd", "text": "<script>alert(4)</script><answer> <b>7</b>"}
        rows = [row | ({"shown": row["shown"] | shown} if "shown" in row else {}) for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with served(runs) as address, opened(address) as page:
        for name in (hostile, "torn", "garbage", "old", "unevaluated", "going", "linked", "empty", "half"):
            page.locator(".runs td:first-child", has_text=name).first.wait_for()
        assert page.locator(".runs tbody tr").count() == 9
        picture(page, "hostile-overview")
        shutil.rmtree(runs / "going")
        page.locator(".runs td:first-child", has_text="going").wait_for(state="detached")
        tab(page, "Problems", "select")
        choose(page, hostile)
        page.get_by_text("<script>alert(4)</script>").first.wait_for()
        picture(page, "hostile-problems")
        for name in ("Two panels", "Train × test", "RL health"):
            tab(page, name, f"{CHART}, .damaged, .note")
