"""How images pass a backbone that does not learn: its precision, and what makes it fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from e2mc.models.backbone import Backbone
from e2mc.models.folding import fold_batch_norm


@dataclass(frozen=True)
class FrozenPass:
    """How features are computed.

    Args:
        precision: of the backbone; "bfloat16" by autocast. The features that come out are float32.
        fold: fold batch normalisations into the convolutions before them, exact to rounding.
        compile: translate the backbone with ``torch.compile``; exact to rounding.
        tf32: whether a GPU may round the factors of float32 convolutions to the 10 bits of TF32, as
            PyTorch lets it.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    fold: bool = False
    compile: bool = False
    tf32: bool = True

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def of(self, backbone: Backbone) -> Backbone:
        """The backbone as images pass it; itself where nothing is different from its own way."""
        return backbone if self == AS_IT_IS else _Frozen(backbone, self)


AS_IT_IS = FrozenPass()


class _Frozen(Backbone):
    """A backbone behind the settings of a ``FrozenPass``."""

    def __init__(self, backbone: Backbone, how: FrozenPass) -> None:
        super().__init__()
        self.how = how
        self.network = fold_batch_norm(backbone) if how.fold else backbone
        self.network.to(memory_format=torch.channels_last)
        self.feature_dim = backbone.feature_dim
        self._compiled: dict[str, Callable[[Tensor], Tensor]] = {}

    def forward(self, images: Tensor) -> Tensor:
        with self._settings(images.device.type):
            return self._function("forward")(images)

    def feature_map(self, images: Tensor) -> Tensor:
        with self._settings(images.device.type):
            return self._function("feature_map")(images)

    def _function(self, name: str) -> Callable[[Tensor], Tensor]:
        function = getattr(self.network, name)
        if not self.how.compile:
            return function
        return self._compiled.setdefault(name, torch.compile(function))

    @contextmanager
    def _settings(self, device: str) -> Iterator[None]:
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = self.how.tf32
        half = self.how.precision == "bfloat16"
        try:
            with torch.autocast(device, torch.bfloat16, enabled=half):
                yield
        finally:
            torch.backends.cudnn.allow_tf32 = before
