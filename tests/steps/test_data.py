"""Data sets on disk as steps: index_data and check_data on generated trees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trees
from serving import serving

from e2mc.data.errors import DataError
from e2mc.data.images import Splits, read_digest
from e2mc.errors import InputError
from e2mc.state import sha256
from e2mc.steps.data import check_data, index_task, preparation_task
from e2mc.study import Config, load_study


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The study of the workflow's tests, its images and label lists, in a folder of its own."""
    text = (Path(__file__).parents[1] / "workflow/on_disk.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    Path("on_disk.yaml").write_text(text)
    trees.imagenet(tmp_path / "imagenet", train=12)
    trees.inaturalist(tmp_path / "inat")
    trees.voc(tmp_path / "voc")
    Path("lists").mkdir()
    trees.label_list(Path("lists/1percent.txt"), 4, 2)
    trees.label_list(Path("lists/10percent.txt"), 4, 4)
    return load_study("on_disk.yaml")


FOLDERS = {
    "imagenet": Path("imagenet"),
    "inaturalist-2018": Path("inat"),
    "voc2007": Path("voc"),
}


def config(folders):
    return Config(study="on-disk", data_folders=folders)


def index(study, name, folder):
    task = index_task(study, name, folder)
    task.perform()
    return Splits.load(task.output("index"))


def test_index_is_found_again(study):
    found = index(study, "held_out", Path("imagenet"))
    assert (len(found.train), len(found.validation), len(found.test)) == (40, 8, 12)
    assert {name: len(rows) for name, rows in found.lists.items()} == {
        "1percent": 8,
        "10percent": 16,
    }
    assert found.train.path(0).is_file()


def test_counts_are_reported(study):
    lines = check_data(study, config(FOLDERS), decode=True)
    assert [line.split(":")[0] for line in lines] == ["images", "held_out", "inat18", "voc07"]
    assert "4 classes, 48 training, 0 validation and 12 test images in" in lines[0]


def test_a_study_may_say_where_its_images_are(study):
    said = "      format: imagenet\n      folder: moved\n"
    text = Path("on_disk.yaml").read_text().replace("      format: imagenet\n", said)
    assert said in text
    decided = study.data.decides_evaluation("images")
    Path("imagenet").rename("moved")
    Path("on_disk.yaml").write_text(text)
    moved = load_study("on_disk.yaml")
    lines = check_data(moved, config(FOLDERS))
    assert "48 training, 0 validation and 12 test images in moved" in lines[0]
    # a place decides nothing
    assert moved.data.decides_evaluation("images") == decided


def test_every_problem_is_named(study):
    next(Path("imagenet/train/n00000001").iterdir()).unlink()
    broken = Path("inat/train_val2018/Aves/0/train0.jpg")
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError) as caught:
        check_data(study, config(FOLDERS | {"voc2007": None}), decode=True)
    problems = str(caught.value).split("; images")[-1]
    for expected in (
        "images: ",
        "has 47 training images, expected 48 (imagenet)",
        "held_out: ",
        "inat18: 1 broken images: ",
        "train0.jpg cannot be decoded",
        "voc07: study on-disk needs the images of voc2007: set data_folders.voc2007",
    ):
        assert expected in str(caught.value), problems


def test_counting_again_leaves_every_index_untouched(study):
    check_data(study, config(FOLDERS))
    paths = [study.dataset_path(name) for name in study.data.names]
    for path in paths:
        os.utime(path, (1, 1))
    check_data(study, config(FOLDERS))
    assert [path.stat().st_mtime for path in paths] == [1] * 4
    digests = [read_digest(path) for path in paths]
    Path("imagenet").rename("moved")
    check_data(study, config(FOLDERS | {"imagenet": Path("moved")}))
    # the same images in another folder: what was made of them stands
    assert [path.stat().st_mtime for path in paths] == [1] * 4
    assert Splits.load(paths[0]).train.path(0).is_relative_to(Path("moved").resolve())
    assert [read_digest(path) for path in paths] == digests


def test_what_is_left_out_is_said(study):
    Path("imagenet/train/n00000001/cut.JPEG").touch()
    Path("imagenet/val/n00000002/gone.JPEG").symlink_to("nowhere")
    first, *_ = check_data(study, config(FOLDERS))
    assert "48 training, 0 validation and 12 test images in imagenet" in first
    assert "1 named like images left out, e.g. train/n00000001/cut.JPEG (empty)" in first
    assert "e.g. val/n00000002/gone.JPEG (a link that points nowhere)" in first


