"""Every recipe in docs/recipes, pasted into an empty file, runs and does what its page says."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
import torch
from pages import DOCS, blocks

RECIPES = {
    f"{page.stem}-{number}": script
    for page in sorted((DOCS / "recipes").glob("*.md"))
    for number, script in enumerate(blocks(page, "python"))
}
PACKAGES = ("accelerate", "lightly", "lightning", "transformers")
IN_FLOAT64 = "import torch\ntorch.set_default_dtype(torch.float64)\n"


def needed(script):
    """The optional packages of a recipe; a Trainer needs accelerate."""
    used = {
        name for name in PACKAGES if re.search(rf"^(from|import) {name}\b", script, re.MULTILINE)
    }
    return used | ({"accelerate"} if "transformers" in used else set())


def execute(folder, script, *options):
    """What a script prints that is the only file of a folder."""
    for package in sorted(needed(script)):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'e2mc[recipes]'")
    (folder / "recipe.py").write_text(script)
    done = subprocess.run(
        [sys.executable, *options, "recipe.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(DOCS.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def launcher(processes):
    """The command of the page on two processes, for as many as wanted."""
    [command] = blocks(DOCS / "recipes/torchrun.md", "sh")
    program, *options, count, script = command.split()
    assert (program, count, script) == ("torchrun", "2", "recipe.py")
    return ["-m", "torch.distributed.run", *options, str(processes)]


def entropies(printed):
    return [float(value) for value in re.findall(r"entropy'?:? '?(-?\d+\.\d+)", printed)]


def rows(page):
    """Cells of every row of the tables of a page."""
    lines = re.findall(r"^\|(.*)\|$", (DOCS / "recipes" / page).read_text(), re.MULTILINE)
    return [[cell.strip() for cell in line.replace("\u2212", "-").split("|")] for line in lines]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Runs a recipe as its page says, once; its folder and what it printed."""
    known = {}

    def run(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            options = launcher(2) if name == "torchrun-0" else []
            known[name] = folder, execute(folder, RECIPES[name], *options)
        return known[name]

    return run


# a C++ compiler works for some twenty seconds
SLOW = {"compile-0": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW.get(n, ())) for n in RECIPES])
def test_recipe_runs_and_entropy_rises(name, ran):
    found = entropies(ran(name)[1])
    assert len(found) > 1 and found[-1] > found[0]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_short(name):
    assert len([line for line in RECIPES[name].splitlines() if line.strip()]) <= 40


def test_two_processes_do_what_one_does(tmp_path):
    script, weights, printed = IN_FLOAT64 + RECIPES["torchrun-0"], [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        printed.append(entropies(execute(folder, script, *launcher(processes))))
        weights.append(torch.load(folder / "encoder.pt"))
    assert len(printed[0]) == 8
    assert printed[0] == pytest.approx(printed[1], rel=1e-10)
    torch.testing.assert_close(*weights, rtol=0, atol=1e-8)


def test_lightning_on_two_processes_does_what_one_does(ran, tmp_path):
    script = RECIPES["lightning-0"]
    assert script.count("devices=2") == 1
    alone = execute(tmp_path, script.replace("devices=2", "devices=1"))
    folder, together = ran("lightning-0")
    assert entropies(together)[:2] == pytest.approx(entropies(alone)[:2], abs=1e-3)
    states = [
        torch.load(next(f.glob("**/*.ckpt")), weights_only=True)["state_dict"]
        for f in (folder, tmp_path)
    ]
    torch.testing.assert_close(*states, rtol=0, atol=1e-3)


def test_accumulation_changes_estimate_and_gradient_as_its_page_says(ran):
    found = re.findall(r"(\w+), N = (\d+): entropy (\S+), cosine (\S+)", ran("accumulation-0")[1])
    measured = {way: [row[1:] for row in found if row[0] == way] for way, *_ in found}
    shown = [row for row in rows("accumulation.md") if row[0].isdigit()]
    assert [list(row) for row in measured["accumulated"]] == shown
    whole = measured["accumulated"][-1]
    assert all(row[1:] == whole[1:] for row in measured["in_two_passes"])
    assert (
        f"an entropy of {whole[1]} nats".replace("-", "\u2212")
        in (DOCS / "recipes/accumulation.md").read_text()
    )


def test_autocast_rounds_the_embedding_alone(ran):
    found = re.findall(
        r"embeddings (\S+), loss (\S+), entropy (\S+) \(float32: (\S+)\)", ran("autocast-0")[1]
    )
    assert {row[:2] for row in found} == {("torch.bfloat16", "torch.float32")}
    assert all(abs(float(half) - float(exact)) < 0.01 for *_, half, exact in found)


def test_page_shows_what_is_to_be_watched(ran):
    printed = ran("README-0")[1].splitlines()
    for line in printed:
        name, values = line.split(": ")
        assert [name, *re.findall(r" (-?[\d.]+)", values)] in rows("README.md")
    assert len(printed) == 4


def test_costs_are_those_that_were_measured():
    measured = rows("../../benchmarks/criteria-cpu.md")
    alone = {row[2]: [row[4], row[7]] for row in measured if row[:2] == ["E2MC", "512"]}
    two = {
        row[2]: [row[4], row[5]]
        for row in measured
        if row[:2] == ["2", "512"] and row[3] == "split columns"
    }
    for d in ("128", "2048", "8192"):
        assert [d, *alone[d], *two[d]] in rows("README.md")
