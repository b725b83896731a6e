"""Folded batch normalisations: the same network to rounding, and only what may be folded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.models import create_backbone
from e2mc.models.folding import fold_batch_norm


def with_statistics(network, seed=0):
    """Batch normalisations that do something."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (
                (module.weight, 0.5),
                (module.bias, -0.5),
                (module.running_mean, -0.5),
                (module.running_var, 0.5),
            ):
                tensor.data.copy_(low + torch.rand(tensor.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize(
    ("name", "channels", "size", "norms"), [("resnet-small", 1, 28, 12), ("resnet50", 3, 64, 53)]
)
def test_folded_network_is_the_same_to_rounding(name, channels, size, norms):
    network = with_statistics(create_backbone(name, channels)).double()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batch_norm(network)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == norms
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    images = torch.randn(2, channels, size, size, dtype=torch.float64)
    for method in ("forward", "feature_map"):
        torch.testing.assert_close(
            getattr(folded, method)(images), getattr(network, method)(images), rtol=1e-9, atol=1e-9
        )
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


class Shared(nn.Module):
    """A convolution whose result goes two ways, one that is used twice, and one with a pair."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.twice, self.norms = (
            nn.Conv2d(2, 2, 1),
            nn.ModuleList([nn.BatchNorm2d(2), nn.BatchNorm2d(2)]),
        )
        self.last, self.end = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.first(x)
        y = y + self.norm(y)
        y = self.norms[1](self.twice(self.norms[0](self.twice(y))))
        return self.end(self.last(y))


def test_only_pairs_are_folded():
    network = with_statistics(Shared()).double()
    folded = fold_batch_norm(network)
    left = [name for name, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert left == ["norm", "norms.0", "norms.1"]
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(folded(x), network(x))


class Data(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_network_that_cannot_be_followed_says_what_to_do():
    with pytest.raises(ValueError, match=r"cannot be folded .*: set frozen_pass.fold to false"):
        fold_batch_norm(Data())
