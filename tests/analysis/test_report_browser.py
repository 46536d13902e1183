"""The report in a browser: complete from its file alone, on every width and on paper."""

from pathlib import Path

import pytest
from synthetic_runs import straight, write_run

from analysis.report import write_report

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM = Path("/usr/bin/chromium")
ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PICTURES = Path(__file__).parent.parent.parent / "artifacts"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    hostile = {"task": {"name": "<script>console.error(1)</script>"}}
    path = tmp_path_factory.mktemp("browser") / "<script>alert(1)<"
    run = write_run(path, straight, problems=60, fields=hostile)
    write_report(run.path)
    return run.path / "report.html"


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there")
    PICTURES.mkdir(exist_ok=True)
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080), (390, 844)])
def test_the_page_draws_everything_asks_for_nothing_and_fits(report, browser, width, height):
    asked, said = [], []
    with browser.new_context(viewport={"width": width, "height": height}, offline=True) as context:
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto(report.as_uri())
        charts = page.locator(".chart")
        page.wait_for_function("[...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))")
        marks = charts.evaluate_all("all => all.map(c => c.querySelectorAll('svg [class*=mark-] path').length)")
        room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        page.screenshot(path=PICTURES / f"report-{width}.png", full_page=True)
        if width == 1280:
            page.pdf(path=PICTURES / "report.pdf", prefer_css_page_size=True)
    assert (asked, said) == ([report.as_uri()], [])
    assert len(marks) >= 6 and all(marks)
    assert room[0] <= room[1]
    assert report.stat().st_size < 3_000_000
