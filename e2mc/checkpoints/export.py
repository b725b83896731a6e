"""A checkpoint in the format of another program: timm's, torchvision's, a method's official one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.checkpoints.entries import DDP, kept_of
from e2mc.checkpoints.keys import network_weights
from e2mc.checkpoints.released import FORMATS
from e2mc.errors import ExpectedError, InputError, expect_known
from e2mc.models import create_backbone
from e2mc.models.names import parse
from e2mc.models.torchvision_backbone import AUXILIARY
from e2mc.state import atomic_path, save_atomically

SAFETENSORS, TORCH = ".safetensors", ".pth"
LIBRARIES = ("torchvision", "timm")
OURS = "e2mc"  # of a network that no other library has
SIDE = 64  # of the image on which two builds of a network must agree, in pixels
TOLERANCE = 1e-4  # of their largest feature, as two builds may add in another order


@dataclass(frozen=True)
class Exported:
    """Weights in a format, ready to be written.

    Attributes:
        format: "timm", "torchvision", "vicreg", "swav", "simsiam" or "e2mc".
        network: the network's name in its library, without options.
        weights: the state dict, whose keys are the format's.
        entry: under which a file of torch.save holds them; None for nothing but the weights.
        beside: what else it holds then, as the official code writes it.
        build: Python that makes the network as ``model``, ready for the weights.
    """

    format: str
    network: str
    weights: Mapping[str, Tensor]
    entry: str | None
    beside: Mapping[str, Any]
    build: str

    def how_to_load(self, path: Path) -> str:
        """Python that loads the file into the network of its library."""
        if path.suffix == SAFETENSORS:
            first, read = "from safetensors.torch import load_file", f'load_file("{path.name}")'
        else:
            first, read = "import torch", f'torch.load("{path.name}", weights_only=True)'
            read += "" if self.entry is None else f'["{self.entry}"]'
        lines = [f"weights = {read}"]
        if self.format in FORMATS:
            lines += [f'weights = {{k.removeprefix("{DDP}"): v for k, v in weights.items()}}']
        return "\n".join([first, self.build, *lines, "model.load_state_dict(weights)"])

    def write(self, path: Path) -> None:
        """Writes a file of safetensors or of torch.save, by its ending; whole or not at all.

        Raises:
            InputError: for another ending, or if safetensors is wanted and not installed.
            OSError: if the folder cannot be written or the disk is full, in one sentence.
        """
        weights = {
            key: value.detach().clone(memory_format=torch.contiguous_format)
            for key, value in self.weights.items()
        }
        if path.suffix == SAFETENSORS:
            _save_safetensors(weights, path)
        elif path.suffix == TORCH:
            content = weights if self.entry is None else {**self.beside, self.entry: weights}
            save_atomically(content, path)
        else:
            raise InputError(f"{path}: expected a name that ends in {SAFETENSORS} or {TORCH}")


def formats_for(checkpoint: Checkpoint) -> dict[str, Callable[[], Exported]]:
    """The formats that a checkpoint may be written in, the one that it came from first."""
    parts = parse(checkpoint.backbone, LIBRARIES)
    library = parts.library or ("torchvision" if checkpoint.backbone == "resnet50" else OURS)
    network = parts.network if parts.library else checkpoint.backbone
    released = origin(checkpoint.provenance).get("released")
    found: dict[str, Callable[[], Exported]] = {}
    # the official code knows no other backbone
    if released in FORMATS and checkpoint.method == FORMATS[released].method:
        found[released] = lambda: _official(checkpoint, released)
    if library == OURS:
        return found | {OURS: lambda: _ours(checkpoint)}
    found[library] = lambda: _of_library(checkpoint, library, network, parts.options)
    other = LIBRARIES[library == "torchvision"]
    if not parts.options:  # which mean something else there
        bare = network.partition(".")[0]
        found[other] = lambda: _of_other_library(checkpoint, other, bare)
    return found


def export(checkpoint: Checkpoint, format: str | None = None) -> Exported:
    """The weights of a checkpoint in a format; None: in the one that the model came from.

    A library's format is the backbone alone, without a classifier; that of a method's official code
    is the whole method.

    Raises:
        InputError: if the format does not exist, or the network is not in that library.
        CheckpointError: if the weights are not those of the network.
    """
    possible = formats_for(checkpoint)
    if format is None:
        return next(iter(possible.values()))()
    expect_known(format, possible, f"format of backbone {checkpoint.backbone!r}:")
    return possible[format]()


def origin(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said of the first model of a chain, each of which went on from the one before."""
    while isinstance(start := provenance.get("start"), Mapping):
        provenance = start
    return provenance


