"""Study glyphs, cut small, from matplotlib's fonts to scores of an arm, in one process."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import matplotlib
import pytest

from e2mc.data import glyphs
from e2mc.data.errors import DataError
from e2mc.data.images import Splits
from e2mc.steps.data import check_data, index_task
from e2mc.steps.evaluation import evaluation_task
from e2mc.steps.training import training_task
from e2mc.study import BASE_ARM, Config, Run, load_study

REPOSITORY = Path(__file__).parents[2]
FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The study of this folder beside the one that it extends, with letters for characters."""
    for path in (REPOSITORY / "studies/glyphs.yaml", Path(__file__).parent / "glyphs_small.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(glyphs, "CHARACTERS", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    monkeypatch.setattr(glyphs, "CLASSES", 20)
    found = glyphs.load_glyphs(FONTS, 0)
    counts = {
        "train": len(found.train) + len(found.validation),
        "validation": len(found.validation),
        "test": len(found.test),
    }
    small = load_study("glyphs_small.yaml")
    text = Path("glyphs_small.yaml").read_text()
    for key, count in counts.items():
        text = text.replace(f"{key}: {getattr(small.data, key)}", f"{key}: {count}", 1)
    Path("glyphs_small.yaml").write_text(text)
    return load_study("glyphs_small.yaml")


def test_from_fonts_to_scores(study):
    task = index_task(study, "images", FONTS)
    task.perform()
    found = Splits.load(task.output("index"))
    assert found.train.images.shape[1:] == (1, 28, 28)
    base, arm = Run("swav", BASE_ARM, 0, None), Run("swav", "random-direction", 0, 0)
    for run, start in ((base, None), (arm, study.trained_path(base))):
        training = training_task(study, run, start, device="cpu")
        training.perform()
    with training.output("log").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["random-direction/gradient_norm"]) > 0
    names = ("linear_1", "linear_4", "linear_all")
    evaluation_task(study, arm, names, study.trained_path(arm), device="cpu").perform()
    result = json.loads(study.result_path(arm, "linear_4").read_text())
    assert {score["features"] for score in result["scores"]} == {"raw", "whitened"}
    assert '"labels_per_class": 4' in json.dumps(result["decided_by"])


def test_images_are_counted(study):
    config = Config(study="glyphs", data_folders={"glyphs": FONTS})
    [line] = check_data(study, config)
    assert line.startswith("images: 20 classes") and line.endswith("test images in memory")
    text = Path("glyphs_small.yaml").read_text()
    Path("glyphs_small.yaml").write_text(text.replace("test: ", "test: 1", 1))
    with pytest.raises(DataError, match=r"has [\d,]+ test images, expected 1[\d,]+ \(glyphs\)"):
        check_data(load_study("glyphs_small.yaml"), config)
