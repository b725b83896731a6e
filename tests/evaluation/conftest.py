"""A subject with few images, which a random backbone sees."""

from __future__ import annotations

import pytest
import torch

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.data.images import ImageSet, Splits
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.evaluation.subject import DataSet, Subject
from e2mc.methods import create_method
from e2mc.models import create_backbone

GREY = Normalisation((0.3,), (0.3,))


def shades(count, classes=6, seed=0, size=28, noise=40):
    """Images of a brightness and a place of it for each class, in noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(noise, (count, 1, size, size), generator=generator)
    labels = torch.arange(count) % classes
    for label in range(classes):
        row = size * label // classes
        images[labels == label, :, row : row + 4] += 60 + 20 * label
    return ImageSet(images.to(torch.uint8), labels, tuple(f"c{i}" for i in range(classes)))


@pytest.fixture
def splits():
    """60 training, 24 validation and 36 test images of 6 classes."""
    return Splits(shades(60), shades(24, seed=1), shades(36, seed=2))


@pytest.fixture
def new_subject(tmp_path):
    """Makes a subject of some splits, ``images`` and others by their names."""
    torch.manual_seed(0)
    params = {"dim": 16, "predictor_hidden_dim": 8}
    method = create_method("simsiam", create_backbone("resnet-small", 1), **params)
    kept = {k: v for k, v in method.state_dict().items() if k not in method.run_state}
    Checkpoint("resnet-small", 1, "simsiam", params, kept, epochs=1).save(tmp_path / "a.pt")

    def make(images, states=None, identity="", **others):
        datasets = {}
        for name, found in {"images": images, **others}.items():
            found.save(tmp_path / f"{name}.pt")
            datasets[name] = DataSet(tmp_path / f"{name}.pt", PlainView(28), GREY)
        return Subject(
            tmp_path / "a.pt",
            datasets,
            "cpu",
            views=(ViewRecipe(28, count=2),),
            normalisation=GREY,
            states=states,
            identity=identity,
        )

    return make


@pytest.fixture
def subject(splits, new_subject):
    return new_subject(splits)
