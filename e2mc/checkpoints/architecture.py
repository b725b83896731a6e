"""Which well-known network some weights belong to, by their names and shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from torch import Tensor

_RESNETS = {
    (False, (2, 2, 2, 2)): "ResNet-18",
    (False, (3, 4, 6, 3)): "ResNet-34",
    (True, (3, 4, 6, 3)): "ResNet-50",
    (True, (3, 4, 23, 3)): "ResNet-101",
    (True, (3, 8, 36, 3)): "ResNet-152",
}
_VITS = {192: "ViT-Ti", 384: "ViT-S", 768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H", 1536: "ViT-g"}
# (width of the stem, blocks of the third stage)
_CONVNEXTS = {(96, 9): "T", (96, 27): "S", (128, 27): "B", (192, 27): "L", (256, 27): "XL"}
_SWINS = {(96, 6): "T", (96, 18): "S", (128, 18): "B", (192, 18): "L"}

# whose names they are: (a block's number, the patches, or the stem)
_VIT_NAMES = {
    "timm": (r"(?:^|\.)blocks\.(\d+)\.attn\.qkv\.weight$", r"patch_embed\.proj\.weight$"),
    "torchvision": (
        r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_weight$",
        r"conv_proj\.weight$",
    ),
    "Hugging Face": (
        r"encoder\.layer\.(\d+)\.attention\.attention\.query\.weight$",
        r"patch_embeddings\.projection\.weight$",
    ),
}
_CONVNEXT_NAMES = {
    "timm": (r"stages\.2\.blocks\.(\d+)\.conv_dw\.weight$", r"stem\.0\.weight$"),
    "its authors": (r"stages\.2\.(\d+)\.dwconv\.weight$", r"downsample_layers\.0\.0\.weight$"),
    "torchvision": (r"features\.5\.(\d+)\.block\.0\.weight$", r"features\.0\.0\.weight$"),
}
_SWIN_NAMES = {
    "timm": (
        r"layers\.2\.blocks\.(\d+)\.attn\.relative_position_bias_table$",
        r"patch_embed\.proj\.weight$",
    ),
    "torchvision": (
        r"features\.5\.(\d+)\.attn\.relative_position_bias_table$",
        r"features\.0\.0\.weight$",
    ),
}


def architecture_of(weights: Mapping[str, Tensor]) -> str | None:
    """What weights look like, e.g. "a ResNet-50" or "a ViT-S/16 with the names of timm".

    Args:
        weights: a state dict, whatever stands before or beside the network's own keys.

    Returns:
        The name with an article, or None where it cannot be told.
    """
    weights = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    return _resnet(weights) or _convnext(weights) or _swin(weights) or _vit(weights)


def _resnet(weights: Mapping[str, Tensor]) -> str | None:
    # layer 3 of the third stage is layer3.2; several copies of a network differ by their prefix
    blocks: dict[str, set[tuple[int, int]]] = {}
    for key in weights:
        found = re.search(r"^(.*?)layer([1-4])\.(\d+)\.conv1\.weight$", key)
        if found:
            blocks.setdefault(found[1], set()).add((int(found[2]), int(found[3])))
    if not blocks:
        return None
    prefix = max(blocks, key=lambda name: len(blocks[name]))
    stages = Counter(stage for stage, _ in blocks[prefix])
    counts = (stages[1], stages[2], stages[3], stages[4])
    bottleneck = f"{prefix}layer1.0.conv3.weight" in weights
    name = _RESNETS.get((bottleneck, counts))
    first, stem = (weights.get(prefix + key) for key in ("layer1.0.conv2.weight", "conv1.weight"))
    if name is None or first is None or first.ndim != 4:
        return None
    if first.shape[0] != first.shape[1]:
        return f"a ResNeXt of the depth of {name}"
    if stem is not None and first.shape[0] != 64:
        factor = first.shape[0] / 64
        return f"a {name} {factor:g} times as wide"
    return f"a {name}"


def _vit(weights: Mapping[str, Tensor]) -> str | None:
    found = _blocks(weights, _VIT_NAMES)
    if found is None:
        return None
    names, _, patches = found
    name = _VITS.get(patches.shape[0])
    return name and f"a {name}/{patches.shape[-1]} with the names of {names}"


def _convnext(weights: Mapping[str, Tensor]) -> str | None:
    found = _blocks(weights, _CONVNEXT_NAMES)
    if found is None:
        return None
    names, depth, stem = found
    size = _CONVNEXTS.get((stem.shape[0], depth))
    return size and f"a ConvNeXt-{size} with the names of {names}"


def _swin(weights: Mapping[str, Tensor]) -> str | None:
    found = _blocks(weights, _SWIN_NAMES)
    if found is None:
        return None
    names, depth, stem = found
    size = _SWINS.get((stem.shape[0], depth))
    return size and f"a Swin-{size} with the names of {names}"


def _blocks(
    weights: Mapping[str, Tensor], known: Mapping[str, tuple[str, str]]
) -> tuple[str, int, Tensor] | None:
    """Whose names the weights have, how many blocks, and the weights of the first convolution."""
    for names, (block, stem) in known.items():
        numbers = {match[1] for key in weights if (match := re.search(block, key))}
        first = next((weights[key] for key in weights if re.search(stem, key)), None)
        if numbers and first is not None and first.ndim == 4:
            return names, len(numbers), first
    return None
