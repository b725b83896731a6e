"""A file of tensors, whatever wrote it: ``torch.save`` (zip or legacy) or safetensors.

What a file is, its first bytes say, not its name. Pickles are read with ``weights_only=True``;
harmless metadata in them is read as stand-ins, anything else is refused.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import torch

from e2mc.checkpoints.first_bytes import SAFETENSORS, TORCH_LEGACY, TORCH_ZIP, what_it_is
from e2mc.checkpoints.metadata import STAND_INS
from e2mc.errors import InputError

# what torch and the unpickler raise for damaged files depends on where they are damaged
DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
)
SAVE_THE_WEIGHTS = (
    'where the file was made, save the weights alone, torch.save(model.state_dict(), "weights.pth")'
)


class CheckpointError(InputError):
    """A checkpoint that cannot be used, with the file and the reason in one sentence."""


def read_tensors(path: str | Path, *, mapped: bool = False) -> Any:
    """What a file holds, on the CPU, if that is tensors, plain values and known metadata.

    Args:
        path: the file.
        mapped: leave the tensors in the file until they are used, where its format allows that: an
            evaluation reads the backbone of a checkpoint whose heads and momentum are many times
            larger.

    Raises:
        CheckpointError: when the file is missing, damaged, of another kind, or a pickle that asks
            for anything else.
    """
    path = Path(path)
    try:
        kind = what_it_is(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} does not exist") from error
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if kind == SAFETENSORS:
        return _read_safetensors(path)
    if kind not in (TORCH_ZIP, TORCH_LEGACY):
        raise CheckpointError(f"checkpoint {path} {kind}")
    try:
        with torch.serialization.safe_globals(list(STAND_INS)), warnings.catch_warnings():
            # numbers of another protocol in damaged files
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            if path.suffix == ".safetensors":  # torch would go by the name
                with path.open("rb") as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=mapped and kind == TORCH_ZIP
            )
    except pickle.UnpicklingError as error:
        name = _forbidden_name(error)
        if "Unsupported operand" in str(error):
            raise CheckpointError(
                f"checkpoint {path} is damaged, or its pickle is of another protocol than 2 "
                "(pickle_protocol was given, or Python 2 wrote it) and cannot be read safely: save "
                "it again with torch.save, without pickle_protocol"
            ) from error
        if name is None:
            raise CheckpointError(
                f"checkpoint {path} is damaged, or holds more than tensors and plain values: "
                f"{SAVE_THE_WEIGHTS}"
            ) from error
        raise CheckpointError(
            f"checkpoint {path} is damaged or holds more than tensors and plain values, and was "
            f"not loaded: it asks for {name}; {SAVE_THE_WEIGHTS}"
        ) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged, or Python 2 wrote it with strings that are no text: "
            f"{SAVE_THE_WEIGHTS}, with Python 3"
        ) from error
    except DAMAGED as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged (was its copy or download cut off?): {_why(error)}"
        ) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """A file of Hugging Face's format, which holds nothing but named tensors."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path} needs safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except (SafetensorError, *DAMAGED) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged (was its copy or download cut off?): {_why(error)}"
        ) from error


def _forbidden_name(error: Exception) -> str | None:
    """The name that a pickle asks for, out of torch's many lines and advice."""
    found = re.search(r"GLOBAL (\S+)", str(error)) or re.search(
        r"``(torch\.\S+)`` (?:and \S+ )?must be imported", str(error)
    )
    return found[1] if found else None


def _why(error: BaseException) -> str:
    """The first line of what a library says, without its advice."""
    text = str(error).partition("\n")[0].strip()
    return (
        re.sub(r"\s*(?:Please|In PyTorch|Re-running|You can|\(1\)).*", "", text)
        or type(error).__name__
    )
