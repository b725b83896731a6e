"""The report and the tables in a real browser, opened from disk."""

import importlib.util
import json
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
browser = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser)
needs_chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is not installed")

ROOT = "results/smoke"
FIGURES = {
    "cost of each row",
    "embeddings before and after",
    "gain over continued",
    "separability",
    "spectrum of the embeddings",
    "training curves, SwAV (long)",
    "training curves, VICReg",
}
# clicks on what says exactly this, and on the n-th of the icons that show a result
CLICK = "[...document.querySelectorAll('a,button')].find(e => e.textContent.trim() === {})?.click()"
SHOW = "document.querySelectorAll('[iconname=eye]')[{}].click()"
LOADED = "[...document.images].some(image => image.complete && image.naturalWidth > 500)"


@pytest.fixture
def page(tmp_path):
    with browser.Browser(tmp_path / "profile") as opened:
        yield opened


@needs_chromium
def test_report_shows_every_table_and_figure(finished, page, tmp_path):
    report = finished.folder / ROOT / "report.html"
    page.open(report)
    page.wait_for("document.body.innerText.includes('Figures')")
    assert "continued pre-training of self-supervised models" in page.run("document.body.innerText")
    results = json.loads(page.run("JSON.stringify(results)"))
    made = {*(finished.folder / ROOT / "figures").glob("*.png")}
    made |= {*(finished.folder / ROOT / "tables").glob("*.html")}
    assert {str(path.relative_to(finished.folder)) for path in made} == results.keys()
    for path, result in results.items():
        assert len(result["caption"]) > 200, f"{path} has no caption"
        assert result["data_uri"].startswith("data:")
    page.run(CLICK.format("'Figures'"))
    page.wait_for("document.querySelectorAll('[iconname=eye]').length >= 7")
    shown = page.run("document.body.innerText")
    assert all(figure in shown for figure in FIGURES)
    page.run(SHOW.format(0))
    page.wait_for(LOADED)
    page.screenshot(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 20_000
    for view in ("Statistics", "Workflow"):
        page.open(report)
        page.wait_for("document.body.innerText.includes('Statistics')")
        page.run(CLICK.format(f"'{view}'"))
        page.wait_for("document.querySelector('canvas, svg.marks') !== null")
    assert page.complaints == []
    assert set(page.requests) == {report.as_uri()}


@needs_chromium
def test_table_shows_the_papers_number_beside_ours(finished, page):
    table = finished.folder / ROOT / "tables/table1.html"
    page.open(table)
    text = page.run("document.body.innerText")
    assert "SwAV (long)" in text and "Beside the paper's scores" in text
    assert page.run("document.querySelectorAll('table').length") == 3
    mark = "document.querySelector('sup a')"
    assert page.run(f"document.querySelector({mark}.getAttribute('href')).innerText")
    assert page.complaints == [] and page.requests == [table.as_uri()]
