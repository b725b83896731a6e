"""CorInfoMax against the official values; its memory is part of its state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.criteria import CorInfoMax


@pytest.mark.parametrize("name", ["64x16", "rankdef_16x32"])
def test_three_official_steps_interrupted_by_a_resume(golden, same_value, same_gradient, name):
    g = golden(f"corinfomax_{name}")
    parameters = {"decay": float(g["la_R"]), "epsilon": float(g["R_eps_weight"])}
    criterion = CorInfoMax(**parameters)
    for step in (1, 2, 3):
        views = [g[f"z{v}_{step}"].double().requires_grad_() for v in (1, 2)]
        loss = criterion(*views).loss
        loss.backward()
        same_value(loss.detach(), g[f"loss_{step}"])
        for v, z in enumerate(views, start=1):
            same_gradient(z.grad, g[f"grad_z{v}_{step}"])
        same_gradient(criterion.means[0], g[f"mu1_after_{step}"])
        state, criterion = criterion.state_dict(), CorInfoMax(**parameters)
        criterion.load_state_dict(state)
    same_gradient(criterion.covariances[0], g["R1_after_3"])


def test_state_loads_as_part_of_a_larger_module():
    first, second = (nn.ModuleDict({"criterion": CorInfoMax()}) for _ in range(2))
    first["criterion"](torch.randn(8, 3))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second["criterion"].covariances, first["criterion"].covariances)


def test_evaluation_leaves_no_trace():
    criterion, z = CorInfoMax(), torch.randn(8, 3)
    criterion(z)
    state = {key: value.clone() for key, value in criterion.state_dict().items()}
    criterion.eval()(z + 1)
    assert all(torch.equal(state[key], value) for key, value in criterion.state_dict().items())


def test_another_width_is_refused():
    criterion = CorInfoMax()
    criterion(torch.randn(8, 3), torch.randn(8, 3))
    with pytest.raises(ValueError, match=r"followed \(2, 3\) \(views, D\) so far, found \(1, 3\)"):
        criterion(torch.randn(8, 3))


def test_evaluation_of_a_new_one_leaves_no_trace():
    criterion, z = CorInfoMax().eval(), torch.randn(8, 3)
    criterion(z)
    assert criterion.means.numel() == 0 and criterion.covariances.numel() == 0


def test_moments_of_several_batches_at_once_are_refused():
    criterion = CorInfoMax()
    with pytest.raises(ValueError, match=r"found 5 in torch\.vmap: call eval\(\) on the criterion"):
        torch.vmap(lambda z: criterion(z).loss)(torch.randn(5, 8, 3))
    assert criterion.means.numel() == 0
