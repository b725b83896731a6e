"""Narrow models of the official classes, the files that they write, and their conversion."""

import official
import pytest
import torch

from e2mc.checkpoints.own import convert_own
from e2mc.checkpoints.released import convert_released
from e2mc.models import BACKBONES
from e2mc.models.torchvision_backbone import PooledNetwork

WIDTH, LAYERS = 8, (1, 1, 1, 1)
PARAMS = {
    "vicreg": {"expander": [24, 24, 16]},
    "swav": {"hidden_dim": 24, "dim": 8, "prototypes": 12},
    "simsiam": {"dim": 24, "predictor_hidden_dim": 12},
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    def make(in_channels):
        return PooledNetwork(official.ResNet(WIDTH, LAYERS))

    monkeypatch.setitem(BACKBONES, "narrow", make)


@pytest.fixture
def models():
    torch.manual_seed(1)
    return {
        "vicreg": official.VICReg(WIDTH, LAYERS, (24, 24, 16)),
        "swav": official.ResNet(WIDTH, LAYERS, head=(24, 8, 12)),
        "simsiam": official.SimSiam(WIDTH, LAYERS, 24, 12),
    }


@pytest.fixture
def save(tmp_path, models):
    def save(name, **options):
        path = tmp_path / f"{name}.pth"
        getattr(official, f"save_{name}")(path, models[name], **options)
        return path

    return save


@pytest.fixture
def resnet():
    """A ResNet of the official class."""
    return official.ResNet(WIDTH, LAYERS)


@pytest.fixture
def convert():
    def convert(path, format, epochs=None, **changes):
        params = PARAMS[format] | changes
        return convert_released(
            path, format, backbone="narrow", method_params=params, epochs=epochs
        )

    return convert


@pytest.fixture
def own():
    def own(path, keys, **changes):
        options = {
            "backbone": "narrow",
            "in_channels": 3,
            "method": "vicreg",
            "method_params": PARAMS["vicreg"],
            "epochs": 90,
        }
        return convert_own(path, keys, **(options | changes))

    return own
