"""Features of a frozen backbone, and their post-hoc whitening."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from e2mc.data.source import Batch, LabelledSource
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.errors import InputError, MachineError
from e2mc.evaluation.epochs import interruption_point
from e2mc.models.backbone import Backbone
from e2mc.state import fingerprint

HELD = 2**26  # numbers that stay on the device before they are copied together: 256 MB


def extract_features(
    backbone: Backbone,
    images: LabelledSource,
    *,
    view: PlainView,
    normalisation: Normalisation,
    batch_size: int = 128,
    device: str | torch.device = "cpu",
    spatial: bool = False,
) -> Tensor:
    """Features of every image, in evaluation mode and without anything random.

    Args:
        backbone: module with ``forward``: (N, C, H, W) -> (N, D), and ``feature_map``:
            (N, C, H, W) -> (N, D, h, w).
        images: N >= 1.
        view: how the images are resized.
        normalisation: mean and standard deviation per channel.
        batch_size: images per forward pass; fewer where the GPU has no memory for so many.
        device: where the backbone runs; it is left there. The features come back on the CPU.
        spatial: average the (h, h) map over windows of h - 1 with stride 1 and flatten the 2 x 2
            result, instead of averaging over the whole map.

    Returns:
        Float32 (N, D), or (N, 4 D) for spatial features (8192 for the 7 x 7 map of a ResNet-50).

    Raises:
        ValueError: when there are no images, the map is too small for spatial features, or a
            feature is not finite.
        Interrupted: when a stop was asked for.

    Source: spatial pooling as for VOC07 and iNaturalist in VISSL (Goyal et al. 2021).
    """
    parts: list[Tensor] = []
    held: list[Tensor] = []
    batches = feature_batches(
        backbone,
        images,
        view=view,
        normalisation=normalisation,
        batch_size=batch_size,
        device=device,
        spatial=spatial,
    )
    for features in batches:
        held.append(features)
        if sum(map(Tensor.numel, held)) >= HELD:
            parts.append(torch.cat(held).cpu())
            held = []
    parts += [torch.cat(held).cpu()] if held else []
    return torch.cat(parts)


def feature_batches(
    backbone: Backbone,
    images: LabelledSource,
    *,
    view: PlainView,
    normalisation: Normalisation,
    batch_size: int = 128,
    device: str | torch.device = "cpu",
    spatial: bool = False,
) -> Iterator[Tensor]:
    """What ``extract_features`` returns, batch by batch and on the device."""
    if not len(images):
        raise InputError("cannot extract features from no images")
    finite: Tensor | None = None
    with frozen(backbone, device):
        for views in images.plain_views(view, normalisation, device, batch_size):
            interruption_point("extracting features")
            features = pooled_features(backbone, views, spatial)
            if finite is None:
                finite = features.isfinite().all()
                _expect(finite)  # asking for later ones would wait for the device each time
            finite = finite & features.isfinite().all()
            yield features
    if finite is not None:
        _expect(finite)


def _expect(finite: Tensor) -> None:
    if not finite:
        raise InputError(
            "the backbone's features are not finite: its weights are damaged or its training "
            "diverged; train it again with a smaller learning rate"
        )


@contextmanager
def frozen(backbone: Backbone, device: str | torch.device) -> Iterator[None]:
    """The backbone on the device in evaluation mode; its mode is restored."""
    was_training = backbone.training
    backbone.to(device).eval()
    try:
        yield
    finally:
        backbone.train(was_training)


@torch.no_grad()
def pooled_features(backbone: Backbone, views: Tensor, spatial: bool) -> Tensor:
    """In evaluation mode images do not see each other: what is too much at once goes in halves."""
    try:
        return (pool_spatially(backbone.feature_map(views)) if spatial else backbone(views)).float()
    except torch.OutOfMemoryError as error:
        if len(views) == 1:
            raise MachineError(
                "the GPU has no memory left for one image: free it or take another one "
                f"({str(error).splitlines()[0]})"
            ) from None
    return torch.cat([pooled_features(backbone, half, spatial) for half in views.chunk(2)])


def pool_spatially(feature_map: Tensor) -> Tensor:
    """(N, C, h, w), h, w >= 2 -> (N, 4 C): means over windows one smaller than the map."""
    height, width = feature_map.shape[-2:]
    if min(height, width) < 2:
        raise InputError(
            f"spatial features need a map of at least 2 x 2, found {height} x {width}: use larger "
            "images or a backbone with a smaller stride"
        )
    return F.avg_pool2d(feature_map, (height - 1, width - 1), stride=1).flatten(1)


def whitening(features: Tensor, ridge: float = 0.1) -> tuple[Tensor, Tensor]:
    """Post-hoc PCA whitening, from unlabelled features.

    With the eigenvalues l_k and eigenvectors v_k of the covariance, coordinate k of a whitened
    feature is v_k . (x - mean) / sqrt(l_k + ridge * mean(l)). The ridge bounds how far directions
    of little variance are amplified: at most by sqrt(1 / ridge) relative to a feature of the same
    total variance spread evenly. Directions without any variance (dead units, rank deficiency)
    hold only rounding errors and are set to zero.

    Args:
        features: (N, D), N >= 2, of training images.
        ridge: >= 0, relative to the mean eigenvalue.

    Returns:
        ``mean`` (D,) and ``transform`` (D, D) with columns in order of falling variance, float32;
        apply with ``whiten``.

    Raises:
        ValueError: when there are fewer than two features, all are equal, or the ridge is negative.

    Source: Kessy, Lewin and Strimmer 2018 (PCA whitening); the ridge is ours.
    """
    if len(features) < 2:
        raise InputError(f"whitening needs at least 2 features, found {len(features)}")
    values = features.double()
    mean = values.mean(dim=0)
    centred = values - mean
    covariance = centred.T @ centred / (len(values) - 1)
    return _whitening(mean, covariance, float(values.square().mean()), ridge)


def _whitening(
    mean: Tensor, covariance: Tensor, mean_square: float, ridge: float
) -> tuple[Tensor, Tensor]:
    """The mean, and the transform that the covariance asks for; all float64 in, float32 out."""
    if ridge < 0:
        raise InputError(f"the whitening ridge must not be negative, found {ridge}")
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    eigenvalues, vectors = eigenvalues.flip(0).clamp_min(0), vectors.flip(1)
    if not eigenvalues[0] > 1e-12 * mean_square:
        raise InputError("whitening needs features that differ, but all are equal: collapsed model")
    # float32 features carry relative errors of 2^-24; variances below that square are rounding
    alive = eigenvalues > 1e-12 * eigenvalues[0]
    deviations = (eigenvalues + ridge * eigenvalues.mean()).sqrt()
    transform = torch.where(alive, vectors / torch.where(alive, deviations, 1.0), 0.0)
    return mean.float(), transform.float()


class Moments:
    """Mean and covariance of features that come in batches, in float64.

    Args:
        dim: width D of the features.
        device: where they come from.
    """

    def __init__(self, dim: int, device: str | torch.device = "cpu") -> None:
        self.count = 0
        self._sum = torch.zeros(dim, dtype=torch.float64, device=device)
        self._products = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def add(self, features: Tensor) -> None:
        """A batch (B, D)."""
        values = features.double()
        self.count += len(values)
        self._sum += values.sum(dim=0)
        self._products.addmm_(values.T, values)

    @property
    def covariance(self) -> Tensor:
        """(D, D), with divisor N - 1; N >= 2."""
        mean = self._sum / self.count
        return (self._products - self.count * torch.outer(mean, mean)) / (self.count - 1)

    def whitening(self, ridge: float = 0.1) -> tuple[Tensor, Tensor]:
        """What ``whitening`` returns for the same features."""
        if self.count < 2:
            raise InputError(f"whitening needs at least 2 features, found {self.count}")
        mean_square = float(self._products.diagonal().mean() / self.count)
        return _whitening(self._sum / self.count, self.covariance, mean_square, ridge)


def whiten(features: Tensor, mean: Tensor, transform: Tensor) -> Tensor:
    """Applies what ``whitening`` returned: (N, D) -> (N, D)."""
    return (features - mean) @ transform


class FeatureStream(Protocol):
    """Training features, epoch by epoch.

    Cached features are the same in every epoch; a frozen backbone on random views computes fresh
    ones. Either way one pass serves all heads that are trained from it.
    """

    dim: int
    positions: int  # how many neighbouring features are one channel at several places

    def epoch(self, epoch: int, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Passes once over the images ``indices`` (int64), in a random order of this epoch.

        Yields (features (B, dim), their indices (B,) on the CPU) in pieces of any size B: the heads
        cut them into their own batches.
        """
        ...


