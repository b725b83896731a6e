"""Stand-ins for the harmless metadata that training code leaves in its checkpoints.

A pickle names the classes of its objects. For those listed here, torch's safe reader is given an
inert stand-in, so that nothing of the file's choice is imported or called; the weights beside them
can be read. A name that is not listed is refused.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import Any

import torch

# NumPy's name of a number -> that of struct
_NUMBERS = {"i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"}
_NUMBERS |= {"f2": "e", "f4": "f", "f8": "d", "b1": "?"}


class Metadata:
    """An object whose class is not imported; what the pickle says of it is kept."""

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *arguments: Any) -> Metadata:
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *arguments: Any) -> None:
        """``__new__`` has kept them, which a pickle may call alone."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Dictionary:
    """A dictionary of another class, as an ordered one."""

    def __new__(cls, *arguments: Any) -> Any:
        given = arguments[-1] if arguments else ()
        return OrderedDict(given if isinstance(given, (dict, list)) else ())


class Sequence:
    """A sequence of another class, as a list."""

    def __new__(cls, *arguments: Any) -> Any:
        return list(arguments[0]) if arguments and isinstance(arguments[0], (list, tuple)) else []


class Text:
    """A path or another class of text, as text."""

    def __new__(cls, *parts: Any) -> Any:
        return "/".join(str(part) for part in parts).replace("//", "/")


class Array(Metadata):
    """A NumPy array, which is no tensor."""


class DType:
    """NumPy's description of a number, e.g. "f8" of either byte order."""

    def __init__(self, name: Any, *rest: Any) -> None:
        self.name = name.decode() if isinstance(name, bytes) else str(name)
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] in (">", b">") else "<"


def scalar(dtype: Any, raw: Any) -> Any:
    """A NumPy scalar as the number that it is; of a kind without numbers, its bytes."""
    letter = _NUMBERS.get(dtype.name)
    return raw if letter is None else struct.unpack(dtype.order + letter, raw)[0]


def array(*arguments: Any) -> Array:
    """What NumPy calls before it fills an array."""
    return Array()


def exclude_bias_and_norm(parameter: torch.Tensor) -> bool:
    """The filter that VICReg's optimizer state names; its state is read, this is never called."""
    return parameter.ndim == 1


_NAMES: dict[Any, str] = {
    Dictionary: """
        collections.defaultdict addict.addict.Dict easydict.EasyDict munch.Munch
        yacs.config.CfgNode fvcore.common.config.CfgNode detectron2.config.config.CfgNode
        mmcv.utils.config.ConfigDict mmengine.config.config.ConfigDict
        vissl.utils.hydra_config.AttrDict pytorch_lightning.utilities.parsing.AttributeDict
        lightning.pytorch.utilities.parsing.AttributeDict
        lightning_fabric.utilities.data.AttributeDict
        lightning.fabric.utilities.data.AttributeDict
        """,
    Sequence: "collections.deque builtins.list builtins.tuple builtins.frozenset",
    Text: """
        pathlib.Path pathlib.PosixPath pathlib.WindowsPath pathlib.PurePath pathlib.PurePosixPath
        pathlib.PureWindowsPath pathlib._local.Path pathlib._local.PosixPath
        pathlib._local.WindowsPath pathlib._local.PurePath pathlib._local.PurePosixPath
        pathlib._local.PureWindowsPath torch.torch_version.TorchVersion
        """,
    Metadata: """
        argparse.Namespace types.SimpleNamespace typing.Any builtins.dict builtins.int
        builtins.float builtins.str builtins.bool builtins.slice builtins.range datetime.datetime
        datetime.date datetime.timedelta datetime.timezone decimal.Decimal uuid.UUID
        omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig
        omegaconf.base.ContainerMetadata omegaconf.base.Metadata omegaconf.base.Node
        omegaconf.nodes.AnyNode omegaconf.nodes.StringNode omegaconf.nodes.IntegerNode
        omegaconf.nodes.FloatNode omegaconf.nodes.BooleanNode
        pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint
        pytorch_lightning.callbacks.early_stopping.EarlyStopping
        numpy.random._pickle.__randomstate_ctor numpy.random._pickle.__bit_generator_ctor
        numpy.random._pickle.__generator_ctor numpy.random._mt19937.MT19937
        numpy.random._pcg64.PCG64
        """,
    Array: "numpy.ndarray",
    array: "numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct",
    DType: "numpy.dtype",
    scalar: "numpy.core.multiarray.scalar numpy._core.multiarray.scalar",
    exclude_bias_and_norm: "__main__.exclude_bias_and_norm",
}
# what torch.serialization.safe_globals takes: (stand-in, name in the pickle)
STAND_INS = tuple((made, name) for made, names in _NAMES.items() for name in names.split())
