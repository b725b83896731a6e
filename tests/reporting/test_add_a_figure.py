"""The example of docs/add-a-figure.md, followed to the letter in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/add-a-figure.md").read_text(encoding="utf-8")


def block(number: int, language: str) -> str:
    """The n-th fenced block of the page in a language."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(found[number])


def add(folder: Path, pattern: str, text: str) -> None:
    """Writes a file that the page names, e.g. `docs/page.md`."""
    [name] = set(re.findall(rf"`({pattern})`", PAGE))
    assert not (folder / name).exists()
    (folder / name).write_text(text, encoding="utf-8")


def test_figure_of_the_page_is_one_file_and_one_line(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("e2mc", "studies", "checkpoints", "workflow/report", "tests/reporting"):
        shutil.copytree(REPOSITORY / part, tmp_path / part, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    add(tmp_path, r"e2mc/reporting/rank\w+\.py", block(0, "python"))
    add(tmp_path, r"workflow/report/\w+\.rst", block(0, "rst"))
    add(tmp_path, r"tests/reporting/test_rank\w+\.py", block(2, "python"))
    registry = tmp_path / "e2mc/reporting/__init__.py"
    [line] = re.findall(r"`(\w+,)` in `PARTS`", PAGE)
    text = registry.read_text(encoding="utf-8").replace("\nPARTS = (", f"\nPARTS = (\n    {line}")
    text = text.replace("\nfrom e2mc.study", f"\n{block(1, 'python')}from e2mc.study")
    registry.write_text(text, encoding="utf-8")
    # its own test, and those of the registry, which make it from results
    tests = [f"tests/reporting/test_{name}.py" for name in ("rank_and_score", "parts")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
