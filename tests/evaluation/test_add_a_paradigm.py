"""The example of docs/add-a-paradigm.md, followed to the letter in a copy of the package."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from e2mc.data.images import ImageSet, Splits

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/add-a-paradigm.md").read_text(encoding="utf-8")
CLASSES = tuple("abcdefghij")
AFTERWARDS = """
import contextlib
import io
import json
import sys

from e2mc.cli import main
from e2mc.cli.estimate import Rates, estimate
from e2mc.evaluation.centroid import Centroid
from e2mc.study import load_study


def said(words):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(words) == 0, words
    return out.getvalue()


found = [said(words) for words in json.loads(sys.argv[1])]
paper = load_study("paper")
table = paper.tables["table1"].model_copy(update={"columns": ("means",)})
changes = {"paradigms": {"means": Centroid(label="means")}, "tables": {"table1": table}}
rates = Rates(dict.fromkeys(["vicreg", "swav", "simsiam", "features"], 1.0))
costs = estimate(paper.model_copy(update=changes), rates).frame.set_index(["base", "arm"])
print(json.dumps([*found, costs.loc[("simsiam", "base"), "frozen"] * 3600]))
"""


def block(number: int, language: str) -> str:
    """The n-th fenced block of the page in a language."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(found[number])


def commands(number: int) -> list[list[str]]:
    """The words of each command of the page's n-th block of them."""
    return [shlex.split(line) for line in block(number, "sh").splitlines()]


def images(count: int, seed: int, size: int = 28, *, several: bool = False) -> ImageSet:
    """Noise; the classes differ in where it is bright."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 128, (count, 1, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % len(CLASSES)
    for row, label in enumerate(labels.tolist()):
        pixels[row, :, 2 * label : 2 * label + 4] += 100
    if several:
        labels = (labels[:, None] == torch.arange(len(CLASSES))).to(torch.uint8)
    return ImageSet(pixels, labels, CLASSES)


class Copy:
    """A checkout with a copy of the package, in which the page is followed."""

    def __init__(self, checkout):
        self.checkout, self.folder = checkout, checkout.folder
        ignored = shutil.ignore_patterns("__pycache__")
        for part in ("e2mc", "tests/evaluation"):
            shutil.copytree(REPOSITORY / part, self.folder / part, ignore=ignored)
        shutil.copy(REPOSITORY / "pyproject.toml", self.folder)

    def add(self, pattern: str, text: str) -> str:
        """Writes a file that the page names."""
        [name] = set(re.findall(rf"`({pattern})`", PAGE))
        assert not (self.folder / name).exists()
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def insert(self, file: str, after: str, text: str) -> None:
        """Writes a text into a file, after the one place where a pattern is found."""
        path = self.folder / file
        content = path.read_text(encoding="utf-8")
        [place] = re.finditer(after, content, re.MULTILINE)
        path.write_text(content[: place.end()] + text + content[place.end() :], encoding="utf-8")

    def run(self, *words: str) -> str:
        """What a program of this Python says."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.checkout.environment() | {"PYTHONPATH": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def results(self) -> dict[str, str]:
        """Paradigm -> result file of the run that the page asks for."""
        folder = self.folder / "results/fashion/evaluations/vicreg/base/base0"
        return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}


@pytest.fixture
def copy(checkout):
    copy = Copy(checkout)
    data = copy.folder / "results/fashion/data"
    data.mkdir(parents=True)
    for name in ("images", "digits"):
        Splits(images(1000, 0), images(50, 1), images(320, 2)).save(data / f"{name}.pt")
    outfits = [images(40, seed, 56, several=True) for seed in range(3)]
    Splits(*outfits).save(data / "outfits.pt")
    return copy


def test_paradigm_of_the_page_is_one_file_one_line_and_one_column(copy):
    file = copy.add(r"e2mc/evaluation/c\w+\.py", block(0, "python"))
    copy.add(r"tests/evaluation/test_c\w+\.py", block(2, "python"))
    name = block(1, "python").strip().rstrip(",").split()[-1]
    registry = "e2mc/evaluation/__init__.py"
    copy.insert(registry, r"^PARADIGMS: .*\{\n", f"    {block(1, 'python')}")
    copy.insert(
        registry,
        r"^from __future__ .*\n\n",
        f"from e2mc.evaluation.{Path(file).stem} import {name}\n",
    )
    column = block(0, "yaml").partition(":")[0]
    copy.insert("studies/fashion.yaml", r"^paradigms:\n", f"  {block(0, 'yaml')}")
    copy.insert("studies/fashion.yaml", r"^  table1:\n(?:    .*\n)*?    columns: \[", f"{column}, ")
    copy.run("-m", "pytest", "tests/evaluation/test_centroid.py")

    [[_, *schema, into, _]] = commands(0)
    workflow, [_, *by_hand] = commands(1)
    copy.run("-m", *workflow)
    before = copy.results()
    scores = json.loads(before[column])["scores"]
    assert [(s["metric"], s["split"], s["probe_seed"]) for s in scores] == [
        ("top1", split, seed) for seed in (0, 1, 2) for split in ("test", "validation")
    ]
    assert all(50 < s["value"] <= 100 for s in scores)  # 10 by chance

    copy.insert(file, r'score\("top1", ', "0.5 * ")
    copy.run("-m", *workflow)
    after = copy.results()
    assert {name for name in after if after[name] != before[name]} == {column}

    table = ["table", "table1", "--json"]
    ran = copy.run("-c", AFTERWARDS, json.dumps([schema, by_hand, table]))
    schema, by_hand, table, images_looked_at = json.loads(ran.splitlines()[-1])
    assert into == ">" and '"const": "centroid"' in schema
    assert "top1" in by_hand
    [cell] = [
        cell
        for cell in json.loads(table)["cells"]
        if (cell["base"], cell["arm"], cell["column"]) == ("vicreg", "base", column)
    ]
    assert cell["mean"] == pytest.approx(sum(s["value"] for s in scores[::2]) / 3 / 2)
    assert images_looked_at == pytest.approx(1_281_167 + 50_000)
