"""What the rest of the package may expect of a backbone."""

from __future__ import annotations

from torch import Tensor, nn


class Backbone(nn.Module):
    """Images (N, C, H, W) to pooled features (N, feature_dim).

    Attributes:
        feature_dim: width of the features.
    """

    feature_dim: int

    def feature_map(self, images: Tensor) -> Tensor:
        """The features before the pooling, (N, feature_dim, h, w).

        Raises:
            ValueError: if the network has no such map: a transformer, or a network with a layer
                after its pooling, whose map has another width than its features.
        """
        raise NotImplementedError
