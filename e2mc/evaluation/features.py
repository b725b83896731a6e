"""Features of a frozen backbone, and their post-hoc whitening."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2mc.data.views import Normalisation, plain_view


@torch.no_grad()
def extract_features(
    backbone: nn.Module,
    images: Tensor,
    *,
    normalisation: Normalisation,
    size: int,
    batch_size: int = 128,
    device: str | torch.device = "cpu",
    spatial: bool = False,
) -> Tensor:
    """Features of every image, in evaluation mode and without views.

    Args:
        backbone: module with ``forward``: (N, C, H, W) -> (N, D), and ``feature_map``:
            (N, C, H, W) -> (N, D, h, w).
        images: uint8 (N, C, H, W), N >= 1.
        normalisation: mean and standard deviation per channel.
        size: side to which images are resized.
        batch_size: images per forward pass.
        device: where the backbone runs; it is left there. The features come back on the CPU.
        spatial: average the (h, h) map over windows of h - 1 with stride 1 and flatten the 2 x 2
            result, instead of averaging over the whole map.

    Returns:
        Float32 (N, D), or (N, 4 D) for spatial features (8192 for the 7 x 7 map of a ResNet-50).

    Raises:
        ValueError: when there are no images, the map is too small for spatial features, or a
            feature is not finite.

    Source: spatial pooling as for VOC07 and iNaturalist in VISSL (Goyal et al. 2021).
    """
    if not len(images):
        raise ValueError("cannot extract features from no images")
    was_training = backbone.training
    backbone.to(device).eval()
    batches = []
    for batch in images.split(batch_size):
        views = plain_view(batch.to(device), normalisation, size)
        features = pool_spatially(backbone.feature_map(views)) if spatial else backbone(views)
        batches.append(features.float().cpu())
    backbone.train(was_training)
    result = torch.cat(batches)
    if not result.isfinite().all():
        raise ValueError(
            "the backbone's features are not finite: its weights are damaged or its training "
            "diverged; train it again with a smaller learning rate"
        )
    return result


def pool_spatially(feature_map: Tensor) -> Tensor:
    """(N, C, h, w), h, w >= 2 -> (N, 4 C): means over windows one smaller than the map."""
    height, width = feature_map.shape[-2:]
    if min(height, width) < 2:
        raise ValueError(
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
    if ridge < 0:
        raise ValueError(f"the whitening ridge must not be negative, found {ridge}")
    if len(features) < 2:
        raise ValueError(f"whitening needs at least 2 features, found {len(features)}")
    values = features.double()
    mean = values.mean(dim=0)
    centred = values - mean
    covariance = centred.T @ centred / (len(values) - 1)
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    eigenvalues, vectors = eigenvalues.flip(0).clamp_min(0), vectors.flip(1)
    scale = float(values.square().mean())
    if not eigenvalues[0] > 1e-12 * scale:
        raise ValueError("whitening needs features that differ, but all are equal: collapsed model")
    # float32 features carry relative errors of 2^-24; variances below that square are rounding
    alive = eigenvalues > 1e-12 * eigenvalues[0]
    deviations = (eigenvalues + ridge * eigenvalues.mean()).sqrt()
    transform = torch.where(alive, vectors / torch.where(alive, deviations, 1.0), 0.0)
    return mean.float(), transform.float()


def whiten(features: Tensor, mean: Tensor, transform: Tensor) -> Tensor:
    """Applies what ``whitening`` returned: (N, D) -> (N, D)."""
    return (features - mean) @ transform


class FeatureStream(Protocol):
    """Training features, epoch by epoch.

    Cached features are the same in every epoch; a frozen backbone on random views computes fresh
    ones. Either way one pass serves all heads that are trained from it.
    """

    dim: int

    def epoch(self, epoch: int, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Passes once over the images ``indices`` (int64), in a random order of this epoch.

        Yields (features (B, dim), their indices (B,)) in pieces of any size B: the heads cut them
        into their own batches.
        """
        ...


class CachedFeatures:
    """A ``FeatureStream`` of features computed once.

    Args:
        features: (N, D).
        seed: of the shuffling; epoch e of two streams with one seed has the same order.
    """

    def __init__(self, features: Tensor, seed: int = 0) -> None:
        self.features = features
        self.seed = seed
        self.dim = features.shape[1]

    def epoch(self, epoch: int, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = indices[torch.randperm(len(indices), generator=generator).to(indices.device)]
        for piece in order.split(8192):
            yield self.features[piece], piece


__all__ = [
    "CachedFeatures",
    "FeatureStream",
    "extract_features",
    "pool_spatially",
    "whiten",
    "whitening",
]
