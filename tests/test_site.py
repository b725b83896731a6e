"""The site that `make docs` builds: complete, strict, and the same without any other host."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving import serving

pytest.importorskip("mkdocs", reason="mkdocs is not installed: run `make docs`")
pytest.importorskip("latex2mathml", reason="latex2mathml is not installed: run `make docs`")

REPOSITORY = Path(__file__).parents[1]
BUILT = ("benchmarks", "docs", "e2mc", "mkdocs.yml", "studies")
BUILT += ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md")
PLACES = (
    "criteria/e2mc.html",
    "index.html",
    "fashion/index.html",
    "paper.html",
    "reference/e2mc.html",
)


def loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


browser = loaded("browser", Path(__file__).parent / "workflow/browser.py")
formulas = loaded("formulas", REPOSITORY / "docs/site/formulas.py")
hooks = loaded("hooks", REPOSITORY / "docs/site/hooks.py")
needs_chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is not installed")


def build(folder):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def sources(folder):
    """A copy of all that the site is built from."""
    for name in BUILT:
        path = REPOSITORY / name
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = sources(tmp_path_factory.mktemp("site"))
    done = build(folder)
    assert done.returncode == 0, done.stdout[-3000:]
    return folder / "site"


@pytest.fixture(scope="module")
def address(site):
    with serving(site) as found:
        yield found


@pytest.fixture
def page(tmp_path):
    with browser.Browser(tmp_path / "profile") as opened:
        yield opened


def test_every_criterion_has_a_page_with_its_formula(site):
    from e2mc.criteria import CRITERIA

    for name, kind in CRITERIA.items():
        text = (site / f"criteria/{name}.html").read_text()
        assert f'<h1 id="{kind.__name__.lower()}">{kind.__name__}' in text
        assert "<math" in text, f"the formula of {name} is not set"


def test_public_names_are_on_a_page(site):
    from importlib import import_module

    pages = "".join(path.read_text() for path in site.rglob("*.html"))
    anchors = {found.rpartition(".")[2] for found in re.findall(r'id="(e2mc\.[\w.]+)"', pages)}
    for package in hooks.PACKAGES:
        names = {name for name in import_module(package).__all__ if name[0] != "_"}
        assert names <= anchors, f"{package}: {names - anchors}"


def test_nothing_is_loaded_from_elsewhere(site):
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]* src=\"?(https?:)?//|<link[^>]*rel=\"?"
        r"(?:stylesheet|preconnect|icon)\"?[^>]*href=\"?(https?:)?//"
    )
    for path in site.rglob("*.html"):
        assert not loads.search(path.read_text()), path
    for path in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", path.read_text()), path


@needs_chromium
def test_pages_in_a_browser(page, address):
    page.command(
        "Emulation.setDeviceMetricsOverride",
        width=400,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    for place in PLACES:
        page.visit(f"{address}/{place}", 300)
        assert page.run("document.querySelector('article h1, article h2') !== null"), place
        root = "document.documentElement"
        assert page.run(f"{root}.scrollWidth <= {root}.clientWidth"), place
        assert page.run("innerWidth") == 400, place
        assert page.run("[...document.images].every(image => image.naturalWidth > 0)"), place
    assert page.complaints == []
    assert all(asked.startswith(address) for asked in page.requests)


@needs_chromium
def test_search_finds_the_criterion(page, address):
    page.visit(f"{address}/index.html?q=E2MC", 300)
    found = "document.querySelector('.md-search-result__link[href*=\"criteria/e2mc.html\"]')"
    page.wait_for(found, 120)
    assert page.complaints == []
    assert all(asked.startswith(address) for asked in page.requests)


def test_build_fails_at_what_is_wrong(tmp_path):
    """A dead link, a page in no group and a public name without a docstring, all at once."""
    folder = sources(tmp_path)
    with (folder / "docs/plug-in.md").open("a") as file:
        file.write("\n[nowhere](nowhere.md)\n")
    (folder / "docs/lost.md").write_text("# Lost\n")
    path = folder / "e2mc/entropy.py"
    text = re.sub(
        r'(def marginal_entropy\(.*?:\n)    """.*?"""\n',
        r"\1",
        path.read_text(),
        count=1,
        flags=re.DOTALL,
    )
    path.write_text(text)
    done = build(folder)
    assert done.returncode != 0
    for said in ("nowhere.md", "lost.md", "e2mc.marginal_entropy is public and has no docstring"):
        assert said in done.stdout, done.stdout[-3000:]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("1/V sum_v x_vd^2", r"\frac{1}{V} \, \sum_{v} \, x_{v d}^{2}"),
        (
            "entropy_weight * cov(u)",
            r"\text{entropy_weight} \cdot  \operatorname{cov} \left( u \right)",
        ),
        ("z^T z / N", r"z^{\top} \, z / N"),
        ("sum_{i != j} C_ij", r"\sum_{i \ne  j} C_{i j}"),
        ("sqrt(x + 1e-4)", r"\sqrt{x + 10^{-4}}"),
        ("|| M ||_*", r"\Vert  M \Vert _{*}"),
        ("mu <- pi", r"\mu  \leftarrow  \pi "),
    ],
)
def test_formula(formula, expected):
    assert formulas.latex(formula).split() == expected.split()


def test_formula_keeps_its_text_and_what_goes_on_is_one_line():
    shown = formulas.displayed("    loss = a\n         + b\n    R = c")
    assert shown.count("<math") == 2 and 'title="loss = a + b&#10;R = c"' in shown
    assert "\n" not in shown


def test_what_is_no_formula_is_left_alone():
    text = "One line.\n\nExample:\n    >>> a = 1\n\nArgs:\n    a: x = 1 here."
    assert formulas.with_formulas(text) == text
    listed = formulas.with_formulas("Terms:\n    entropy: in nats,\n    and more.")
    assert listed == "Terms:\n    * `entropy`: in nats,\n    and more."


def test_lists_go_on_four_columns_in():
    text = "1. **a**\n\n   ```python\n   x\n   ```\n\n* b\n  c\n\nd\n"
    wanted = "1. **a**\n\n    ```python\n    x\n    ```\n\n* b\n    c\n\nd\n"
    assert hooks.indented(text) == wanted
