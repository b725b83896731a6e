"""The script of docs/as-a-library.md, in a folder with images of birds."""

import os
import re
import subprocess
import sys

import pytest
import torch
from pages import DOCS, blocks
from PIL import Image

from e2mc.checkpoints.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which the script has run, and what it printed."""
    folder = tmp_path_factory.mktemp("library")
    for part, count in (("train", 20), ("val", 5)):
        for kind in ("heron", "wren"):
            place = folder / "birds" / part / kind
            place.mkdir(parents=True)
            for number in range(count):
                shade = (10 * number, 40, 200 if kind == "wren" else 0)
                Image.new("RGB", (20, 16), shade).save(place / f"{part}-{number}.png")
    (folder / "script.py").write_text("\n".join(blocks(DOCS / "as-a-library.md", "python")))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(DOCS.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done


def test_each_model_gets_its_score(ran):
    scores = dict(re.findall(r"^(\w+): top-1 (\S+) %", ran[1].stdout, re.MULTILINE))
    assert list(scores) == ["base", "continued", "e2mc"]
    assert all(float(score) > 70 for score in scores.values())  # ten classes, 100 labels


def test_criterion_was_in_one_of_the_runs(ran):
    logs = {name: (ran[0] / f"{name}-training.csv").read_text() for name in ("continued", "e2mc")}
    assert "e2mc/entropy" in logs["e2mc"] and "e2mc/entropy" not in logs["continued"]
    assert [len(log.splitlines()) for log in logs.values()] == [13, 13]
    weights = [load_checkpoint(ran[0] / f"{name}.pt").model for name in logs]
    assert not torch.equal(*(model["projector.3.weight"] for model in weights))


def test_runs_that_are_told_to_are_quiet(ran):
    steps = re.findall(r"step (\d+) of \1", ran[1].stderr)
    assert steps == ["30", "1"]  # the base's, and that on birds


def test_folder_of_images_takes_the_place_of_arrays(ran):
    assert load_checkpoint(ran[0] / "birds.pt").in_channels == 3
