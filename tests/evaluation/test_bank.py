"""A bank of views: what is in it, how epochs go through it, and that it can be stopped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.data.images import ImageSet, Splits
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.evaluation.bank import BankFeatures, bank_bytes, views_bank
from e2mc.evaluation.epochs import EpochState
from e2mc.evaluation.features import CachedFeatures
from e2mc.evaluation.heads import LinearProtocol
from e2mc.evaluation.linear import Linear
from e2mc.evaluation.paradigm import Counts, score_with_seeds
from e2mc.evaluation.seeds import EvaluationSeed
from e2mc.evaluation.subject import DataSet, Subject
from e2mc.progress import Interrupted

GREY = Normalisation((0.4,), (0.2,))
RECIPE = ViewRecipe(6, crop_scale=(0.5, 1.0))


class Pixels(nn.Module):
    feature_dim = 36

    def forward(self, views):
        return views.flatten(1)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 150, (200, 1, 6, 6), generator=generator)
    labels = torch.arange(200) % 4
    for label in range(4):
        pixels[labels == label, :, label] += 60
    return ImageSet(pixels.to(torch.uint8), labels, tuple("abcd"))


def bank_of(images, indices, views=3, **options):
    return views_bank(
        Pixels(), images, indices, views=views, recipe=RECIPE, normalisation=GREY, **options
    )


def test_bank_holds_different_views_of_each_image(images):
    indices = torch.tensor([3, 5, 8, 190])
    bank = bank_of(images, indices)
    assert bank.shape == (3, 4, 36) and bank.dtype == torch.bfloat16
    assert bank.isfinite().all()
    assert not torch.equal(bank[0], bank[1])
    assert torch.equal(bank, bank_of(images, indices))
    assert bank_bytes(8, 1_281_167, 2048) == 41_981_280_256


def test_file_holds_what_memory_would(images, tmp_path):
    indices = torch.arange(100)
    found = bank_of(images, indices, path=tmp_path / "x.bank")
    assert torch.equal(found, bank_of(images, indices))
    assert (tmp_path / "x.bank").stat().st_size == bank_bytes(3, 100, 36)


def test_bank_that_was_stopped_goes_on_exactly(images, tmp_path, monkeypatch):
    indices = torch.arange(200)
    monkeypatch.setattr("e2mc.evaluation.bank.FORWARD", 48)  # 16 images in a batch
    monkeypatch.setattr("e2mc.evaluation.bank.WRITTEN", 2 * 48 * 36)  # 2 batches
    whole = bank_of(images, indices)
    settings = {"path": tmp_path / "x.bank", "state": EpochState(tmp_path / "x.state", "it")}
    batches = iter(range(1000))
    stop = "e2mc.evaluation.epochs.stop_requested"
    monkeypatch.setattr(stop, lambda: next(batches) == 7)
    with pytest.raises(Interrupted):
        bank_of(images, indices, **settings)
    assert settings["state"].load() == {"images": 96}
    seen = []
    monkeypatch.setattr(stop, lambda: bool(seen.append(1)))
    assert torch.equal(bank_of(images, indices, **settings), whole)
    assert len(seen) == 7  # of 13 batches
    assert torch.equal(bank_of(images, indices, **settings), whole)
    assert len(seen) == 7  # nothing is left to do
    # a bank of something else is none
    other = settings | {"state": EpochState(tmp_path / "x.state", "other")}
    assert torch.equal(bank_of(images, indices, **other), whole) and len(seen) == 20


def test_size_is_said_before_and_a_full_disk_in_a_sentence(images, tmp_path, monkeypatch, capsys):
    bank_of(images, torch.arange(20), path=tmp_path / "x.bank", what="vicreg base")
    assert f"vicreg base: 0.0 GB in {tmp_path}/x.bank" in capsys.readouterr().err
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("e2mc.evaluation.bank.shutil.disk_usage", lambda _: usage)
    with pytest.raises(RuntimeError, match="needs 0.0 GB in .*: free some space, lower views_bank"):
        bank_of(images, torch.arange(20), path=tmp_path / "y.bank")
    assert not (tmp_path / "y.bank").exists()


def test_epochs_go_through_the_views_in_turn_and_in_new_orders():
    indices = torch.tensor([2, 4, 7, 9])
    bank = torch.arange(24).view(3, 4, 2).to(torch.bfloat16)
    stream = BankFeatures(bank, indices, seed=1)
    assert (stream.dim, stream.positions) == (2, 1)
    for epoch in range(5):
        [(features, order)] = stream.epoch(epoch, indices)
        rows = [indices.tolist().index(image) for image in order.tolist()]
        assert torch.equal(features, bank[epoch % 3][rows].float())
        expected = next(CachedFeatures(torch.zeros(10, 1), seed=1).epoch(epoch, indices))[1]
        assert torch.equal(order, expected)
    [(_, part)] = stream.epoch(0, torch.tensor([4, 9]))
    assert sorted(part.tolist()) == [4, 9]


class Scored(Subject):
    """A subject whose backbone is the pixels themselves."""

    def _load_backbone(self):
        return Pixels()


def linear(**options):
    protocol = LinearProtocol(epochs=6, batch_size=32, learning_rates=(0.1,))
    return Linear(kind="linear", label="x", views=RECIPE, protocol=protocol, **options)


@pytest.fixture
def subject(images, tmp_path):
    path = tmp_path / "images.pt"
    Splits(images, images.subset(torch.arange(40)), images.subset(torch.arange(100))).save(path)
    dataset = DataSet(path, PlainView(6), GREY)
    folder = tmp_path / "results"
    folder.mkdir()
    return Scored(tmp_path, {"images": dataset}, "cpu", states=folder, identity="x")


def test_seeds_and_kinds_of_features_learn_from_one_bank(subject, monkeypatch):
    made = []
    original = views_bank
    monkeypatch.setattr(
        "e2mc.evaluation.subject.views_bank", lambda *a, **k: made.append(1) or original(*a, **k)
    )
    seeds = [EvaluationSeed(0), EvaluationSeed(1)]
    found = score_with_seeds({"all": linear(views_bank=2)}, subject, seeds)["all"]
    assert len(made) == 1
    told = {(s["features"], s["evaluation_seed"]) for s in found.scores}
    assert told == {(kind, seed) for kind in ("raw", "whitened") for seed in (0, 1)}
    last = [s["value"] for s in found.scores if (s["selection"], s["split"]) == ("last", "test")]
    assert min(last) > 60  # by chance 25
    assert set(found.details["evaluation_seeds"]) == {"1"}


def test_bank_is_deleted_at_the_end_unless_it_is_kept(subject, tmp_path):
    score_with_seeds({"all": linear(views_bank=2)}, subject, [EvaluationSeed()])
    folder = tmp_path / "results"
    assert {path.name for path in folder.iterdir()} == {"all.bank", "all.bank.state", "all.state"}
    subject.forget_states(keep_banks=True)
    assert {path.name for path in folder.iterdir()} == {"all.bank", "all.bank.state"}
    subject.forget_states()
    assert not list(folder.iterdir())


def test_bank_and_fresh_views_share_no_pass_and_cost_what_they_show():
    bank, fresh = linear(views_bank=8), linear()
    assert bank.pass_key("x") != fresh.pass_key("x")
    counts = Counts(train=1000, validation=0, test=100, lists={})
    assert (bank.work(counts).streamed, bank.work(counts).banked) == (8000, 8000)
    assert (fresh.work(counts).streamed, fresh.work(counts).banked) == (6000, 0)
    assert "bank of 8 random views" in bank.remark and not fresh.remark


@pytest.mark.parametrize("options", [{"views_bank": 0}, {"views_bank": 4, "views": None}])
def test_bank_needs_views_and_at_least_one(options):
    with pytest.raises(ValueError, match="views_bank must be at least 1 and needs views"):
        Linear(
            **{"kind": "linear", "label": "x", "views": RECIPE, "protocol": LinearProtocol()}
            | options
        )
