"""Names of backbones: ``resnet50``, ``torchvision:resnet18``, ``timm:vit_small?img_size=224``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from e2mc.errors import InputError

WORDS = {"true": True, "false": False, "none": None, "null": None}
HUB = "hf-hub"


@dataclass(frozen=True)
class BackboneName:
    """A backbone's name in its parts.

    Attributes:
        library: "torchvision", "timm", or None for one of this package's.
        network: its name there.
        options: what its builder is given, as plain values.
    """

    library: str | None
    network: str
    options: Mapping[str, Any]


def parse(name: str, libraries: tuple[str, ...]) -> BackboneName:
    """Takes a name apart: ``[library:]network[?option=value&option=value]``.

    ``hf-hub:owner/name`` is a network of timm's. Values are true, false, none, numbers, JSON lists
    such as ``[1,2]``, or else text.

    Raises:
        ValueError: for options that cannot be read.
    """
    whole, _, query = name.partition("?")
    library, _, network = whole.partition(":")
    if library == HUB and network:
        library, network = "timm", whole
    if library not in libraries or not network:
        return BackboneName(None, name, {})
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise InputError(
            f"backbone {name!r}: expected options such as ?img_size=224&dynamic_img_size=true "
            f"after the name, found {query!r}"
        ) from error
    options: dict[str, Any] = {}
    for key, value in pairs:
        if key in options:
            raise InputError(f"backbone {name!r}: option {key!r} is given twice")
        options[key] = _plain(value)
    return BackboneName(library, network, options)


def written(name: str, options: Mapping[str, Any]) -> str:
    """The name with its options behind it, of which ``parse`` makes the same again.

    Args:
        name: a library's network without options.
        options: true, false, none, numbers, texts, and lists and mappings of these.

    Raises:
        ValueError: if the name has options already, or a value is none of these.
    """
    if "?" in name:
        raise InputError(
            f"backbone {name!r} has options behind its name and a mapping of them: give one of both"
        )
    texts = {key: _text(name, key, value) for key, value in options.items()}
    return f"{name}?{urlencode(texts, safe='[],/:')}" if texts else name


def _text(name: str, option: str, value: Any) -> str:
    """What ``_plain`` reads as the value: a text is quoted where it would be taken for another."""
    if isinstance(value, str) and _plain(value) == value:
        return value
    try:
        return json.dumps(value, separators=(",", ":"))
    except TypeError:
        raise InputError(
            f"backbone {name!r}: option {option!r} must be true, false, none, a number, a text or "
            f"a list of these, found {value!r}"
        ) from None


def _plain(text: str) -> Any:
    """The value that a text plainly is."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text
