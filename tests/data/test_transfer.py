import pytest
import torch

from e2mc.data.images import ImageSet, Splits
from e2mc.data.transfer import compose_outfits, load_digits


def garments(count):
    """Garments whose every pixel is their class number plus one."""
    labels = torch.arange(count) % 10
    images = (labels + 1).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 28, 28).contiguous()
    return ImageSet(images, labels, tuple("abcdefghij"))


def test_outfits_show_what_their_labels_say():
    source = Splits(garments(400), garments(100), garments(200))
    outfits = compose_outfits(source, (80, 20, 40), seed=0)
    for part, count in ((outfits.train, 80), (outfits.validation, 20), (outfits.test, 40)):
        assert part.images.shape == (count, 1, 56, 56)
        for image, label in zip(part.images, part.labels, strict=True):
            shown = {int(value) - 1 for value in image.unique() if value > 0}
            assert shown == set(label.nonzero().squeeze(1).tolist())
            assert 1 <= len(shown) <= 4


def test_too_few_garments():
    source = Splits(garments(10), garments(10), garments(10))
    with pytest.raises(ValueError, match="garments, there are 10"):
        compose_outfits(source, (80, 2, 2), seed=0)


def test_digits_are_split_without_overlap():
    digits = load_digits(28, seed=0)
    sizes = [len(part) for part in (digits.train, digits.validation, digits.test)]
    assert sizes == [1000, 297, 500]
    assert digits.train.images.shape[1:] == (1, 28, 28)
    assert torch.bincount(digits.test.labels).min() >= 48


def test_splits_survive_a_round_trip(tmp_path):
    digits = load_digits(28, seed=0)
    digits.save(tmp_path / "digits.pt")
    again = Splits.load(tmp_path / "digits.pt")
    assert torch.equal(again.test.images, digits.test.images)
    assert torch.equal(again.train.labels, digits.train.labels)
    assert again.train.classes == digits.train.classes


def test_images_and_labels_must_fit():
    with pytest.raises(ValueError, match="3 images but 2 labels"):
        ImageSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(2).long(), ("a",))
    with pytest.raises(ValueError, match="labels run from 0 to 5"):
        ImageSet(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 5]), ("a", "b"))
