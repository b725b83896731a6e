"""How far embeddings are from what each criterion asks for."""

from __future__ import annotations

import pytest
import torch

from e2mc.criteria import CRITERIA
from e2mc.entropy import mapped_entropy
from e2mc.evaluation.terms import leading_term

N, D = 512, 16


def normal(seed=1):
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_embeddings_come_nearer_to_the_ideal_ones(name):
    """Views that are the same and independent normal are ideal; one wide direction is not."""
    z = normal()
    collapsed = 0.1 * z + 3 * torch.randn(N, 1, generator=torch.Generator().manual_seed(2))
    far, near = (leading_term(name, {}, [v, v], 2) for v in (collapsed, z))
    assert far["term"] == near["term"] and far["ideal"] == near["ideal"]
    distance = abs(far["value"] - far["ideal"])
    assert abs(near["value"] - near["ideal"]) < 0.1 * distance


@pytest.mark.parametrize("mapping", ["normal", "logistic"])
def test_of_e2mc_it_is_the_entropy_of_the_global_views(mapping):
    views = [normal(), 2 * normal(2), 3 * normal(3)]
    found = leading_term("e2mc", {"mapping": mapping}, views, 2)
    expected = torch.stack([mapped_entropy(z, mapping) for z in views[:2]]).mean()
    assert found["term"] == "entropy" and found["value"] == pytest.approx(float(expected))
    assert found["ideal"] == pytest.approx(-0.02, abs=0.01)  # that of uniform values, for this N


def test_a_criterion_of_all_views_sees_the_local_ones():
    views = [normal(), normal(), normal(3)]
    assert leading_term("mmcr", {}, views, 2)["value"] != pytest.approx(
        leading_term("mmcr", {}, views[:2], 2)["value"]
    )
