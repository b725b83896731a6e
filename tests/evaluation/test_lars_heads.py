"""Linear heads with LARS: apex's LARC, per head and layer, as SimSiam evaluates with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from e2mc.evaluation.features import CachedFeatures
from e2mc.evaluation.heads import LinearProtocol, StackedHeads, larc
from e2mc.optim import LARCSGD


def stacked(weight, bias):
    """Heads (S, D + 1, K, L) from one (K, D) weight and (K,) bias, and a second head, all zero."""
    head = torch.cat((weight.T, bias.unsqueeze(0)))
    return torch.stack((head, torch.zeros_like(head)), dim=-1).unsqueeze(0)


@pytest.mark.parametrize("name", ["apex_larc_noclip_sgd_wd1e-2", "apex_larc_noclip_sgd_wd1e-6"])
@pytest.mark.parametrize(
    ("dtype", "prefix", "tolerance"), [(torch.float64, "f64", 1e-12), (torch.float32, "f32", 1e-6)]
)
def test_three_steps_are_apex_s(golden, name, dtype, prefix, tolerance):
    g = {key: value.to(dtype) for key, value in golden(name).items()}
    weight = stacked(g["p0_w"], g["p0_b"])
    momentum = torch.zeros_like(weight)
    for step, lr in enumerate(g["lrs"].tolist(), start=1):
        gradient = stacked(g[f"g{step}_w"], g[f"g{step}_b"])
        update = larc(gradient, weight, float(g["weight_decay"]), float(g["eta_or_trust"]))
        momentum.mul_(float(g["momentum"])).add_(update)
        weight.add_(momentum, alpha=-lr)
        expected = stacked(g[f"{prefix}_p{step}_w"], g[f"{prefix}_p{step}_b"])
        torch.testing.assert_close(weight, expected, rtol=tolerance, atol=tolerance)
    buffers = stacked(g[f"{prefix}_buf_w"], g[f"{prefix}_buf_b"])
    torch.testing.assert_close(momentum, buffers, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["zero_w", "zero_grad_w"])
def test_where_a_norm_is_zero_the_gradient_stays(golden, name):
    g = golden("apex_larc_noclip_sgd_wd1e-2")
    weight, gradient = g[f"p0_{name}"], g[f"g1_{name}"]
    bias = torch.zeros(len(weight))
    found = larc(stacked(gradient, bias), stacked(weight, bias), float(g["weight_decay"]))
    assert torch.equal(found[0, :-1, :, 0], gradient.T)


def test_heads_with_lars_equal_autograd_and_larc():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(50) % 4
    features = torch.randn(50, 6, generator=generator) + labels.unsqueeze(1)
    rates = (0.5, 40.0)
    protocol = LinearProtocol(
        optimizer="lars", epochs=4, batch_size=16, learning_rates=rates, weight_decay=0.01
    )
    subset = torch.arange(0, 50, 2)
    heads = StackedHeads(6, labels, [subset], [3], 4, protocol)
    for epoch in range(4):
        for values, indices in CachedFeatures(features).epoch(epoch, subset):
            heads.consume(values, indices)
        heads.end_epoch()
    for j, rate in enumerate(rates):
        linear = nn.Linear(6, 4)
        with torch.no_grad():
            drawn = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
            linear.weight.copy_(0.01 * drawn.T)
            linear.bias.zero_()
        optimizer = LARCSGD(linear.parameters(), lr=rate, weight_decay=0.01)
        for epoch in range(4):
            optimizer.param_groups[0]["lr"] = rate * protocol.factor(epoch)
            order = next(CachedFeatures(features).epoch(epoch, subset))[1]
            for batch in order.split(16):
                optimizer.zero_grad()
                nn.functional.cross_entropy(linear(features[batch]), labels[batch]).backward()
                optimizer.step()
        torch.testing.assert_close(heads.weight[0, :-1, :, j], linear.weight.T.detach())
        torch.testing.assert_close(heads.weight[0, -1, :, j], linear.bias.detach())


def test_protocol_knows_its_optimizers():
    with pytest.raises(ValueError, match="optimizer must be 'sgd' or 'lars', found 'adam'"):
        LinearProtocol(optimizer="adam")
    with pytest.raises(ValueError, match="batch_norm has no optimizer 'lars': set optimizer"):
        replace(LinearProtocol(batch_norm=True), optimizer="lars")
