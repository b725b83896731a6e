from __future__ import annotations

import pytest

from e2mc.reporting.part import Part, figure_files


def part(make):
    return Part(
        name="dots",
        reads=lambda study: {"one": [study.root / "a"], "both": [study.root / n for n in "ab"]},
        writes=lambda study: {"dots.csv": ""} | figure_files("dots", "all dots"),
        make=make,
    )


def texts(study, inputs, outputs):
    for name, path in outputs.items():
        path.write_text(f"{name} of {study.name}")


def test_files_and_labels(study):
    dots = part(texts)
    assert [str(path) for path in dots.inputs(study)] == ["results/tiny/a", "results/tiny/b"]
    assert {name: str(path) for name, path in dots.outputs(study).items()} == {
        "dots.csv": "results/tiny/dots.csv",
        "dots.pdf": "results/tiny/figures/dots.pdf",
        "dots.png": "results/tiny/figures/dots.png",
    }
    assert {str(path): label for path, label in dots.labels(study).items()} == {
        "results/tiny/figures/dots.png": "all dots"
    }


def test_all_files_are_written_where_they_are_asked_for(study, tmp_path):
    paths = {name: tmp_path / "elsewhere" / name for name in part(texts).outputs(study)}
    part(texts).show(study, paths)
    assert {path.name: path.read_text() for path in tmp_path.rglob("*.*")} == {
        name: f"{name} of tiny" for name in paths
    }


def interrupted(study, inputs, outputs):
    texts(study, inputs, outputs)
    raise KeyboardInterrupt


def forgetful(study, inputs, outputs):
    outputs["dots.csv"].write_text("new")
    outputs["dots.pdf"].write_text("new")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (interrupted, KeyboardInterrupt, "^$"),
        (forgetful, RuntimeError, "dots has not written dots.png"),
    ],
)
def test_nothing_is_written_when_something_goes_wrong(
    study, tmp_path, monkeypatch, make, error, words
):
    monkeypatch.chdir(tmp_path)
    paths = part(texts).outputs(study)
    part(texts).show(study, paths)
    with pytest.raises(error, match=words):
        part(make).show(study, paths)
    assert {name: path.read_text() for name, path in paths.items()} == {
        name: f"{name} of tiny" for name in paths
    }
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(paths)
