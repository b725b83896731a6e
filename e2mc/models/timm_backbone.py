"""Backbones of timm (PyTorch Image Models), for checkpoints of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from e2mc.errors import InputError, MachineError
from e2mc.models.library import build, known_options
from e2mc.models.names import HUB
from e2mc.models.probe import output_shape, reason

WEIGHTS = "the weights are those of the checkpoint"
RESERVED = {
    "pretrained": WEIGHTS,
    "pretrained_cfg": WEIGHTS,
    "pretrained_cfg_overlay": WEIGHTS,
    "checkpoint_path": WEIGHTS,
    "cache_dir": WEIGHTS,
    "num_classes": "the classifier is left out",
    "in_chans": "it follows from the data",
    "features_only": "a backbone gives pooled features",
    "out_indices": "a backbone gives pooled features",
    "device": "it follows from the machine",
    "dtype": "it follows from the recipe's precision",
    "scriptable": "nothing is scripted",
    "exportable": "nothing is exported",
    "no_jit": "nothing is scripted",
}
# of transformers whose positions are learnt for one size
FOR_SIZES = ("img_size", "dynamic_img_size", "strict_img_size", "dynamic_img_pad")


class TimmBackbone(nn.Module):
    """A network of timm without its classifier; its keys stand behind ``network.``.

    Args:
        name: a name in ``timm.list_models()``, e.g. "resnet50.a1_in1k" or "convnext_tiny", or
            "hf-hub:" and the name of a model on the hub, whose configuration is fetched.
        in_channels: channels of the images.
        options: what timm's builder is given, e.g. ``{"img_size": 224}``.

    Attributes:
        feature_dim: width of the pooled features, which is measured.

    Shape: (N, in_channels, H, W) -> (N, feature_dim).

    Raises:
        ValueError: if timm is not installed, has no such network or option, or the network gives
            no pooled features.
        RuntimeError: if the hub cannot be reached.
    """

    key_prefix = "network."

    def __init__(
        self, name: str, in_channels: int = 3, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        try:
            import timm
        except ModuleNotFoundError as error:
            raise InputError(
                f"backbone 'timm:{name}' needs timm: install it with `pip install timm`"
            ) from error
        if not name.startswith(f"{HUB}:") and not timm.is_model(name):
            raise InputError(f"timm has no model {name!r}: see timm.list_models()")
        self.name = name
        self.make = partial(_create, name, num_classes=0, in_chans=in_channels)
        self.network: Any = build(f"timm's {name}", self.make, options or {}, RESERVED)
        _, _, size = self.published_input()
        asked = (options or {}).get("img_size") or size
        size = asked if isinstance(asked, int) else asked[-1]
        try:
            shape = output_shape(self, in_channels, size)
        except Exception as error:
            raise InputError(
                f"timm's {name} cannot take images of {size} x {size} pixels, for which it is "
                f"built: {reason(error)}"
            ) from error
        if len(shape) != 2:
            raise InputError(
                f"timm's {name} gives features of shape {('N', *shape[1:]) if shape else '?'}, "
                "expected (N, D): set its option global_pool to avg or token"
            )
        self.feature_dim = shape[1]

    def feature_map(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, feature_dim, h, w), before the pooling.

        Raises:
            ValueError: if the network's features are not a map, as those of a transformer, or the
                map is not what is pooled, as of networks with a layer after the pooling.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.network.forward_features(images)
        if not isinstance(features, Tensor) or features.ndim != 4:
            raise InputError(
                f"timm's {self.name} gives no map of features (N, {self.feature_dim}, h, w): use a "
                "convolutional network where one is needed"
            )
        if str(getattr(self.network, "output_fmt", "NCHW")) == "NHWC":
            features = features.permute(0, 3, 1, 2)
        if features.shape[1] != self.feature_dim:
            raise InputError(
                f"timm's {self.name} gives no map of features (N, {self.feature_dim}, h, w): its "
                f"map has {features.shape[1]} channels, and a layer follows its pooling; use "
                "another convolutional network where a map is needed"
            )
        return features

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.contiguous(memory_format=torch.channels_last))

    @property
    def size_options(self) -> list[str]:
        """The options of this network that decide which sizes of images it takes."""
        known = known_options(self.make, RESERVED)
        return [option for option in FOR_SIZES if option in known]

    def published_input(self) -> tuple[tuple[float, ...], tuple[float, ...], int]:
        """Mean, deviation and size of the images that its published weights are for."""
        found = self.network.pretrained_cfg
        return tuple(found["mean"]), tuple(found["std"]), found["input_size"][-1]


def _create(name: str, **options: Any) -> nn.Module:
    """``timm.create_model`` without weights; says so where the hub cannot be reached."""
    import timm

    try:
        return timm.create_model(name, pretrained=False, **options)
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        away = library in ("huggingface_hub", "httpx", "requests", "urllib3") or isinstance(
            error, OSError
        )
        if not name.startswith(f"{HUB}:") or not away:
            raise
        raise MachineError(
            f"backbone {name!r}: its configuration cannot be fetched from the hub "
            f"({reason(error)}): check the name and the connection, or name the network itself, "
            "timm:<name>, for which nothing is fetched"
        ) from None  # dozens of lines on connections
