"""ER, the criterion: what it makes of the two terms of `e2mc.sphere`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from e2mc.criteria import ER
from e2mc.criteria.er import entropy, reconstruction


@pytest.mark.parametrize("estimator", ["plug-in", "joe"])
def test_criterion_normalises_and_weighs(estimator):
    generator = torch.Generator().manual_seed(3)
    views = [3 * torch.randn(9, 5, generator=generator, dtype=torch.float64) for _ in range(3)]
    criterion = ER(2.0, 3.0, kappa=5.0, estimator=estimator)
    out = criterion(*views)
    a, b, c = spheres = [normalize(z) for z in views]
    h = sum(entropy(e, 5.0, estimator) for e in spheres) / 3
    error = sum(reconstruction(e, f, 5.0) for e, f in ((a, b), (a, c), (b, c))) / 3
    torch.testing.assert_close(out.terms["entropy"], h)
    torch.testing.assert_close(out.terms["reconstruction"], error)
    torch.testing.assert_close(out.loss, 3 * error - 2 * h)
    assert list(criterion(views[0]).terms) == ["entropy"]


def test_learnable_kappa_is_a_parameter_that_tightens_the_bound():
    z = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    near = z + 0.1 * torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    criterion = ER(1.0, 1.0, kappa=2.0, learnable_kappa=True)
    (parameter,) = criterion.parameters()
    assert parameter.exp().item() == pytest.approx(2.0)
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    losses = []
    for _ in range(50):
        loss = criterion(z, near).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and parameter.exp() > 10  # near pairs, a sharp kernel
    assert "log_kappa" in criterion.state_dict() and not ER().state_dict()


@pytest.mark.parametrize(
    "params, message",
    [
        ({"kappa": 0.0}, "kappa must be a finite number above 0, found 0.0"),
        ({"estimator": "knn"}, "'knn' does not exist, expected one of plug-in, joe"),
        ({"learnable_kappa": True}, "positive entropy_weight and reconstruction_weight"),
    ],
)
def test_wrong_parameters_raise(params, message):
    with pytest.raises(ValueError, match=message):
        ER(**params)


def test_example_in_the_docs_runs(capsys):
    text = (Path(__file__).parents[2] / "docs/er.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(code, "docs/er.md", "exec"), {})
    assert re.fullmatch(r"I\(Z1; Z2\) >= \d\.\d\d nats\n", capsys.readouterr().out)
