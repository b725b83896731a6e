import csv
from pathlib import Path

import pytest
import trees
import yaml

from e2mc.cli import main, measuring
from e2mc.cli.estimate import read_rates
from e2mc.cli.measuring import Measured, device_name, kinds, measure, some_images, timed
from e2mc.study import load_study


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a small study of image files."""
    for name in ("studies", "images"):
        (tmp_path / name).mkdir()
    source = Path(__file__).parents[1] / "workflow/on_disk.yaml"
    (tmp_path / "studies/on-disk.yaml").write_bytes(source.read_bytes())
    config = (Path(__file__).parents[2] / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measuring, "SECONDS", 0.1)
    monkeypatch.setattr(measuring, "PICTURES", 4)
    return tmp_path


def test_starting_up_is_not_counted():
    now, seen = [0.0], []

    def run(count):
        seen.append(count)
        now[0] += 5.0 + count / 10.0  # 5 s to start, 10 images per second

    found = timed("x", run, 8, "cpu", clock=lambda: now[0])
    assert found.images_per_second == pytest.approx(10)
    assert seen == [8, 8, 16] and found.n == 8


def test_batches_are_doubled_until_the_time_is_over():
    now = [0.0]

    def run(count):
        now[0] += 0.5 + count / 1000.0

    found = timed("x", run, 10, "cpu", clock=lambda: now[0])
    assert found.images_per_second == pytest.approx(1000)
    assert now[0] < 60 and found.n > 5000


def test_what_is_measured_for_a_study_and_its_stages(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    wanted = kinds(load_study("paper"))
    methods = {"vicreg", "swav", "simsiam", "byol", "dino"}
    assert wanted.keys() == methods | {"features", "fine-tuning"}


def test_every_kind_of_step_is_measured(folder, capsys):
    study = load_study("on-disk")
    with some_images(study, {}) as (images, origin):
        assert len(images) == 4 and origin == "generated JPEGs of 500 x 375"
        for what, base in kinds(study).items():
            found = measure(study, what, base, images, "cpu")
            assert found.what == what and found.images_per_second > 0 and found.n > 0
    assert not capsys.readouterr().err
    assert list(kinds(study)) == ["swav", "features", "fine-tuning"]


def test_ones_own_images_where_their_folder_is(folder):
    trees.imagenet(folder / "images/imagenet", classes=2, train=2, val=1)
    study = load_study("on-disk")
    with some_images(study, {"imagenet": Path("images/imagenet")}) as (images, origin):
        assert len(images) == 6 and origin == "images of images/imagenet"
        assert len(images.classes) == 4


def test_rates_are_written_and_read_again(folder, monkeypatch, capsys):
    asked = []

    def quick(study, what, base, images, device):
        asked.append(what)
        return Measured(what, 100.0, 64)

    monkeypatch.setattr(measuring, "measure", quick)
    assert main(["estimate", "--study", "on-disk"]) == 0
    said = capsys.readouterr()
    assert asked == ["swav", "features", "fine-tuning"]
    assert "swav: 100.0 images/s (n = 64)" in said.err and "delete it to measure" in said.err
    assert f"Rates: measured on {device_name('cpu')}, results/rates.csv." in said.out
    assert read_rates(Path("results/rates.csv")).images_per_second["features"] == 100
    assert main(["estimate", "--study", "on-disk", "--json"]) == 0
    assert len(asked) == 3
    # a rate that is not there yet is measured; those of another machine stand as they are
    path = Path("results/rates.csv")
    rows = list(csv.DictReader(path.open()))
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert main(["estimate", "--study", "on-disk"]) == 0
    assert asked[3:] == ["fine-tuning"] and list(csv.DictReader(path.open())) == rows
    path.write_text("what,images_per_second,device\nswav,7,a GPU\n")
    assert main(["estimate", "--study", "on-disk"]) == 1
    assert "no rate for features: measure it" in capsys.readouterr().err


def test_a_study_in_memory_is_not_measured(folder, capsys):
    content = yaml.safe_load((Path(__file__).parents[2] / "studies/fashion.yaml").read_text())
    Path("studies/fashion.yaml").write_text(yaml.safe_dump(content))
    assert main(["estimate", "--study", "fashion"]) == 1
    assert "estimates are of studies with data on disk" in capsys.readouterr().err


def test_images_of_torchvision_in_memory_are_noise_of_their_size(folder):
    studies = Path(__file__).parents[2] / "studies"
    (folder / "studies/cifar100.yaml").write_bytes((studies / "cifar100.yaml").read_bytes())
    study = load_study("cifar100")
    with some_images(study, {}) as (images, origin):
        assert images.images.shape == (4, 3, 32, 32) and origin == "noise of 32 x 32 in memory"
        assert len(images.classes) == 100


def test_glyphs_that_are_not_drawn_yet_are_noise_of_their_size(folder):
    studies = Path(__file__).parents[2] / "studies"
    (folder / "studies/glyphs.yaml").write_bytes((studies / "glyphs.yaml").read_bytes())
    with some_images(load_study("glyphs"), {"glyphs": folder}) as (images, origin):
        assert images.images.shape == (4, 1, 28, 28) and origin == "noise of 28 x 28 in memory"
