"""Bases that come from files in other formats: downloaded, converted, continued."""

import pytest
import torch
import yaml
from checkouts import expect_recorded
from serving import serving

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.methods import create_method
from e2mc.models import create_backbone
from e2mc.steps.checkpoints import download_task
from e2mc.study import load_study


def study_with(checkout, checkpoint):
    """Writes a study, the smoke study with one base from a file; returns its path."""
    content = {
        "extends": "smoke",
        "name": "own",
        "bases": {"swav_long": {"checkpoint": checkpoint, "pretraining": None}},
        "information": None,  # both show pre-training, which this base has none of
        "stability": None,
    }
    path = checkout.folder / "studies/own.yaml"
    path.write_text(yaml.safe_dump(content))
    return "studies/own.yaml"


def test_plan_with_a_released_checkpoint(checkout):
    released = {"kind": "released", "format": "swav", "epochs": 400}
    study = study_with(checkout, released | {"url": "https://example.org/swav.pth.tar"})
    jobs = checkout.jobs("all", study=study)
    assert jobs["download_base"] == jobs["convert_base"] == 1
    # the smoke study's other base is still pre-trained
    assert jobs["pretrain_base"] == 1
    assert checkout.jobs("bases", study=study)["convert_base"] == 1


def test_own_backbone_through_continued_pretraining(checkout):
    backbone = create_backbone("resnet-small", 1)
    torch.save({"net": backbone.state_dict()}, checkout.folder / "mine.pth")
    study = study_with(
        checkout, {"kind": "own", "path": "mine.pth", "keys": {"entry": "net"}, "epochs": 7}
    )
    assert "download_base" not in checkout.jobs("all", study=study)
    result = "results/own/continued/swav_long/e2mc/base0-cont0/checkpoint.pt"
    done = checkout.snakemake("--cores", "1", result, study=study)
    assert done.returncode == 0, done.stdout
    log = checkout.folder / "results/own/logs/bases/swav_long/convert.log"
    assert "has no projector and no prototypes: created fresh" in log.read_text()
    assert load_checkpoint(checkout.folder / result).epochs == 8


def test_continued_checkpoints_are_deleted_if_config_says_so(checkout):
    path = checkout.folder / "config.yaml"
    text = path.read_text()
    assert "keep: [downloads, continued]" in text
    path.write_text(text.replace("keep: [downloads, continued]", "keep: [downloads]"))
    planned = checkout.snakemake("--dry-run", "all").stdout
    assert "Would remove temporary output results/smoke/continued/" in planned


def test_own_file_that_does_not_exist(checkout):
    study = study_with(checkout, {"kind": "own", "path": "nowhere.pth"})
    done = checkout.snakemake("--dry-run", study=study)
    assert done.returncode != 0
    assert "nowhere.pth" in done.stdout and "Traceback" not in done.stdout


@pytest.fixture
def served(tmp_path):
    """A folder and the address at which its files are served."""
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as address:
        yield folder, address


def test_released_checkpoint_of_another_network(checkout, served):
    """The file is downloaded; the conversion names what does not fit and stops."""
    folder, address = served
    method = create_method("vicreg", create_backbone("resnet-small", 1), expander=[8])
    torch.save({"epoch": 3, "model": method.state_dict()}, folder / "x.pth")
    released = {"kind": "released", "format": "swav", "epochs": 400, "url": f"{address}/x.pth"}
    study = study_with(checkout, released)
    done = checkout.snakemake(
        "--cores", "1", "results/own/bases/swav_long/converted.pt", study=study
    )
    assert done.returncode != 0
    assert "is not a released swav checkpoint: expected nothing but tensors, found" in done.stdout
    assert (checkout.folder / "results/own/bases/swav_long/released.pth.source.json").exists()
    task = download_task(load_study(str(checkout.folder / study)), "swav_long")
    expect_recorded(checkout.recorded()[task.outputs["original"]], task)


def test_released_checkpoint_that_is_not_there(checkout, served):
    released = {"kind": "released", "format": "swav", "epochs": 400, "url": f"{served[1]}/x.pth"}
    study = study_with(checkout, released)
    done = checkout.snakemake(
        "--cores", "1", "results/own/bases/swav_long/converted.pt", study=study
    )
    assert done.returncode != 0
    assert "the server answers 404" in done.stdout
