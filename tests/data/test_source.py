import pytest
import torch

from e2mc.data.images import ImageSet
from e2mc.data.source import Batch
from e2mc.data.views import Normalisation, ViewRecipe

RECIPES = [
    ViewRecipe(14, count=2, crop_scale=(0.2, 1.0), jitter=0.8, brightness=0.4),
    ViewRecipe(7, blur=0.5, blur_sigma=(0.1, 1.0)),
]


@pytest.fixture
def images():
    pixels = torch.rand(12, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return ImageSet((pixels * 255).byte(), torch.zeros(12, dtype=torch.long), ("a",))


def views(images, *batches):
    return list(images.views(batches, RECIPES, Normalisation((0.5,) * 3, (0.2,) * 3), "cpu"))


def test_views_come_in_the_order_of_the_recipes(images):
    (found,) = views(images, Batch(torch.tensor([3, 1, 4]), seed=0))
    assert [tuple(view.shape) for view in found] == [(3, 3, 14, 14)] * 2 + [(3, 3, 7, 7)]
    assert not torch.equal(found[0], found[1])


def test_parts_are_those_of_the_whole_batch(images):
    order = torch.randperm(8)
    (whole,) = views(images, Batch(order, seed=5))
    halves = views(*[images], *(Batch(order, 5, part) for part in (slice(0, 4), slice(4, 8))))
    for index, view in enumerate(whole):
        joint = torch.cat([half[index] for half in halves])
        torch.testing.assert_close(joint, view)


def test_streams_repeat_the_draws(images):
    same_images = torch.tensor([2, 7, 2, 7])
    (found,) = views(images, Batch(same_images, seed=1, streams=2))
    for view in found:
        torch.testing.assert_close(view[:2], view[2:])
    (apart,) = views(images, Batch(same_images, seed=1))
    assert not torch.allclose(apart[0][:2], apart[0][2:])


def test_streams_that_do_not_divide_the_batch(images):
    with pytest.raises(ValueError, match="3 images cannot be split into 2 equal parts"):
        views(images, Batch(torch.arange(3), seed=1, streams=2))
