"""What follows the crop: a batch at a time, equal to torchvision's operations image by image."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms.v2 import functional as reference

from e2mc.data.transforms import crop, gaussian_blur
from e2mc.data.views import (
    Draws,
    Normalisation,
    PlainView,
    ViewRecipe,
    finish_view,
    plain_view,
)

STEP = 1 / 255
RECIPE = ViewRecipe(
    40,
    jitter=0.8,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    jitter_order="random",
    grayscale=0.3,
    blur=0.5,
    solarize=0.3,
)
ADJUST = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)


def pictures(count: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 9, 9, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (40, 40), mode="bicubic").clamp(0, 1)
    noise = 0.05 * torch.randn(fine.shape, generator=generator)
    return ((fine + noise).clamp(0, 1) * 255).to(torch.uint8)


def test_whole_view_equals_torchvisions_operations():
    images = pictures(32)
    draws = Draws.of(RECIPE, 32, 3, torch.Generator().manual_seed(1))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = finish_view(images, RECIPE, Normalisation(mean, std), draws)
    happened = {name: 0 for name in ("flip", "jitter", "grayscale", "blur", "solarize")}
    for i, image in enumerate(images):
        one = draws.map(lambda drawn, i=i: drawn[i])
        expected = image.float() / 255
        for name in happened:
            happened[name] += bool(getattr(one, name))
        if one.flip:
            expected = reference.horizontal_flip(expected)
        if one.jitter:
            factors = (one.brightness, one.contrast, one.saturation, one.hue)
            for number in one.jitter_order.tolist():
                expected = ADJUST[number](expected, float(factors[number]))
        if one.grayscale:
            expected = reference.rgb_to_grayscale(expected, num_output_channels=3)
        if one.blur:
            size = 2 * math.ceil(3 * RECIPE.blur_sigma[1]) + 1
            expected = reference.gaussian_blur(expected, size, float(one.blur_sigma))
        if one.solarize:
            expected = reference.solarize(expected, 128 / 255)
        pixels = ours[i] * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
        assert (pixels - expected).abs().max() <= STEP, i
    assert all(3 < count < 32 for count in happened.values()), happened


def test_every_order_of_the_jitter_is_drawn():
    draws = Draws.of(RECIPE, 4000, 3, torch.Generator().manual_seed(0))
    orders, counts = draws.jitter_order.unique(dim=0, return_counts=True)
    assert len(orders) == 24 and orders.sort(dim=1).values.unique(dim=0).tolist() == [[0, 1, 2, 3]]
    assert counts.min() > 110 and counts.max() < 230


def test_random_order_on_greyscale_images_changes_brightness_and_contrast_alone():
    images = pictures(8, channels=1)
    draws = Draws.of(RECIPE, 8, 1, torch.Generator().manual_seed(0))
    views = finish_view(images, RECIPE, Normalisation((0.0,), (1.0,)), draws)
    assert draws.saturation is None and views.shape == (8, 1, 40, 40) and views.isfinite().all()


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 1.5, 2.0])
def test_blur_deviates_little_from_pillows(sigma):
    """Pillow replaces the Gaussian by three box blurs: the mean deviation is within one grey level.

    Measured on these pictures: mean at most 0.7, largest 3.3 of 255 levels.
    """
    images = pictures(4)
    ours = gaussian_blur(images.float() / 255, torch.full((4,), sigma), 2.0) * 255
    for image, found in zip(images, ours):
        pillow = Image.fromarray(image.permute(1, 2, 0).numpy())
        pillow = reference.pil_to_tensor(pillow.filter(ImageFilter.GaussianBlur(sigma)))
        # the borders are treated differently: Pillow repeats the edge, ours is reflected
        inner = (slice(None), slice(6, -6), slice(6, -6))
        difference = (found - pillow).abs()[inner]
        assert difference.mean() < 1.0 and difference.max() < 4


def test_bicubic_crop_in_memory_is_close_to_torchvision():
    images = pictures(4).float() / 255
    boxes = torch.tensor([[4.0, 6.0, 20.0, 24.0]]).repeat(4, 1)
    ours = crop(images, boxes, 48, torch.zeros(4, dtype=torch.bool), "bicubic")
    bicubic = reference.InterpolationMode.BICUBIC
    theirs = reference.resized_crop(
        images, 6, 4, 24, 20, [48, 48], interpolation=bicubic, antialias=False
    ).clamp(0, 1)
    inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    assert (ours[inner] - theirs[inner]).abs().max() <= STEP
    assert ours.min() >= 0 and ours.max() <= 1


def test_plain_view_in_memory_resizes_and_cuts_like_torchvision():
    images = pictures(2)[:, :, :30]
    none = Normalisation((0.0,) * 3, (1.0,) * 3)
    for view in (PlainView(16, resize=20, crop=True), PlainView(16, resize=20), PlainView(16)):
        expected = images.float() / 255
        if view.resize:
            expected = reference.resize(expected, view.resize, antialias=True)
        if view.crop:
            expected = reference.center_crop(expected, [16, 16])
        else:
            expected = reference.resize(expected, [16, 16], antialias=True)
        torch.testing.assert_close(plain_view(images, none, view), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"size": 224, "crop": True}, "needs a resize of at least as many, found None"),
        ({"size": 224, "resize": 200, "crop": True}, "at least as many, found 200"),
        ({"size": 8, "resize": 0}, "resize must be at least 1"),
    ],
)
def test_bad_plain_views_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PlainView(**arguments)