def test_home_folder_may_be_written_as_a_tilde(study, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = Path("on_disk.yaml").read_text().replace("source: lists/", "source: ~/lists/")
    Path("on_disk.yaml").write_text(text)
    tilde = {name: "~" / folder for name, folder in FOLDERS.items()}
    assert len(check_data(load_study("on_disk.yaml"), config(tilde))) == 4


@pytest.mark.parametrize("language", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_names_are_printed_on_every_terminal(study, language):
    """Counts on standard output, and a fault on standard error."""
    folder = "voc é"
    Path("voc").rename(folder)
    lines = ["study: on_disk.yaml", "data_folders:"]
    lines += [f"  {name}: {path}" for name, path in (FOLDERS | {"voc2007": folder}).items()]
    Path("config.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LC_")}
    command = [sys.executable, "-m", "e2mc.cli", "check-data", "--study", "on_disk.yaml"]
    options = {"env": environment | language, "capture_output": True}
    done = subprocess.run(command, **options)
    assert done.returncode == 0 and b"12 test images in voc" in done.stdout, done.stderr
    image = os.fsencode("imagenet/train/n00000001/caf") + b"\xe9.JPEG"
    with open(image, "wb") as file:
        file.write(b"no image")
    Path("imagenet/train/n00000001/n00000001_9.JPEG").unlink()
    done = subprocess.run([*command, "--decode"], **options)
    assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr
    assert b"1 broken images: " in done.stderr and b".JPEG cannot be decoded" in done.stderr


def test_list_that_changed(study):
    text = Path("on_disk.yaml").read_text()
    sha = "0" * 64
    text = text.replace("lists/1percent.txt, count", f"lists/1percent.txt, sha256: '{sha}', count")
    Path("on_disk.yaml").write_text(text)
    output = study.dataset_path("images")
    with pytest.raises(DataError, match=f"1percent.txt has SHA-256 .*, the study names {sha}"):
        index(load_study("on_disk.yaml"), "images", Path("imagenet"))
    assert not output.exists()


@pytest.fixture
def served(study):
    """Address of the folder over HTTP."""
    with serving(os.getcwd()) as address:
        yield address


def test_list_is_downloaded_and_checked(study, served):
    published = sha256(Path("lists/1percent.txt"))
    text = Path("on_disk.yaml").read_text()
    entry = f"{{source: {served}/lists/1percent.txt, sha256: '{published}', count: 8}}"
    text = text.replace("{source: lists/1percent.txt, count: 8}", entry)
    Path("on_disk.yaml").write_text(text)
    found = index(load_study("on_disk.yaml"), "images", Path("imagenet"))
    assert len(found.lists["1percent"]) == 8
    fetched = study.root / "data/downloads/1percent.txt"
    assert sha256(fetched) == published
    for file in fetched.parent.iterdir():
        file.unlink()
    Path("on_disk.yaml").write_text(text.replace(published, "0" * 64))
    with pytest.raises(OSError, match=f"has SHA-256 {published}, expected 0000"):
        index(load_study("on_disk.yaml"), "images", Path("imagenet"))


def test_list_comes_from_its_archive_where_the_first_address_has_it_no_more(study, served):
    before = index_task(study, "images", Path("imagenet")).decides
    entry = "{source: SOURCE, archive: ARCHIVE, count: 8}"
    entry = entry.replace("SOURCE", f"{served}/gone.txt")
    entry = entry.replace("ARCHIVE", f"{served}/lists/1percent.txt")
    text = Path("on_disk.yaml").read_text()
    Path("on_disk.yaml").write_text(text.replace("{source: lists/1percent.txt, count: 8}", entry))
    changed = load_study("on_disk.yaml")
    assert len(index(changed, "images", Path("imagenet")).lists["1percent"]) == 8
    record = json.loads((study.root / "data/downloads/1percent.txt.source.json").read_text())
    assert record["url"] == f"{served}/lists/1percent.txt"
    # a second address is none of the values that decide, so that one can be added to old results
    decides = index_task(changed, "images", Path("imagenet")).decides
    assert decides["data"]["lists"]["1percent"].keys() == before["data"]["lists"]["1percent"].keys()


def test_archive_of_a_list_on_disk_is_refused(study):
    text = Path("on_disk.yaml").read_text()
    entry = "{source: lists/1percent.txt, archive: 'https://example.org/list', count: 8}"
    Path("on_disk.yaml").write_text(text.replace("{source: lists/1percent.txt, count: 8}", entry))
    with pytest.raises(ValueError, match="source lists/1percent.txt is a path: leave archive out"):
        load_study("on_disk.yaml")


def test_study_in_memory_has_nothing_to_check(study):
    fashion = load_study(str(Path(__file__).parents[2] / "studies/fashion.yaml"))
    with pytest.raises(DataError, match="study fashion has no images on disk"):
        check_data(fashion, {})


def test_index_is_decided_by_its_images_their_folder_and_lists(study):
    task = index_task(study, "images", Path("imagenet"))
    assert task.inputs == {} and task.output("index") == study.dataset_path("images")
    assert task.decides["lists"] == {
        f"{name}percent": sha256(Path(f"lists/{name}percent.txt")) for name in (1, 10)
    }
    assert index_task(study, "images", Path("imagenet")) == task
    assert index_task(study, "images", Path("voc")).digest() != task.digest()
    trees.label_list(Path("lists/1percent.txt"), 4, 3)
    assert index_task(study, "images", Path("imagenet")).digest() != task.digest()


def test_list_that_changed_since_the_index_was_planned(study):
    task = index_task(study, "images", Path("imagenet"))
    trees.label_list(Path("lists/1percent.txt"), 4, 3)
    with pytest.raises(InputError, match=r"planned there has changed: lists\.1percent "):
        task.perform()
    assert not task.output("index").exists()


def test_images_on_disk_are_not_prepared(study):
    with pytest.raises(
        DataError, match="are files of yours or torchvision.s, .*: use `e2mc check-data --study on-"
    ):
        preparation_task(study, None)


def test_preparation_makes_every_data_set_from_the_study(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    study = load_study("smoke")
    task = preparation_task(study, Path("published"))
    assert list(task.outputs) == ["images", "digits", "outfits"]
    assert task.decides == {"data": study.data.model_dump(mode="json"), "folder": "published"}
    assert preparation_task(study, None).digest() != task.digest()
