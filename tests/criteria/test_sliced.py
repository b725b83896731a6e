"""What is drawn for criteria along random directions."""

from __future__ import annotations

import pytest
import torch

from e2mc.criteria.sliced import random_directions, random_uniforms

STEP = torch.zeros((), dtype=torch.long)


def test_directions_are_uniform_on_the_sphere():
    a = random_directions(3, 20000, STEP)
    torch.testing.assert_close(a.norm(dim=0), torch.ones(20000, dtype=torch.float64))
    assert a.mean(dim=1).abs().max() < 0.02
    third = torch.eye(3, dtype=torch.float64) / 3
    torch.testing.assert_close(a @ a.T / 20000, third, atol=0.01, rtol=0)
    assert torch.linalg.matrix_rank(random_directions(16, 16, STEP)) == 16


def test_directions_of_the_first_step_stay_what_they_were():
    """A run of an earlier version goes on with the same numbers."""
    expected = torch.tensor(
        [
            [-0.14534816670039974, 0.6215692972463913],
            [-0.2177145823452863, -0.7749636587915628],
            [-0.9651291473533739, 0.11438066389482707],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(random_directions(3, 2, STEP + 5), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("stream", [0, 1])
def test_numbers_are_uniform_and_others_in_every_step_and_stream(stream):
    numbers = torch.cat([random_uniforms(5000, STEP + step, stream) for step in range(4)])
    assert len(numbers.unique()) == 20000 and numbers.min() > 0 and numbers.max() < 1
    shares = torch.histc(numbers, bins=10, min=0, max=1) / 20000
    torch.testing.assert_close(shares, torch.full_like(shares, 0.1), atol=0.01, rtol=0)
    other = random_uniforms(5000, STEP, 1 - stream)
    assert abs(torch.corrcoef(torch.stack([numbers[:5000], other]))[0, 1]) < 0.05
