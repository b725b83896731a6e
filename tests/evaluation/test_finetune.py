from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, PlainView
from e2mc.evaluation.epochs import EpochState
from e2mc.evaluation.finetune import FineTune, FineTuneProtocol, fine_tune
from e2mc.evaluation.paradigm import Counts, Work
from e2mc.progress import Interrupted

GREY = Normalisation((0.5,), (0.5,))


class Tiny(nn.Module):
    feature_dim = 8

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images):
        return self.body(images).mean(dim=(2, 3))


def bars(count: int, seed: int, classes: int = 2) -> ImageSet:
    """Horizontal against vertical stripes, in noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 60, (count, 1, 12, 12), generator=generator)
    labels = torch.arange(count) % 2
    images[labels == 0, :, ::3, :] += 150
    images[labels == 1, :, :, ::3] += 150
    return ImageSet(images.to(torch.uint8), labels, tuple(f"c{i}" for i in range(classes)))


def tune(backbone, subset=None, seed=0, classes=2, validation=None, state=None, **changes):
    train = bars(64, 0, classes)
    settings = {"epochs": 6, "batch_size": 16, "trunk_lr": 0.1, "head_lr": 0.5}
    return fine_tune(
        backbone,
        train,
        torch.arange(64) if subset is None else subset,
        bars(40, 1, classes) if validation is None else validation,
        bars(40, 2, classes),
        protocol=FineTuneProtocol(**settings | {"crop_scale": (0.5, 1.0)} | changes),
        normalisation=GREY,
        view=PlainView(12),
        state=state,
        seed=seed,
    )


def test_fine_tuning_learns_and_leaves_the_backbone_alone():
    backbone = Tiny().eval()
    backbone.requires_grad_(False)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    scores, details = tune(backbone)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not backbone.training
    [last] = [s for s in scores if (s["selection"], s["split"]) == ("last", "test")]
    assert last["value"] > 90
    assert last["metric"] == "top1"
    assert details["labels"] == 64
    assert len(details["training_loss"]) == 6


def test_fine_tuning_is_a_function_of_the_seed():
    backbone = Tiny()
    assert tune(backbone, seed=1) == tune(backbone, seed=1)
    assert tune(backbone, seed=1)[1] != tune(backbone, seed=2)[1]


def test_each_group_has_its_own_rate():
    loss = {
        rates: tune(Tiny(), trunk_lr=rates[0], head_lr=rates[1])[1]["training_loss"][-1]
        for rates in ((0.0, 0.0), (0.0, 0.1), (0.1, 0.0), (0.1, 0.1))
    }
    assert loss[0.1, 0.1] < loss[0.0, 0.1] < loss[0.0, 0.0]
    assert loss[0.1, 0.1] < loss[0.1, 0.0] < loss[0.0, 0.0]


def test_best_epoch_is_kept():
    scores, details = tune(Tiny(), head_lr=50.0, schedule="step", steps=(), epochs=5)
    value = {(s["selection"], s["split"]): s["value"] for s in scores}
    assert value["best", "validation"] >= value["last", "validation"]
    assert 1 <= details["best_epoch"] <= 5


def test_top5_with_many_classes_and_a_lone_last_image():
    scores, _ = tune(Tiny(), subset=torch.arange(33), classes=7, epochs=1)
    top5 = {(s["selection"], s["split"]): s["value"] for s in scores if s["metric"] == "top5"}
    top1 = {(s["selection"], s["split"]): s["value"] for s in scores if s["metric"] == "top1"}
    assert len(top5) == 4
    assert all(top5[key] >= top1[key] for key in top1)


def test_errors():
    with pytest.raises(ValueError, match="at least 2 labelled images, found 1"):
        tune(Tiny(), subset=torch.tensor([3]))
    with pytest.raises(ValueError, match="loss is nan"):
        tune(Tiny(), trunk_lr=1e30, head_lr=1e30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"trunk_lr": -0.1}, "trunk_lr"),
        ({"momentum": 1.5}, "momentum"),
        ({"schedule": "linear"}, "schedule"),
        ({"steps": (3, 6)}, r"steps is \(3, 6\), but schedule cosine has no steps: set schedule"),
        ({"gamma": 0.5}, "gamma is 0.5, but schedule cosine"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"flip": 2.0}, "flip"),
    ],
)
def test_protocol_ranges(change, message):
    with pytest.raises(ValueError, match=message):
        FineTuneProtocol(**change)


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path, monkeypatch):
    whole = tune(Tiny())
    state = EpochState(tmp_path / "tune.state", "this run")
    batches = iter(range(1000))
    monkeypatch.setattr("e2mc.evaluation.epochs.stop_requested", lambda: next(batches) == 4 * 3 + 2)
    with pytest.raises(Interrupted):
        tune(Tiny(), state=state)
    assert state.load()["epoch"] == 3
    assert tune(Tiny(), state=state) == whole


def test_without_validation_images_the_test_images_choose_the_best_epoch():
    scores, details = tune(Tiny(), validation=bars(0, 1))
    assert {score["split"] for score in scores} == {"test"}
    assert details["best_epoch_chosen_on"] == "test"


def test_running_out_of_gpu_memory_says_what_to_try(monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr("e2mc.evaluation.finetune.F.cross_entropy", no_memory)
    with pytest.raises(RuntimeError, match="fine-tune on 16 images at once: try batch_size: 8"):
        tune(Tiny())


PROTOCOL = FineTuneProtocol(epochs=3, batch_size=8, crop_scale=(0.5, 1.0))
COUNTS = Counts(train=60, validation=24, test=36, lists={"1percent": 8})


def test_paradigm_trains_a_head_and_the_backbone_for_each_draw_of_labels(subject):
    paradigm = FineTune(label="x", fraction=0.5, label_seeds=(0, 2), protocol=PROTOCOL)
    found = paradigm.score(subject, "semisup")
    splits, data = subject.splits("images"), subject.datasets["images"]
    expected = []
    for seed, subset in paradigm.subsets(splits).items():
        scores, details = fine_tune(
            subject.backbone,
            splits.train,
            subset,
            splits.validation,
            splits.test,
            protocol=PROTOCOL,
            normalisation=data.normalisation,
            view=data.view,
            seed=seed,
        )
        expected += scores
        assert found.details[str(seed)] == details and details["labels"] == 30
    assert found.scores == expected
    assert {score["probe_seed"] for score in found.scores} == {0, 2}
    assert paradigm.job == "evaluate_fine_tuned" and paradigm.selects_epochs


def test_work_is_epochs_over_the_labels_and_looks_at_the_held_out_images():
    paradigm = FineTune(label="x", label_list="1percent", protocol=PROTOCOL)
    looks = 3 // PROTOCOL.validate_every + (3 % PROTOCOL.validate_every > 0)
    assert paradigm.work(COUNTS) == Work(trained=3 * 8, looked_at=looks * 24)
    without = Counts(train=60, validation=0, test=36, lists={"1percent": 8})
    assert paradigm.work(without).looked_at == looks * 36
