"""What a file is, by its first bytes, and what to do with it if it is no file of tensors."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

from e2mc.data.errors import LFS_POINTER

TORCH_ZIP = "a file of torch.save"
TORCH_LEGACY = "a file of torch.save before PyTorch 1.6"
SAFETENSORS = "a file of safetensors"

ZIP = b"PK\x03\x04"
# the pickled number with which torch.save began before it wrote zip files
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LARGEST_HEADER = 100_000_000  # of safetensors, in bytes

_PACKED = "unpack it with `{}` and name the file inside"
# (first bytes, what they mean and what to do)
_SIGNATURES = (
    (
        LFS_POINTER,
        "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`, or download "
        "it from the address of the file",
    ),
    (b"\x1f\x8b", "is a gzip archive: " + _PACKED.format("gunzip` or `tar xzf")),
    (b"BZh", "is a bzip2 archive: " + _PACKED.format("bunzip2` or `tar xjf")),
    (b"\xfd7zXZ\x00", "is an xz archive: " + _PACKED.format("unxz` or `tar xJf")),
    (b"\x28\xb5\x2f\xfd", "is a zstd archive: " + _PACKED.format("unzstd")),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive: " + _PACKED.format("7z x")),
    (b"Rar!", "is a rar archive: " + _PACKED.format("unrar x")),
    (
        b"\x89HDF\r\n\x1a\n",
        "is an HDF5 file, as Keras writes: convert its weights to PyTorch's layout and save them "
        "with torch.save",
    ),
    (
        b"\x93NUMPY",
        "is one NumPy array: expected named weights, saved with torch.save or safetensors",
    ),
    (b"GGUF", "is a GGUF file of quantised weights: expected the weights before quantisation"),
    (
        b"\x80\x02",
        "is a pickle that torch.save did not write, and was not loaded: convert it to tensors "
        "where it was made, and save them with torch.save",
    ),
)
_NEW_PICKLES = (b"\x80\x03", b"\x80\x04", b"\x80\x05")
# how pickles of protocol 0 and 1 begin, which Python 2 wrote unless told otherwise
_OLD_PICKLES = (b"(dp", b"(lp", b"(i", b"}q", b"]q", b"ccopy_reg", b"ccollections", b"cnumpy")


def what_it_is(path: Path) -> str:
    """``TORCH_ZIP``, ``TORCH_LEGACY``, ``SAFETENSORS``, or the rest of a sentence on the file.

    The sentence says what the file is instead and what to do, e.g. "is empty: ...".

    Raises OSError when it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    with path.open("rb") as file:
        begin = file.read(512)
    if begin.startswith(ZIP):
        return _zip(path)
    if begin.startswith(LEGACY_MAGIC):
        return TORCH_LEGACY
    if begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") <= LARGEST_HEADER:
        return SAFETENSORS
    return _other(path, begin)


def _other(path: Path, begin: bytes) -> str:
    if not begin:
        return "is damaged: it is empty, so fetch or copy it again"
    if LEGACY_MAGIC.startswith(begin):
        return "is damaged: it ends after its first bytes, so fetch or copy it again"
    for signature, sentence in _SIGNATURES:
        if begin.startswith(signature):
            return sentence
    if begin.startswith(_NEW_PICKLES):
        return (
            f"is a pickle of protocol {begin[1]}, which cannot be read safely: save its tensors "
            "with torch.save, without pickle_protocol"
        )
    if begin.startswith(_OLD_PICKLES):
        return (
            "is a pickle of an old protocol, as Python 2 writes, and was not loaded: convert it to "
            "tensors where it was made, and save them with torch.save"
        )
    if begin[257:262] == b"ustar":
        return _tar(path)
    if begin[4:8] == b"TFL3":
        return "is a TensorFlow Lite file: expected weights for PyTorch"
    text = begin.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            "is a web page, not the file itself: download it from the address of the file (on a "
            "hub, .../resolve/... instead of .../blob/...)"
        )
    if text.startswith((b"{", b"[")):
        return _json(path)
    shown = " ".join(f"{byte:02X}" for byte in begin[:8])
    letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in begin[:8])
    return (
        f"is damaged or not a PyTorch file: it begins with the bytes {shown} ({letters!r}), "
        "expected a file of torch.save or safetensors"
    )


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return TORCH_ZIP  # cut off or damaged: torch says so
    inside = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in inside:
        return (
            "is a TorchScript archive, whose code is not run: save its weights alone, "
            'torch.save(torch.jit.load(file).state_dict(), "weights.pth")'
        )
    if "data.pkl" in inside:
        return TORCH_ZIP
    if inside and all(name.endswith(".npy") for name in inside):
        return (
            "is an archive of NumPy arrays (.npz): convert them to tensors in PyTorch's layout, "
            "and save them with torch.save"
        )
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"is a zip archive ({listed}), not a file of torch.save: " + _PACKED.format("unzip")


def _tar(path: Path) -> str:
    try:
        with tarfile.open(path) as archive:
            names = [entry.name for entry, _ in zip(archive, range(8), strict=False)]
    except (tarfile.TarError, OSError, ValueError):
        names = []
    if "pickle" in names and "storages" in names:
        return (
            "is a file of a PyTorch before 0.1.10: load it there, or with PyTorch 0.4, and save it "
            "again with torch.save"
        )
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"is a tar archive ({listed}): " + _PACKED.format("tar xf")


def _json(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError):
        content = None
    if isinstance(content, dict) and "weight_map" in content:
        count = len(set(content["weight_map"].values()))
        return (
            f"is the index of weights in {count} files, not the weights: load them together and "
            "save one file with torch.save"
        )
    return "is text (JSON), not the file of the weights, which lies beside it or at its address"


def _folder(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir())
    if any(name.endswith(".distcp") for name in names):
        return (
            "is a folder, a distributed checkpoint: make it one file with `python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {path} weights.pth`"
        )
    endings = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
    files = [name for name in names if name.endswith(endings)]
    if "saved_model.pb" in names:
        return "is a folder, a SavedModel of TensorFlow: expected weights for PyTorch"
    there = f"name one of its files ({', '.join(files[:5])})" if files else "expected a file"
    return f"is a folder: {there}"
