"""A study of image files, run for real from generated ImageNet, iNaturalist and VOC to tables."""

from __future__ import annotations

import json

import pytest
import trees
from checkouts import count_jobs, expect_recorded

from e2mc.steps.data import index_task
from e2mc.study import load_study, read_config

ROOT = "results/on-disk"
STUDY = "studies/on-disk.yaml"
TARGETS = ("table1", "sweep", "spectrum")


def with_images(checkout):
    """Adds the study, the generated images and their folders to a checkout."""
    trees.study_on_disk(checkout.folder)
    return checkout


@pytest.fixture(scope="module")
def finished(tmp_path_factory, new_checkout):
    """A checkout in which the study has been run to its tables; tests must not change it."""
    made = with_images(new_checkout(tmp_path_factory.mktemp("on_disk")))
    done = made.snakemake("--cores", "2", *TARGETS, study=STUDY, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:]
    return made


@pytest.mark.slow
def test_tables_have_every_column(finished):
    table = (finished.folder / ROOT / "tables/table1.md").read_text()
    for column in ("linear 1 %", "linear 100 %", "semi-sup. 10 %", "iNat18", "VOC07"):
        assert column in table
    assert "not run" not in table
    assert (finished.folder / ROOT / "sweep.md").stat().st_size > 100


def result(finished, paradigm, run="swav/e2mc/base0-cont0"):
    return json.loads((finished.folder / ROOT / f"evaluations/{run}/{paradigm}.json").read_text())


@pytest.mark.slow
def test_linear_columns_were_trained_together(finished):
    for name, labels in (("linear_1", 8), ("linear_10", 16), ("linear_100", 48)):
        found = result(finished, name)
        assert found["details"]["trained_together"] == ["linear_1", "linear_10", "linear_100"]
        assert found["details"]["raw"]["labels"] == labels
        assert found["details"]["raw"]["best_epoch_chosen_on"] == "test"
        keys = {(s["features"], s["selection"], s["split"]) for s in found["scores"]}
        assert keys == {
            (features, selection, "test")
            for features in ("raw", "whitened")
            for selection in ("last", "best")
        }


@pytest.mark.slow
def test_other_paradigms(finished):
    inat = result(finished, "inat18_top1")
    assert {s["features"] for s in inat["scores"]} == {"raw"}
    assert inat["details"]["raw"]["labels"] == 20
    assert result(finished, "semisup_10")["details"]["0"]["labels"] == 16
    assert len(result(finished, "voc07_map")["details"]["cost"]) == 3
    held_out = result(finished, "linear_10_held_out", "swav/e2mc/base0-cont100")
    assert {s["split"] for s in held_out["scores"]} == {"test", "validation"}
    assert held_out["details"]["raw"]["best_epoch_chosen_on"] == "validation"
    assert not list((finished.folder / ROOT).rglob("*.state"))


@pytest.mark.slow
def test_nothing_is_left_to_do(finished):
    assert finished.jobs(*TARGETS, study=STUDY) == {}


@pytest.mark.slow
def test_figures_do_without_what_is_left_out(finished):
    figures = finished.folder / ROOT / "figures"
    assert (figures / "spectrum.png").exists() and not (figures / "separability.png").exists()


def test_measurement_that_takes_more_images_is_left_out_with_a_word(checkout):
    with_images(checkout)
    plan = checkout.plan("all", study=STUDY)
    sentence = "leaves separability out: random labelings of 128 dimensions take 320 test images"
    assert sentence in plan and "measure" in count_jobs(plan)
    asked = checkout.snakemake("--dry-run", "separability", study=STUDY)
    assert asked.returncode != 0 and sentence in asked.stdout


def test_each_data_set_is_evaluated_by_a_job_of_its_own(checkout):
    with_images(checkout)
    jobs = checkout.jobs("table1", study=STUDY)
    runs = 3
    for group in ("linear_1", "inat18_top1", "voc07"):
        assert jobs[f"evaluate_frozen_{group}"] == runs
    assert not any("held_out" in name for name in jobs)
    assert jobs["index_data"] == 3 and jobs["evaluate_fine_tuned"] == runs
    assert checkout.jobs("check_data", study=STUDY) == {"check_data": 1, "index_data": 4}


def test_lists_are_made_by_the_tasks_of_their_data_sets(checkout, monkeypatch):
    with_images(checkout)
    done = checkout.snakemake("--cores", "1", "check_data", study=STUDY)
    assert done.returncode == 0, done.stdout
    monkeypatch.chdir(checkout.folder)
    study, folders = load_study(STUDY), read_config().data_folders
    for name, images in study.data.sets.items():
        task = index_task(study, name, folders[images.format])
        expect_recorded(checkout.recorded()[task.outputs["index"]], task)


def test_missing_folder_is_one_sentence(checkout):
    with_images(checkout)
    text = (checkout.folder / "config.yaml").read_text().replace("images/imagenet", "null")
    (checkout.folder / "config.yaml").write_text(text)
    target = f"{ROOT}/data/images.pt"
    done = checkout.snakemake("--cores", "1", target, study=STUDY)
    assert done.returncode != 0
    [line] = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert "set data_folders.imagenet in config.yaml, or data.sets.images.folder in" in line
    assert not (checkout.folder / target).exists()


@pytest.mark.slow
def test_broken_image_stops_the_training_that_needs_it(checkout):
    with_images(checkout)
    broken = checkout.folder / "images/imagenet/train/n00000002/n00000002_3.JPEG"
    broken.write_bytes(broken.read_bytes()[:300])
    target = f"{ROOT}/bases/swav/base0/checkpoint.pt"
    done = checkout.snakemake("--cores", "1", target, study=STUDY)
    assert done.returncode != 0
    [line] = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert "n00000002_3.JPEG cannot be decoded" in line
    assert (checkout.folder / ROOT / "data/images.pt").exists()
    assert not (checkout.folder / target).exists()
