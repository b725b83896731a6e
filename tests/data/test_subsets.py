import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e2mc.data.subsets import balanced_subset, evenly_spaced, stratified_split, stratified_subset

LABELS = torch.arange(1000) % 10


@given(st.integers(0, 1000), st.integers(0, 5))
def test_split_is_exact_disjoint_and_stratified(count, seed):
    rest, part = stratified_split(LABELS, count, seed)
    assert len(part) == count and len(rest) == 1000 - count
    assert torch.equal(torch.cat((rest, part)).sort().values, torch.arange(1000))
    sizes = torch.bincount(LABELS[part], minlength=10)
    assert int(sizes.max() - sizes.min()) <= 1


def test_same_seed_same_subset_and_small_ones_lie_in_large_ones():
    small = stratified_subset(LABELS, 0.01, seed=3)
    assert torch.equal(small, stratified_subset(LABELS, 0.01, seed=3))
    assert not torch.equal(small, stratified_subset(LABELS, 0.01, seed=4))
    assert set(small.tolist()) <= set(stratified_subset(LABELS, 0.1, seed=3).tolist())


def test_so_many_of_every_class_whatever_their_sizes():
    labels = torch.tensor([0] * 5 + [1] * 50 + [2] * 7)[torch.randperm(62)]
    four = balanced_subset(labels, 4, seed=3, classes="abc")
    assert labels[four].bincount().tolist() == [4, 4, 4]
    assert torch.equal(four, four.sort().values)
    assert torch.equal(four, balanced_subset(labels, 4, seed=3, classes="abc"))
    assert not torch.equal(four, balanced_subset(labels, 4, seed=4, classes="abc"))
    for larger in (
        balanced_subset(labels, 5, seed=3, classes="abc"),
        stratified_subset(labels, 0.9, seed=3),
    ):
        assert set(four.tolist()) <= set(larger.tolist())


def test_class_with_too_few_images_is_named():
    labels = torch.tensor([0, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="class b has 2 training images, fewer than 3: lower it"):
        balanced_subset(labels, 3, 0, classes=("a", "b"))
    with pytest.raises(ValueError, match="class c has 0 training images, fewer than 1"):
        balanced_subset(labels, 1, 0, classes=("a", "b", "c"))


def test_class_without_images_is_named():
    labels = torch.tensor([0] * 98 + [1] * 2)
    with pytest.raises(ValueError, match=r"leaves no image of rare"):
        stratified_subset(labels, 0.05, 0, classes=("common", "rare"))


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5])
def test_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        stratified_subset(LABELS, fraction, 0)


@pytest.mark.parametrize("total", [1, 2, 80, 1_281_167])
def test_evenly_spaced_goes_from_the_first_to_the_last(total):
    assert evenly_spaced(total, 1).tolist() == [0]
    assert evenly_spaced(total, 10**7).tolist() == list(range(total))
    found = evenly_spaced(total, 512)
    assert len(found) == min(total, 512) and (found[0], found[-1]) == (0, total - 1)
    gaps = found.diff()
    assert total < 3 or gaps.max() - gaps.min() <= 1