def _of_library(
    checkpoint: Checkpoint, library: str, network: str, options: Mapping[str, Any]
) -> Exported:
    backbone = checkpoint.load_backbone()
    inner = backbone.network if library == "timm" else backbone
    assert isinstance(inner, nn.Module)
    build = _build(library, network, checkpoint.in_channels, dict(options))
    return Exported(library, network, inner.state_dict(), None, {}, build)


def _of_other_library(checkpoint: Checkpoint, library: str, network: str) -> Exported:
    """The same network as another library builds it, if keys and features are the same."""
    backbone = checkpoint.load_backbone()
    name = f"{library}:{network}"
    what = f"backbone {checkpoint.backbone!r} cannot be written for {library}"
    try:
        other = create_backbone(name, checkpoint.in_channels)
    except ExpectedError as error:
        raise InputError(f"{what}: {error}") from error
    weights = network_weights(backbone)
    inner = other.network if library == "timm" else other
    assert isinstance(inner, nn.Module)
    expected = {key: value.shape for key, value in inner.state_dict().items()}
    if expected != {key: value.shape for key, value in weights.items()}:
        odd = sorted(expected.keys() ^ weights.keys()) or ["shapes"]
        raise InputError(f"{what}: its network of that name has other weights, e.g. {odd[0]}")
    inner.load_state_dict(weights)
    images = torch.linspace(-1, 1, checkpoint.in_channels * SIDE**2)
    images = images.view(1, checkpoint.in_channels, SIDE, SIDE)
    with torch.no_grad():
        one, two = backbone(images), other.to(memory_format=torch.channels_last).eval()(images)
    if one.shape != two.shape or (one - two).abs().max() > TOLERANCE * one.abs().max():
        raise InputError(f"{what}: its network of that name gives other features")
    build = _build(library, network, checkpoint.in_channels, {})
    return Exported(library, network, weights, None, {}, build)


def _official(checkpoint: Checkpoint, format: str) -> Exported:
    """The whole method under the names of its official code, as under DistributedDataParallel."""
    official = FORMATS[format]
    weights = {}
    for key, value in kept_of(checkpoint.load_method()).items():
        theirs, ours = next(pair for pair in official.prefixes if key.startswith(pair[1]))
        weights[DDP + theirs + key.removeprefix(ours)] = value
    entry = official.entries[0]
    beside = {} if entry is None else {"epoch": checkpoint.epochs}
    build = f"# model: the module of the official code of {format}"
    return Exported(format, "resnet50", weights, entry, beside, build)


def _ours(checkpoint: Checkpoint) -> Exported:
    name = checkpoint.backbone
    build = (
        "from e2mc.models import create_backbone\n"
        f'model = create_backbone("{name}", {checkpoint.in_channels})'
    )
    return Exported(OURS, name, checkpoint.load_backbone().state_dict(), None, {}, build)


def _build(library: str, network: str, in_channels: int, options: dict[str, Any]) -> str:
    """Python that makes a library's network without its classifier."""
    given: dict[str, Any] = dict(AUXILIARY.get(network, {}))
    if library == "timm":
        given = {"num_classes": 0} | ({} if in_channels == 3 else {"in_chans": in_channels})
        return f'import timm\nmodel = timm.create_model("{network}"{_written(given | options)})'
    return (
        "import torch, torchvision\n"
        f'model = torchvision.models.get_model("{network}"{_written(given | options)})\n'
        "*_, classifier = dict(model.named_children())\n"
        "setattr(model, classifier, torch.nn.Flatten())  # the features alone"
    )


def _written(options: Mapping[str, Any]) -> str:
    return "".join(f", {key}={value!r}" for key, value in options.items())


def missing_safetensors(path: Path) -> str:
    """Why a file cannot be written."""
    return (
        f"{path} needs safetensors: pip install safetensors, or choose a name that ends in {TORCH}"
    )


def _save_safetensors(weights: dict[str, Tensor], path: Path) -> None:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ModuleNotFoundError as error:
        raise InputError(missing_safetensors(path)) from error
    with atomic_path(path) as temporary:
        try:
            save_file(weights, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # it reports a full disk this way
            raise OSError(str(error)) from error
