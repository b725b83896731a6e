"""SimCLR's loss against lightly's and a plain transcription."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import NTXentLoss

from e2mc.methods import create_method
from e2mc.methods.simclr import nt_xent_loss
from e2mc.sphere import entropy, reconstruction


def pair(n: int = 7, d: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_value_and_gradient_are_lightlys(temperature, same_value, same_gradient):
    ours, theirs = ([z.requires_grad_() for z in pair()] for _ in range(2))
    loss = nt_xent_loss(*ours, temperature=temperature)
    expected = NTXentLoss(temperature=temperature)(*theirs)
    same_value(loss.detach(), expected.detach())
    loss.backward()
    expected.backward()
    for mine, other in zip(ours, theirs, strict=True):
        same_gradient(mine.grad, other.grad)


def test_value_is_the_equation():
    z1, z2 = pair()
    e = torch.nn.functional.normalize(torch.cat([z1, z2]))
    total = 0.0
    for i in range(14):
        scores = torch.exp(e @ e[i] / 0.2)
        total -= torch.log(scores[(i + 7) % 14] / (scores.sum() - scores[i]))
    torch.testing.assert_close(nt_xent_loss(z1, z2, temperature=0.2), total / 14)


def test_er_takes_the_place_of_the_loss(backbone):
    views = [torch.randn(12, 1, 8, 8) for _ in range(2)]
    method = create_method("simclr", backbone, hidden_dim=8, dim=4, objective="er", kappa=5.0)
    out = method(views)
    a, b = (torch.nn.functional.normalize(z) for z in out.embeddings)
    expected = reconstruction(a, b, 5.0) - (entropy(a, 5.0) + entropy(b, 5.0)) / 2
    torch.testing.assert_close(out.loss, expected)
