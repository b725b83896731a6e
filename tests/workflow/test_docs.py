"""Every command and every example of the documentation runs."""

import csv
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import blocks
from planning import run_forked

from e2mc.cli import main, make_parser
from e2mc.reporting.layout import MARKS, signed
from e2mc.study import load_study

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "results/README.md")]
PAGES += sorted((REPOSITORY / "docs").glob("*.md"))
# pages whose commands need the files that they tell one to write; they have tests of their own
EXTENDING = (
    "add-a-criterion.md",
    "add-a-figure.md",
    "add-a-method.md",
    "add-a-paradigm.md",
)
BENCHMARKS = sorted((REPOSITORY / "benchmarks").glob("*.py"))
# data that are not here
NOT_HERE = {"check-data", "download", "convert"}


def commands(page):
    """Command lines of a page, without comments."""
    lines = "\n".join(blocks(page, "sh") + blocks(page, "")).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].split(" # ")[0].strip() for line in lines if line.strip()]


def listed():
    return [
        pytest.param(command, id=f"{page.stem}: {command[:60]}")
        for page in PAGES
        if page.name not in EXTENDING
        for command in dict.fromkeys(commands(page))
    ]


def succeed(words, **options):
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def expect_planned(words, folder, environment):
    planned = run_forked(["--dry-run", *words], folder, environment)
    assert planned.returncode == 0, planned.stdout[-3000:]


@pytest.mark.parametrize("script", BENCHMARKS, ids=lambda path: path.name)
def test_benchmark_starts(script):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    assert "usage:" in succeed([sys.executable, str(script), "--help"], env=environment)


@pytest.mark.parametrize("command", listed())
def test_command_runs(command, request, monkeypatch, capsys):
    program, *words = shlex.split(command)
    if program == "make":
        succeed(["make", "--dry-run", "--always-make", *words], cwd=REPOSITORY)
    elif program == "snakemake":
        checkout = request.getfixturevalue("checkout")
        expect_planned(words, checkout.folder, checkout.environment())
    elif program == "e2mc" and ">" in words:
        assert main(words[: words.index(">")]) == 0
        assert capsys.readouterr().out == (REPOSITORY / words[words.index(">") + 1]).read_text()
    elif program == "e2mc":
        options = make_parser().parse_args(words)
        if getattr(options, "study", None) == "paper" and NOT_HERE & {*words}:
            return
        if words[0] == "improve":  # tests/cli/test_improve.py has a model and images
            return
        monkeypatch.chdir(request.getfixturevalue("copy_of_finished").folder)
        if words[0] == "estimate" and "--rate" not in words:
            # it would measure for minutes, which tests/cli/test_measuring.py does in seconds
            kinds = ("vicreg", "swav", "simsiam", "features", "fine-tuning")
            words += ["--rate", *(f"{kind}=900" for kind in kinds)]
        if getattr(options, "study", None) == "fashion":
            words += ["--study", "smoke"]  # the same, in seconds
        if getattr(options, "launcher", "local") == "slurm":
            words += ["--launcher", "local"]  # jobs are tested in tests/slurm
        assert main(words) == 0, capsys.readouterr().err
    elif program == "python" and words[0].startswith("benchmarks/"):
        succeed([sys.executable, words[0], "--help"], cwd=REPOSITORY)
    elif program == "python":
        # of one file: to collect all takes a minute
        look = {"pytest": ["--collect-only", "-q", "tests/test_text.py"], "build": ["--help"]}
        succeed([sys.executable, *words, *look[words[1]]], cwd=REPOSITORY)
    elif program == "tensorboard":
        pytest.importorskip("tensorboard")
        succeed([sys.executable, "-m", "tensorboard.main", "--version"])
    else:
        assert command == ". .venv/bin/activate", f"no test knows how to run {command}"


