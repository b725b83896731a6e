"""What networks of other libraries share: how they are built, and what is said if they cannot."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from e2mc.errors import ExpectedError, InputError
from e2mc.models.probe import reason


def build(
    name: str,
    make: Callable[..., nn.Module],
    options: Mapping[str, Any],
    reserved: Mapping[str, str],
) -> nn.Module:
    """``make(**options)``, or one sentence on why not.

    Args:
        name: what the network is called in an error.
        make: the library's builder.
        options: what the study gives it.
        reserved: options that it may not give, and why.

    Raises:
        ValueError: for an option that does not exist or has a value that does not fit.
    """
    for option in options:
        if option in reserved:
            raise InputError(f"{name}: option {option!r} cannot be set: {reserved[option]}")
    try:
        return make(**options)
    except ExpectedError:
        raise
    except Exception as error:
        if not options:
            raise InputError(f"{name} cannot be built: {reason(error)}") from error
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown and unknown[1] in options:
            known = known_options(make, reserved)
            listed = f", expected one of {', '.join(known)}" if known else ""
            raise InputError(f"{name} has no option {unknown[1]!r}{listed}") from error
        given = ", ".join(f"{key} = {value!r}" for key, value in options.items())
        raise InputError(f"{name} cannot be built with {given}: {reason(error)}") from error


def known_options(make: Callable[..., nn.Module], reserved: Mapping[str, str]) -> list[str]:
    """The options of a network with plain values by default, as its class names them."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            network = make()
    except Exception:  # not every builder can do without numbers
        return []
    plain = (bool, int, float, str, tuple, list, type(None))
    return [
        name
        for name, parameter in inspect.signature(type(network).__init__).parameters.items()
        if name not in reserved
        and isinstance(parameter.default, plain)
        and not name.endswith(("_layer", "_args"))  # those are modules
    ]
