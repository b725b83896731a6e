"""The instrument against the criteria's functions, and what it must leave alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.data.images import ImageSet, Splits
from e2mc.data.source import Batch
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.entropy import mapped_entropy
from e2mc.evaluation.information import Information, information
from e2mc.evaluation.subject import DataSet, Subject
from e2mc.methods import create_method
from e2mc.models import create_backbone
from e2mc.sphere import entropy, reconstruction

VIEWS = (ViewRecipe(28, count=2, crop_scale=(0.3, 1.0)), ViewRecipe(14, count=3))
SWAV = {"hidden_dim": 16, "dim": 8, "prototypes": 6, "queue_length": 32}


@pytest.fixture
def images():
    pixels = torch.rand(80, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return ImageSet((pixels * 255).byte(), torch.zeros(80, dtype=torch.long), ("a",))


@pytest.fixture
def method():
    torch.manual_seed(0)
    return create_method("swav", create_backbone("resnet-small", 1), **SWAV)


def take(method, images, count=64):
    instrument = Information(images=count)
    return instrument.measure(method, images, VIEWS, Normalisation((0.3,), (0.3,)))


def test_values_are_those_of_the_criteria():
    z1, z2 = (torch.randn(40, 6, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    found = information(z1, z2, 5.0)
    e1, e2 = normalize(z1), normalize(z2)
    h = float(entropy(e1, 5.0) + entropy(e2, 5.0)) / 2
    error = float(reconstruction(e1, e2, 5.0))
    marginal = float(torch.cat([mapped_entropy(z, "normal") for z in (z1, z2)]).mean())
    expected = {"entropy": h, "reconstruction": error, "bound": h - error}
    expected |= {"marginal_entropy": marginal, "uniform": 3 * math.log(math.pi)}
    assert found == pytest.approx(expected, rel=1e-5)


def test_measuring_twice_gives_the_same_and_leaves_the_method_as_it_was(method, images):
    batch = Batch(torch.arange(32), 0)
    method(next(images.views([batch], VIEWS, Normalisation((0.3,), (0.3,)), "cpu")))
    before = {key: value.clone() for key, value in method.state_dict().items()}
    random = torch.get_rng_state()
    first = take(method, images)
    assert first == take(method, images) and method.training
    assert all(torch.equal(method.state_dict()[key], value) for key, value in before.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in method.parameters())
    assert take(method, images, 40) != first
    assert take(method, images, 1000) == take(method, images, 80)


def test_images_that_lie_class_by_class_all_take_part(method, images, monkeypatch):
    shown = []
    views = ImageSet.views

    def noted(self, batches, *args):
        shown.extend(batches)
        return views(self, shown, *args)

    monkeypatch.setattr(ImageSet, "views", noted)
    take(method, images, 5)
    assert torch.cat([batch.indices for batch in shown]).tolist() == [0, 19, 39, 59, 79]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"images": 1}, "images must be at least 2, found 1"),
        ({"kappa": 0.0}, "kappa must be positive, found 0"),
        ({"kappa": float("nan")}, "kappa must be positive, found nan"),
    ],
)
def test_wrong_instruments_raise(params, message):
    with pytest.raises(ValueError, match=message):
        Information(**params)


def test_paradigm_measures_the_training_images(method, images, tmp_path):
    kept = {k: v for k, v in method.state_dict().items() if k not in method.run_state}
    Checkpoint("resnet-small", 1, "swav", SWAV, kept, epochs=1).save(tmp_path / "a.pt")
    other = images.subset(torch.arange(10))
    Splits(images, other, other).save(tmp_path / "images.pt")
    grey = Normalisation((0.3,), (0.3,))
    datasets = {"images": DataSet(tmp_path / "images.pt", PlainView(28), grey)}
    subject = Subject(tmp_path / "a.pt", datasets, "cpu", views=VIEWS, normalisation=grey)
    found = Information(images=64).score(subject, "information")
    expected = take(method, images)
    assert {score["metric"]: score["value"] for score in found.scores} == pytest.approx(
        expected, rel=1e-4, abs=1e-6
    )
    assert all((s["split"], s["features"]) == ("train", "embeddings") for s in found.scores)


def test_what_it_says_of_itself():
    assert Information().values() == {"images": 512, "kappa": 10.0}
    assert Information.on_embeddings and Information.job == "measure"
