"""Batched image operations, with parameters of each image's own.

Images are float tensors (N, C, H, W) in [0, 1] on any device. Each operation is torchvision's
(transforms.v2, on tensors) for the same parameters, to 1/255.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as torchvision and PIL


def crop(
    images: Tensor, boxes: Tensor, size: int, flipped: Tensor, interpolation: str = "bilinear"
) -> Tensor:
    """Cuts a box out of each image and resizes it to (N, C, size, size).

    Args:
        images: float (N, C, H, W).
        boxes: (N, 4) of left, top, width, height in pixels; fractions are allowed.
        size: side of the result.
        flipped: bool (N,), which results are mirrored.
        interpolation: "bilinear" or "bicubic".
    """
    height, width = images.shape[-2:]
    left, top, box_width, box_height = boxes.to(images).unbind(1)
    sign = torch.where(flipped, -1.0, 1.0).to(images)
    # affine map from the result's [-1, 1] square to the image's, corner to corner
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0] = sign * box_width / width
    theta[:, 0, 2] = (2 * left + box_width) / width - 1
    theta[:, 1, 1] = box_height / height
    theta[:, 1, 2] = (2 * top + box_height) / height - 1
    grid = F.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
    views = F.grid_sample(
        images, grid, mode=interpolation, padding_mode="border", align_corners=False
    )
    return views if interpolation == "bilinear" else views.clamp(0, 1)


def color_jitter(
    views: Tensor, amounts: Sequence[Tensor | None], order: Tensor | None = None
) -> Tensor:
    """Brightness, contrast, saturation and hue, by amounts of each image's own.

    Args:
        views: float (N, C, H, W).
        amounts: factors (N,) of brightness, contrast and saturation, and turns (N,) of the hue;
            None leaves one out.
        order: int64 (N, 4), each image's order of the four; None is that of ``amounts``.
    """
    steps = [
        (operation, amount.to(views).view(-1, 1, 1, 1))
        for operation, amount in zip(JITTER, amounts, strict=True)
        if amount is not None
    ]
    if order is None:
        for operation, amount in steps:
            views = operation(views, amount)
        return views
    views = views.clone()
    for place in order.T:
        for number, (operation, amount) in enumerate(steps):
            rows = (place == number).nonzero().flatten().to(views.device)
            views[rows] = operation(views[rows], amount[rows])
    return views


def _brightness(views: Tensor, factors: Tensor) -> Tensor:
    return (views * factors).clamp(0, 1)


def _contrast(views: Tensor, factors: Tensor) -> Tensor:
    mean = greyscale(views).mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (views - mean) * factors).clamp(0, 1)


def _saturation(views: Tensor, factors: Tensor) -> Tensor:
    grey = greyscale(views)
    return (grey + (views - grey) * factors).clamp(0, 1)


def greyscale(views: Tensor) -> Tensor:
    """Luma in every channel (N, C, H, W); greyscale images are returned as they are."""
    if views.shape[1] != 3:
        return views
    weights = views.new_tensor(GREY_WEIGHTS).view(1, 3, 1, 1)
    return (views * weights).sum(dim=1, keepdim=True).expand_as(views)


def shift_hue(views: Tensor, turns: Tensor) -> Tensor:
    """Turns the colour circle of RGB images by ``turns`` (N, 1, 1, 1) through HSV."""
    value, _ = views.max(dim=1)
    chroma = value - views.min(dim=1).values
    red, green, blue = views.unbind(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue / 6 + turns.view(-1, 1, 1)
    # each channel is the value less the chroma times a trapezium of the hue (Smith 1978)
    offsets = views.new_tensor((5.0, 3.0, 1.0)).view(1, 3, 1, 1)
    k = (offsets + 6 * hue.unsqueeze(1)) % 6
    return value.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(k, 4 - k).clamp(0, 1)


JITTER = (_brightness, _contrast, _saturation, shift_hue)


def gaussian_blur(views: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Separable Gaussian blur with a standard deviation of each image's own, reflected borders.

    Args:
        views: float (N, C, H, W).
        sigma: (N,) in pixels.
        largest: the largest ``sigma`` that may occur, which decides the length of every kernel. It
            is not that of the images at hand, on whose company no view may depend.
    """
    if not len(views):
        return views
    count, channels, height, width = views.shape
    radius = min(math.ceil(3 * largest), height - 1, width - 1)
    steps = torch.arange(-radius, radius + 1, device=views.device, dtype=views.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma.to(views).view(-1, 1)) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    kernel = kernel.repeat_interleave(channels, dim=0)
    planes = views.reshape(1, count * channels, height, width)
    groups = count * channels
    planes = F.pad(planes, (radius, radius, radius, radius), mode="reflect")
    planes = F.conv2d(planes, kernel.view(groups, 1, 1, -1), groups=groups)
    planes = F.conv2d(planes, kernel.view(groups, 1, -1, 1), groups=groups)
    return planes.view(count, channels, height, width)


def solarize(views: Tensor) -> Tensor:
    """Inverts the pixels of at least 128 / 255, PIL's default threshold."""
    return torch.where(views >= 128 / 255, 1 - views, views)
