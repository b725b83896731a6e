"""The paper's study for real, at its real shapes, with a few images and two steps per run.

ResNet-50 at 224 pixels with the papers' heads: from generated files in the released formats, over
HTTP, through every evaluation to both tables.
"""

import csv
import functools
import http.server
import json
import math
import threading

import official
import pytest
import torch
import trees
import yaml

from e2mc.checkpoints.checkpoint import load_checkpoint

STUDY = "studies/paper-small.yaml"
ROOT = "results/paper-small"
RESNET50 = (64, (3, 4, 6, 3))
FILES = {
    "vicreg": (official.save_vicreg, lambda: official.VICReg(*RESNET50, (8192, 8192, 8192))),
    "swav_800": (official.save_swav, lambda: official.ResNet(*RESNET50, (2048, 128, 3000))),
    "simsiam": (official.save_simsiam, lambda: official.SimSiam(*RESNET50, 2048, 512)),
}
RIVALS = ["base", "continued", "vcreg", "mmcr", "auh", "corinfomax", "e2mc"]


def small(address):
    """The changes to the paper's study: counts of images, addresses, lengths."""
    lists = {
        name: {"source": f"lists/{name}.txt", "sha256": None, "count": count}
        for name, count in (("1percent", 8), ("10percent", 16))
    }
    imagenet = {"classes": 4, "train": 48, "test": 12, "lists": lists}
    # in float32: half precision takes minutes on a CPU
    continued = {"epochs": 1, "batch_size": 6, "images": 12, "precision": "float32"}
    short = {"epochs": 1, "batch_size": 8}
    one_epoch = {"protocol": short}
    linear = one_epoch | {"base_protocol": {"simsiam": short}}
    return {
        "extends": "paper",
        "name": "paper-small",
        "data": {
            "sets": {
                "images": imagenet,
                "held_out": imagenet | {"validation": 8},
                "inat18": {"classes": 5, "train": 20, "test": 10},
                "voc07": {"classes": 3, "train": 24, "test": 12},
            }
        },
        "bases": {
            name: {"checkpoint": {"url": f"{address}/{name}.pth"}, "continued": continued}
            for name in FILES
        }
        | {"swav_400": {"continued": continued}},
        # of these a base has every one, a continued run its own
        "seeds": {"continuation": [0], "evaluation": [0, 1]},
        "paradigms": {name: linear for name in ("linear_1", "linear_10", "linear_100")}
        | {name: one_epoch for name in ("semisup_1", "semisup_10", "inat18_top1")}
        | {"voc07_map": {"protocol": {"costs": [1.0]}}},
        "tables": {
            "table1": {
                "rows": [
                    {"base": "vicreg", "arms": ["e2mc"]},
                    {"base": "swav_800", "arms": ["base", "e2mc"]},
                    {"base": "simsiam", "arms": ["e2mc"]},
                ]
            },
            "table2": {"rows": [{"base": "swav_800", "arms": RIVALS}]},
        },
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, new_checkout):
    """A checkout in which both tables have been made; tests must not change it."""
    made = new_checkout(tmp_path_factory.mktemp("paper"))
    folder = made.folder
    served = folder / "served"
    served.mkdir()
    torch.manual_seed(0)
    for name, (save, model) in FILES.items():
        save(served / f"{name}.pth", model())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    (folder / STUDY).write_text(yaml.safe_dump(small(address)))
    trees.imagenet(folder / "images/imagenet", train=12)
    trees.inaturalist(folder / "images/inat")
    trees.voc(folder / "images/voc")
    (folder / "lists").mkdir()
    trees.label_list(folder / "lists/1percent.txt", 4, 2)
    trees.label_list(folder / "lists/10percent.txt", 4, 4)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["keep"] = ["continued"]
    config["data_folders"] = {
        "imagenet": "images/imagenet",
        "inaturalist-2018": "images/inat",
        "voc2007": "images/voc",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    done = made.snakemake("--cores", "1", "table1", "table2", study=STUDY, timeout=3600)
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stdout[-5000:]
    return made


@pytest.mark.slow
def test_bases_are_downloaded_converted_and_the_downloads_deleted(finished):
    for name, epochs in (("vicreg", 1000), ("swav_800", 800), ("simsiam", 100)):
        folder = finished.folder / ROOT / "bases" / name
        checkpoint = load_checkpoint(folder / "converted.pt")
        assert checkpoint.epochs == epochs and checkpoint.backbone == "resnet50"
        assert (checkpoint.optimizer is not None) == (name == "vicreg")
        record = json.loads((folder / "released.pth.source.json").read_text())
        assert checkpoint.provenance["sha256"] == record["sha256"]
        assert not (folder / "released.pth").exists()


@pytest.mark.slow
def test_every_run_took_two_steps_and_moved(finished):
    arms = [("vicreg", "e2mc"), ("simsiam", "e2mc")] + [("swav_800", arm) for arm in RIVALS[1:]]
    for base, arm in arms:
        folder = finished.folder / ROOT / f"continued/{base}/{arm}/base0-cont0"
        with (folder / "training.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [int(float(row["step"])) for row in rows] == [1, 2]
        assert all(math.isfinite(float(row["loss"])) for row in rows)
        before = load_checkpoint(finished.folder / ROOT / f"bases/{base}/converted.pt")
        after = load_checkpoint(folder / "checkpoint.pt")
        assert after.epochs == before.epochs + 1
        key = "backbone.layer3.2.conv2.weight"
        assert not torch.equal(after.model[key], before.model[key])


@pytest.mark.slow
def test_tables_have_every_cell(finished):
    for table, columns in (("table1", 7), ("table2", 3)):
        with (finished.folder / ROOT / f"tables/{table}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["base"] for row in rows} <= set(FILES)
        text = (finished.folder / ROOT / f"tables/{table}.md").read_text()
        assert "not run" not in text
        assert len({row["column"] for row in rows}) == columns


@pytest.mark.slow
def test_nothing_is_left_to_do(finished):
    assert finished.jobs("table1", "table2", study=STUDY) == {}
