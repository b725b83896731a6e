"""The control of E2MC: the length of its gradient, a direction that is drawn."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from e2mc.criteria import E2MC, RandomDirection

WEIGHTS = {"entropy_weight": 10.0, "covariance_weight": 100.0}


def sample(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64).requires_grad_()


def gradient(criterion, *views: Tensor, of: float = 1.0) -> Tensor:
    """By all views together."""
    return torch.stack(torch.autograd.grad(of * criterion(*views).loss, views))


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("n, d, count", [(24, 5, 1), (6, 9, 2), (2, 1, 3)])
@pytest.mark.parametrize("params", [{}, WEIGHTS, {"mapping": "logistic", "window": 1}])
def test_gradient_has_the_length_of_e2mcs(n, d, count, params):
    views = [sample(n, d, seed) for seed in range(count)]
    criterion, e2mc = RandomDirection(**params), E2MC(**params)
    expected = gradient(e2mc, *views).norm()
    torch.testing.assert_close(gradient(criterion, *views).norm(), expected)
    torch.testing.assert_close(gradient(criterion, *views, of=-3.0).norm(), 3 * expected)
    out = criterion(*views)
    torch.testing.assert_close(out.loss.detach(), expected)
    terms = e2mc(*views).terms | {"gradient_norm": expected}
    torch.testing.assert_close(out.terms, terms)
    assert not any(term.requires_grad for term in out.terms.values())


def test_length_follows_the_weights():
    z = sample(16, 4)
    lengths = [gradient(RandomDirection(w, 10 * w), z).norm() for w in (1.0, 3.0)]
    torch.testing.assert_close(3 * lengths[0], lengths[1])
    assert gradient(RandomDirection(0.0, 0.0), z).norm() == 0


def test_directions_are_those_of_no_preference():
    """Cosines with E2MC's gradient, and between steps, as of independent unit vectors."""
    views = [sample(32, 8, seed) for seed in range(2)]
    count = 2 * 32 * 8
    criterion, target = RandomDirection(**WEIGHTS), gradient(E2MC(**WEIGHTS), *views)
    drawn = [gradient(criterion, *views) for _ in range(200)]
    cosines = torch.tensor([cosine(g, target) for g in drawn])
    assert abs(cosines.mean()) < 4 / math.sqrt(200 * count)
    assert cosines.std() == pytest.approx(1 / math.sqrt(count), rel=0.2)
    assert max(abs(cosine(a, b)) for a, b in pairwise(drawn)) < 5 / math.sqrt(count)


def test_every_training_step_has_a_direction_of_its_own_and_resumes_with_it():
    criterion, z = RandomDirection(), sample(16, 3)
    gradients = [gradient(criterion, z) for _ in range(3)]
    assert not torch.equal(gradients[0], gradients[1])
    assert list(criterion.state_dict()) == ["step"]
    resumed = RandomDirection()
    resumed.load_state_dict({"step": torch.tensor(2)})
    assert torch.equal(gradient(resumed, z), gradients[2])
    resumed.eval()
    assert torch.equal(gradient(resumed, z), gradient(resumed, z))


def test_second_derivatives_are_0():
    z = sample(7, 3)
    (first,) = torch.autograd.grad(RandomDirection()(z).loss, z, create_graph=True)
    assert not first.requires_grad or not torch.autograd.grad(first.square().sum(), z)[0].any()


def test_value_is_there_without_gradients():
    z = sample(16, 4)
    with torch.no_grad():
        out = RandomDirection()(z)
    torch.testing.assert_close(out.loss, gradient(E2MC(), z).norm())


@pytest.mark.parametrize("n, d", [(12, 4), (4, 12)])
def test_compiled_gradients_are_the_same(n, d):
    torch.compiler.reset()
    views = [sample(n, d, seed) for seed in range(2)]
    compiled = torch.compile(RandomDirection(), backend="aot_eager")
    torch.testing.assert_close(gradient(compiled, *views), gradient(RandomDirection(), *views))


def test_ideal_embeddings_are_e2mcs():
    z = [
        kind(mapping="logistic").ideal_embeddings(64, 2, torch.Generator().manual_seed(0))
        for kind in (E2MC, RandomDirection)
    ]
    assert torch.equal(z[0], z[1])