class CachedFeatures:
    """A ``FeatureStream`` of features computed once.

    Args:
        features: (N, D).
        seed: of the shuffling; epoch e of two streams with one seed has the same order.
    """

    positions = 1

    def __init__(self, features: Tensor, seed: int = 0) -> None:
        self.features = features
        self.seed = seed
        self.dim = features.shape[1]

    def epoch(self, epoch: int, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for piece in shuffled(indices, self.seed, epoch).split(8192):
            yield self.features[piece], piece


def shuffled(indices: Tensor, seed: int, epoch: int) -> Tensor:
    """``indices`` in the random order of an epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return indices[torch.randperm(len(indices), generator=generator).to(indices.device)]


class ViewFeatures:
    """A ``FeatureStream`` of a frozen backbone on a new random view of each image in every epoch.

    Nothing is kept: the images are decoded, cropped and passed through the backbone in every epoch.

    Args:
        backbone: see ``extract_features``; it is used in evaluation mode.
        images: training images.
        recipe: of the views; its ``count`` must be 1.
        normalisation: mean and standard deviation per channel.
        batch_size: images per forward pass; it changes nothing but speed and memory.
        device: where the backbone runs and the features are.
        spatial: see ``extract_features``.
        seed: of the views.
        order_seed: of the order; None: ``seed``.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: LabelledSource,
        *,
        recipe: ViewRecipe,
        normalisation: Normalisation,
        batch_size: int = 256,
        device: str | torch.device = "cpu",
        spatial: bool = False,
        seed: int = 0,
        order_seed: int | None = None,
    ) -> None:
        self.backbone, self.images = backbone, images
        self.recipe, self.normalisation = recipe, normalisation
        self.batch_size, self.device, self.spatial, self.seed = batch_size, device, spatial, seed
        self.order_seed = order_seed
        self.positions = 4 if spatial else 1
        self.dim = backbone.feature_dim * self.positions

    def epoch(self, epoch: int, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        pieces = epoch_batches(indices.cpu(), self.batch_size, self.seed, epoch, self.order_seed)
        views = self.images.views(pieces, (self.recipe,), self.normalisation, self.device)
        with frozen(self.backbone, self.device):
            for piece, [batch] in zip(pieces, views, strict=True):
                # indices stay where they are: heads pick their rows without asking the device
                yield pooled_features(self.backbone, batch, self.spatial), piece.indices


def epoch_batches(
    indices: Tensor, batch_size: int, seed: int, epoch: int, order_seed: int | None = None
) -> list[Batch]:
    """One pass over the images ``indices`` in a random order; all draws follow from the numbers.

    The order follows from ``order_seed``, which is ``seed`` where it is None, the views from
    ``seed``.
    """

    def number(*position: int, seed: int = seed) -> int:
        return int(fingerprint({"seed": seed, "epoch": epoch, "position": position}), 16)

    generator = torch.Generator().manual_seed(
        number(seed=seed if order_seed is None else order_seed)
    )
    order = indices[torch.randperm(len(indices), generator=generator)]
    return [Batch(part, number(i)) for i, part in enumerate(order.split(batch_size))]
