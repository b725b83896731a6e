"""What a study says of the data set glyphs is checked when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from e2mc.study import Config, Study

REPOSITORY = Path(__file__).parents[2]
GLYPHS = {
    "dataset": "glyphs",
    "classes": 300,
    "train": 26462,
    "validation": 3300,
    "test": 5264,
    "view": {"size": 28},
    "normalisation": {"mean": [0.196], "std": [0.344]},
}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def glyphs(**data):
    """A study of these images with other keys under ``data``; None leaves one out."""
    content = yaml.safe_load(Path("studies/fashion.yaml").read_text())
    content["data"] = {k: v for k, v in (GLYPHS | data).items() if v is not None}
    for name in ("digits_top1", "outfits_map"):
        del content["paradigms"][name]
        content["tables"]["table1"]["columns"].remove(name)
    for name, paradigm in content["paradigms"].items():
        if "fraction" in paradigm:
            content["paradigms"][name] = paradigm | {"fraction": 1.0}
    return Study.model_validate(content)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"validation": None}, "validation"),
        ({"validation": 0}, "validation"),
        ({"validation": 26462}, "26462 of 26462 training images would be held out"),
        ({"normalisation": None}, "normalisation"),
        (
            {"normalisation": {"mean": [0.2] * 3, "std": [0.3] * 3}},
            "normalisation has 3 channels, expected 1: glyphs are grey",
        ),
        ({"name": "kanji"}, "name"),
    ],
)
def test_one_sentence_for_each_fault(data, message):
    with pytest.raises(ValueError, match=message):
        glyphs(**data)


def test_counts_are_those_of_the_study():
    data = glyphs().data
    assert data.names == ("images",) and data.channels == 1
    counts = data.counts("images")
    assert (counts.train, counts.validation, counts.test) == (23162, 3300, 5264)
    assert data.training_count == 23162 and counts.classes == 300


def test_where_the_fonts_are_decides_nothing():
    here, there = glyphs().data, glyphs(folder="/mine").data
    assert here.decides_evaluation("images") == there.decides_evaluation("images")
    assert here.decides_training() == there.decides_training()
    assert here.decides_training() != glyphs(split_seed=1).data.decides_training()
    config = Config(study="x", data_folders={"glyphs": "elsewhere"})
    assert config.folder(here.every["images"]) == Path("elsewhere")
    assert config.folder(there.every["images"]) == Path("/mine")
