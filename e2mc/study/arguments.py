"""Arguments of methods and criteria, checked by the signatures that take them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch.nn import BatchNorm1d

from e2mc.errors import InputError, expect_known
from e2mc.methods import Method, create_method
from e2mc.models.backbone import Backbone
from e2mc.training.spec import Component

NOT_FROM_A_STUDY = {"backbone", "group"}


def checked_arguments(taker: type, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments as a class takes them: numbers that YAML reads as text are numbers.

    Args:
        taker: a method or criterion; the annotations of its parameters say what fits.
        arguments: from a study.
        where: key of the study, for an error.

    Raises:
        InputError: for a parameter that there is not, or a value of another type; ranges are up to
            the class itself.
    """
    types = _parameters(taker)
    found = {}
    for name, value in arguments.items():
        expect_known(name, sorted(types), f"{where}: parameter")
        try:
            found[name] = types[name].validate_python(value)
        except ValidationError as error:
            wanted = expected(error.errors()[-1])
            raise InputError(f"{where}: {name} must be {wanted}, found {value!r}") from None
        if no_number(value, found[name]):
            raise InputError(f"{where}: {name} must be a number, found {value!r}")
    return found


def expected(problem: Mapping[str, Any]) -> str:
    """What one of pydantic's problems says that should be there instead."""
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    # how it was looked at is of no use: "a valid number, unable to parse string as a number"
    if problem["type"] in ("int_parsing", "int_from_float", "float_parsing", "bool_parsing"):
        message = message.partition(",")[0]
    plainer = {
        "a valid integer": "a whole number",
        "a valid number": "a number",
        "a valid tuple": "a list",
    }
    return plainer.get(message, message)


def no_number(given: Any, taken: Any) -> bool:
    """Whether true or false was taken for a number: YAML also reads "yes" and "off" as these."""
    if isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        return any(map(no_number, given, taken))
    return isinstance(given, bool) and not isinstance(taken, bool)


@cache
def _parameters(taker: type) -> dict[str, TypeAdapter[Any]]:
    parameters = inspect.signature(taker, eval_str=True).parameters
    return {
        name: TypeAdapter(parameter.annotation)
        for name, parameter in parameters.items()
        if name not in NOT_FROM_A_STUDY
    }


@cache
def _stub() -> Backbone:
    """What a method's heads are built on where only their arguments are looked at."""
    backbone = Backbone()
    backbone.feature_dim = 8
    return backbone


def expect_buildable(method: Component) -> None:
    """Raises InputError where a value is out of the range that a method allows."""
    _built(method)


def has_heads(method: Component) -> bool:
    """Whether a method learns anything besides the backbone."""
    return any(parameter.requires_grad for parameter in _built(method).parameters())


def normalises_batches(method: Component) -> bool:
    """Whether the heads of a method have batch normalisation, which takes two images to train."""
    return any(isinstance(module, BatchNorm1d) for module in _built(method).modules())


def _built(method: Component) -> Method:
    with torch.device("meta"):
        return create_method(method.name, _stub(), **method.params)
