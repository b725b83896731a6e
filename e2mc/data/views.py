"""Views of images: a batch of tensors in, a batch of tensors out, parameters drawn per image.

Every operation works on float images in [0, 1] of shape (N, C, H, W) on any device. All randomness
is in the ``Draws`` that are passed in, so a view is a function of (images, recipe, draws).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from e2mc.data.transforms import color_jitter, crop, gaussian_blur, greyscale, solarize
from e2mc.errors import InputError, expect_default


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation per channel, of images in [0, 1].

    Attributes:
        mean: in [0, 1], one per channel of the images.
        std: in (0, 1], one per channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise InputError(f"{len(self.mean)} means but {len(self.std)} standard deviations")
        if not self.mean:
            raise InputError("mean and std are empty: give a number per channel")
        for name, least in (("mean", "0 <="), ("std", "0 <")):
            values = getattr(self, name)
            if not all(0 <= value <= 1 for value in values) or (name == "std" and 0 in values):
                raise InputError(
                    f"{name} must be {least} {name} <= 1 in every channel, found "
                    f"{', '.join(f'{value:g}' for value in values)}: pixels run from 0 to 1 here, "
                    "divide what was measured on 0 to 255 by 255"
                )

    def __call__(self, images: Tensor) -> Tensor:
        if images.shape[1] != len(self.mean):
            raise InputError(
                f"a normalisation of {len(self.mean)} channels does not fit images of "
                f"{images.shape[1]}: give a mean and a std per channel"
            )
        shape = (1, -1, 1, 1)
        mean = images.new_tensor(self.mean).view(shape)
        std = images.new_tensor(self.std).view(shape)
        return (images - mean) / std


COLOURS = ("brightness", "contrast", "saturation", "hue")
# of what happens with some probability, what it is like
SETTINGS = {"jitter": (*COLOURS, "jitter_order"), "blur": ("blur_sigma",)}
USUAL = {"jitter": 0.8, "blur": 0.5}  # probabilities in SimCLR and its followers


@dataclass(frozen=True)
class ViewRecipe:
    """How a random view is made, in this order.

    Args:
        size: side of the square view, in pixels.
        count: how many views of this kind an image gets.
        interpolation: how the crop is resized.
        crop_scale: share of the image's area in the crop (smallest, largest).
        crop_ratio: width over height of the crop (smallest, largest).
        flip: probability of a horizontal flip.
        jitter: probability that brightness, contrast, saturation and hue change; without it they
            are refused.
        brightness, contrast, saturation: factors are drawn from 1 - value to 1 + value.
        hue: shifts are drawn from -hue to hue, in turns of the colour circle.
        jitter_order: "fixed" is brightness, contrast, saturation, hue; "random" is drawn for each
            image, as torchvision's ColorJitter does.
        grayscale: probability that colour is removed.
        blur: probability of a Gaussian blur.
        blur_sigma: its standard deviation in pixels (smallest, largest); refused without blur.
        solarize: probability that pixels of at least one half are inverted.

    On greyscale images saturation, hue and grayscale change nothing and are skipped.

    Where the box of a crop is larger than the image there are two laws. Images in memory
    (``crop_boxes``): its longer side is cut to the image. Images on disk (``files.crop_box``): as
    in torchvision's RandomResizedCrop it is drawn again, up to ten times, and then it is the
    centre. Boxes of images on disk begin and end at whole pixels, those in memory need not.
    """

    size: int
    count: int = 1
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: float = 0.5
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter_order: Literal["fixed", "random"] = "fixed"
    grayscale: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("size", "count"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("flip", "jitter", "grayscale", "blur", "solarize"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a probability in [0, 1], found {getattr(self, name)}")
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} must be 0 < smallest <= largest, found {low}, {high}")
        if self.crop_scale[1] > 1:
            raise InputError(f"crop_scale is a share of the area, found {self.crop_scale[1]} > 1")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1], found {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise InputError(f"hue must be in [0, 0.5], found {self.hue}")
        for probability, settings in SETTINGS.items():
            if not getattr(self, probability):
                usual = f"set {probability}, e.g. to {USUAL[probability]}"
                why = f"{probability}, the probability that it is used, is 0: {usual}"
                expect_default(self, settings, why)
        if self.jitter and not any(getattr(self, name) for name in COLOURS):
            raise InputError(
                f"jitter is {self.jitter}, but {', '.join(COLOURS[:-1])} and {COLOURS[-1]} are 0: "
                "set one of them, or leave jitter out"
            )


@dataclass(frozen=True)
class PlainView:
    """An image without anything random, for scoring.

    Args:
        size: side of the square view, in pixels.
        resize: first the shorter side is resized to so many pixels; None leaves it as it is.
        crop: the view is the centre of the image; False squashes the whole image to a square.
    """

    size: int
    resize: int | None = None
    crop: bool = False

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"size must be at least 1, found {self.size}")
        if self.crop and (self.resize is None or self.resize < self.size):
            raise InputError(
                f"a centre of {self.size} pixels needs a resize of at least as many, found "
                f"{self.resize}"
            )
        if self.resize is not None and self.resize < 1:
            raise InputError(f"resize must be at least 1, found {self.resize}")

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width once the shorter side is ``resize``, with torchvision's rounding."""
        if self.resize is None:
            return height, width
        if height <= width:
            return self.resize, self.resize * width // height
        return self.resize * height // width, self.resize

    def centre(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of the centre, with torchvision's rounding."""
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return slice(top, top + self.size), slice(left, left + self.size)


def plain_view(images: Tensor, normalisation: Normalisation, view: PlainView) -> Tensor:
    """The image itself: uint8 (N, C, H, W) -> normalised float (N, C, size, size)."""
    pixels = images.float() / 255
    pixels = _resize(pixels, view.resized(*pixels.shape[-2:]))
    if view.crop:
        return normalisation(pixels[(..., *view.centre(*pixels.shape[-2:]))])
    return normalisation(_resize(pixels, (view.size, view.size)))


def _resize(pixels: Tensor, shape: tuple[int, int]) -> Tensor:
    if pixels.shape[-2:] == shape:
        return pixels
    return F.interpolate(pixels, shape, mode="bilinear", antialias=True)


def finish_view(
    crops: Tensor, recipe: ViewRecipe, normalisation: Normalisation, draws: Draws
) -> Tensor:
    """Everything after the crop: uint8 (N, C, H, W) -> normalised float (N, C, H, W)."""
    views = crops.float() / 255
    views = _where(draws.flip, views.flip(-1), views)
    return normalisation(photometric(views, recipe, draws))


@dataclass(frozen=True)
class Draws:
    """The random numbers of one view of N images; what a recipe does not use is None.

    Drawn apart from the pixels, so that they can be drawn for a batch and used for a part of it, on
    whichever process that part is.

    Attributes:
        box: uniform in [0, 1), (N, 4): area, ratio, left and top of the crop, see ``crop_boxes``.
        flip, jitter, grayscale, blur, solarize: bool (N,), whether it happens.
        brightness, contrast, saturation: factors (N,).
        hue: shifts (N,) in turns of the colour circle.
        jitter_order: int64 (N, 4), the order of brightness (0), contrast, saturation and hue (3).
        blur_sigma: pixels (N,).
    """

    box: Tensor
    flip: Tensor
    jitter: Tensor | None = None
    brightness: Tensor | None = None
    contrast: Tensor | None = None
    saturation: Tensor | None = None
    hue: Tensor | None = None
    jitter_order: Tensor | None = None
    grayscale: Tensor | None = None
    blur_sigma: Tensor | None = None
    blur: Tensor | None = None
    solarize: Tensor | None = None

    @classmethod
    def of(cls, recipe: ViewRecipe, count: int, channels: int, generator: torch.Generator) -> Draws:
        """Draws for ``count`` images of 1 or 3 channels."""

        def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
            return low + (high - low) * torch.rand(count, generator=generator)

        def chosen(probability: float) -> Tensor:
            return torch.rand(count, generator=generator) < probability

        found = {"box": torch.rand(4, count, generator=generator).T, "flip": chosen(recipe.flip)}
        if recipe.jitter:
            found["jitter"] = chosen(recipe.jitter)
            for name in ("brightness", "contrast", "saturation")[: 2 if channels == 1 else 3]:
                found[name] = 1 + getattr(recipe, name) * uniform(-1, 1)
            if channels == 3:
                found["hue"] = recipe.hue * uniform(-1, 1)
            if recipe.jitter_order == "random":
                found["jitter_order"] = torch.rand(count, 4, generator=generator).argsort(dim=1)
        if recipe.grayscale and channels == 3:
            found["grayscale"] = chosen(recipe.grayscale)
        if recipe.blur:
            found["blur_sigma"] = uniform(*recipe.blur_sigma)
            found["blur"] = chosen(recipe.blur)
        if recipe.solarize:
            found["solarize"] = chosen(recipe.solarize)
        return cls(**found)

    def map(self, function: Callable[[Tensor], Tensor]) -> Draws:
        """The same function of every tensor, e.g. to choose rows or to move to a device."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        mapped: Any = {k: None if v is None else function(v) for k, v in parts.items()}
        return Draws(**mapped)


def random_views(
    images: Tensor, recipe: ViewRecipe, normalisation: Normalisation, draws: Draws
) -> Tensor:
    """One random view per image: uint8 (N, C, H, W) -> normalised float (N, C, size, size)."""
    boxes = crop_boxes(draws.box, images.shape[-2:], recipe)
    views = crop(images.float() / 255, boxes, recipe.size, draws.flip, recipe.interpolation)
    return normalisation(photometric(views, recipe, draws))


def photometric(views: Tensor, recipe: ViewRecipe, draws: Draws) -> Tensor:
    """Everything that follows the crop and the flip: float (N, C, H, W) in [0, 1] -> the same.

    The draws are best left on the CPU: which rows an operation changes is then known without
    waiting for the device.
    """
    if draws.jitter is not None:
        amounts = (draws.brightness, draws.contrast, draws.saturation, draws.hue)
        jittered = color_jitter(views, amounts, draws.jitter_order)
        views = _where(draws.jitter, jittered, views)
    if draws.grayscale is not None:
        views = _where(draws.grayscale, greyscale(views), views)
    if draws.blur is not None and draws.blur_sigma is not None:
        chosen = draws.blur.nonzero().flatten()
        rows = chosen.to(views.device)
        views = views.clone()
        largest = recipe.blur_sigma[1]
        views[rows] = gaussian_blur(views[rows], draws.blur_sigma[chosen], largest)
    if draws.solarize is not None:
        views = _where(draws.solarize, solarize(views), views)
    return views


def crop_boxes(uniform: Tensor, image_size: Sequence[int], recipe: ViewRecipe) -> Tensor:
    """Boxes (N, 4) of left, top, width, height in pixels, from uniform numbers (N, 4).

    Area and log-ratio are uniform, as in RandomResizedCrop (Szegedy et al. 2015). Where the box
    would be larger than the image its longer side is cut, instead of drawing anew.
    """
    height, width = image_size
    low, high = recipe.crop_scale
    area = (low + (high - low) * uniform[:, 0]) * height * width
    log_low, log_high = (math.log(value) for value in recipe.crop_ratio)
    ratio = torch.exp(log_low + (log_high - log_low) * uniform[:, 1])
    box_width = (area * ratio).sqrt().clamp(max=width)
    box_height = (area / ratio).sqrt().clamp(max=height)
    left = uniform[:, 2] * (width - box_width)
    top = uniform[:, 3] * (height - box_height)
    return torch.stack((left, top, box_width, box_height), dim=1)


def _where(chosen: Tensor, changed: Tensor, views: Tensor) -> Tensor:
    return torch.where(chosen.to(views.device).view(-1, 1, 1, 1), changed, views)
