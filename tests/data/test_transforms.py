import math

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from e2mc.data.transforms import (
    color_jitter,
    crop,
    gaussian_blur,
    greyscale,
    shift_hue,
    solarize,
)

STEP = 1 / 255


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)


def test_crop_of_the_whole_image_is_the_image(images):
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).repeat(6, 1)
    keep = torch.zeros(6, dtype=torch.bool)
    torch.testing.assert_close(crop(images, boxes, 32, keep), images, atol=1e-5, rtol=0)
    torch.testing.assert_close(crop(images, boxes, 32, ~keep), images.flip(-1), atol=1e-5, rtol=0)


def test_crop_equals_torchvision_resized_crop(images):
    boxes = torch.tensor([[5.0, 3.0, 16.0, 12.0]]).repeat(6, 1)
    ours = crop(images, boxes, 24, torch.zeros(6, dtype=torch.bool))
    theirs = reference.resized_crop(images, 3, 5, 12, 16, [24, 24], antialias=False)
    # ours may read the pixels just outside the box, torchvision repeats the box's border
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert (ours[inner] - theirs[inner]).abs().max() <= STEP


@pytest.mark.parametrize("turns", [-0.4, -0.1, 0.0, 0.07, 0.5])
def test_hue_equals_torchvision(images, turns):
    ours = shift_hue(images, torch.full((6, 1, 1, 1), turns))
    assert (ours - reference.adjust_hue(images, turns)).abs().max() <= STEP


def test_solarize_and_greyscale_equal_torchvision(images):
    assert torch.equal(solarize(images), reference.solarize(images, 128 / 255))
    theirs = reference.rgb_to_grayscale(images, num_output_channels=3)
    assert (greyscale(images) - theirs).abs().max() <= STEP


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.7])
def test_blur_equals_torchvision(images, sigma):
    ours = gaussian_blur(images, torch.full((6,), sigma), sigma)
    size = 2 * math.ceil(3 * sigma) + 1
    assert (ours - reference.gaussian_blur(images, size, sigma)).abs().max() <= STEP


def test_jitter_equals_torchvision_for_the_same_amounts(images):
    drawn = torch.rand(4, 6, generator=torch.Generator().manual_seed(3))
    amounts = [
        0.6 + 0.8 * drawn[0],
        0.6 + 0.8 * drawn[1],
        0.8 + 0.4 * drawn[2],
        0.2 * drawn[3] - 0.1,
    ]
    ours = color_jitter(images, amounts)
    for index, image in enumerate(images):
        brightness, contrast, saturation, hue = (float(amount[index]) for amount in amounts)
        expected = reference.adjust_brightness(image, brightness)
        expected = reference.adjust_contrast(expected, contrast)
        expected = reference.adjust_saturation(expected, saturation)
        expected = reference.adjust_hue(expected, hue)
        assert (ours[index] - expected).abs().max() <= STEP