LINKING = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def small_table():
    """What the README shows of Table 1: E2MC − continued of every base in every column."""
    study = load_study("fashion")
    with (REPOSITORY / "docs/fashion/table1.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] == "e2mc"]
    rows = [row for row in rows if row["features"] == "raw"]
    columns = [study.paradigms[name].label for name in dict.fromkeys(row["column"] for row in rows)]
    lines = [
        f"| E2MC − continued | {' | '.join(columns)} |",
        f"| :-- |{' --: |' * len(columns)}",
    ]
    for base in dict.fromkeys(row["base"] for row in rows):
        cells = []
        for row in rows:
            if row["base"] == base:
                difference = float(row["difference"])
                sign = 0 if row["within_noise"] == "True" else math.copysign(1, difference)
                cells.append(f"{signed(difference)} {MARKS[sign]}")
        lines.append(f"| {study.bases[base].label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_readme_shows_what_was_measured(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    readme = (REPOSITORY / "README.md").read_text()
    assert small_table() in readme, f"README.md should have\n{small_table()}"
    verdict = (REPOSITORY / "docs/fashion/table1.md").read_text()
    [said] = re.findall(r"In all \d.*?(?= On whitened features|$)", verdict, re.MULTILINE)
    assert said in readme, f"README.md should have\n{said}"


class Extended:
    """A checkout with a copy of the package to which the files of a page are added."""

    def __init__(self, checkout, page):
        self.checkout, self.page = checkout, REPOSITORY / "docs" / page
        self.environment = checkout.environment() | {"PYTHONPATH": str(checkout.folder)}
        shutil.copytree(REPOSITORY / "e2mc", checkout.folder / "e2mc")
        self.code, self.line = blocks(self.page, "python")
        (self.yaml,) = blocks(self.page, "yaml")

    def add_module(self, kind, registry):
        file, module = re.search(rf"`(e2mc/{kind}/(\w+)\.py)`", self.page.read_text()).groups()
        (self.checkout.folder / file).write_text(self.code)
        line = self.line.strip()
        name = line.rstrip(",").split()[-1]
        path = self.checkout.folder / f"e2mc/{kind}/__init__.py"
        text = re.sub(rf"^{registry}.*?\{{", rf"\g<0>{line} ", path.read_text(), flags=re.MULTILINE)
        path.write_text(
            text.replace(
                f"\nfrom e2mc.{kind}.base",
                f"\nfrom e2mc.{kind}.{module} import {name}\nfrom e2mc.{kind}.base",
                1,
            )
        )

    def add_to_study(self, section):
        path = self.checkout.folder / "studies/fashion.yaml"
        added = "".join(f"  {line}\n" for line in self.yaml.splitlines())
        start = f"\n{section}:\n"
        assert path.read_text().count(start) == 1
        path.write_text(path.read_text().replace(start, start + added))

    def run_commands(self):
        for command in commands(self.page):
            program, *words = shlex.split(command)
            if program == "snakemake":
                expect_planned(words, self.checkout.folder, self.environment)
            elif program == "e2mc":
                command = [sys.executable, "-m", "e2mc.cli", *words, "--study", "smoke"]
                succeed(command, cwd=self.checkout.folder, env=self.environment)


def test_criterion_of_the_docs(copy_of_finished):
    extended = Extended(copy_of_finished, "add-a-criterion.md")
    extended.add_module("criteria", "CRITERIA")
    assert not copy_of_finished.jobs("all")
    extended.add_to_study("arms")
    extended.run_commands()
    path = "results/smoke/continued/swav_long/fourth-moment/base0-cont0/training.csv"
    assert "fourth-moment/moment" in (copy_of_finished.folder / path).read_text()


def test_method_of_the_docs(copy_of_finished):
    extended = Extended(copy_of_finished, "add-a-method.md")
    extended.add_module("methods", "METHODS")
    assert not copy_of_finished.jobs("all")
    extended.add_to_study("bases")
    smoke = copy_of_finished.folder / "studies/smoke.yaml"
    small = "bases:\n  barlow_twins: {pretraining: {epochs: 1}}\n"
    smoke.write_text(smoke.read_text().replace("bases:\n", small))
    extended.run_commands()
    path = "results/smoke/bases/barlow_twins/base0/training.csv"
    rows = (copy_of_finished.folder / path).read_text().splitlines()
    assert "barlow_on_diagonal" in rows[0] and len(rows) > 1


def test_study_of_the_docs(checkout):
    *_, study = blocks(REPOSITORY / "docs/own-data.md", "yaml")
    (checkout.folder / "mine.pt").touch()
    study = study.replace("/models/mine.pt", "mine.pt")
    (checkout.folder / "studies/birds.yaml").write_text(study)
    jobs = checkout.jobs("all", study="birds")
    assert (jobs["convert_base"], jobs["continue_pretraining"]) == (1, 6)
