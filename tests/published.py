"""Small data sets in the real formats of those that torchvision reads.

Each function writes one below a folder, torchvision's root, and has torchvision take its checksums
for the published ones.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import struct
import zipfile

import numpy as np
import scipy.io
import trees
from torchvision import datasets


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def shaded(count, classes, side, seed, channels=3):
    """uint8 (N, C, side, side) noise in a shade of its class, and the class numbers in turn."""
    labels = np.arange(count) % classes
    shades = 20 + 215 * labels // max(classes - 1, 1)
    noise = np.random.default_rng(seed).integers(-20, 21, (count, channels, side, side))
    pixels = np.clip(noise + shades[:, None, None, None], 0, 255).astype(np.uint8)
    return pixels, labels.astype(np.uint8)


def cifar100(root, monkeypatch, train=40, test=20, classes=5):
    """Python pickles of a dictionary each, as in cifar-100-python.tar.gz."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("test", test)):
        pixels, labels = shaded(count, classes, 32, len(part))
        content = {
            "filenames": [f"{part}_{i}.png" for i in range(count)],
            "batch_label": f"{part}ing batch 1 of 1",
            "fine_labels": labels.tolist(),
            "coarse_labels": [0] * count,
            "data": pixels.reshape(count, -1),
        }
        (folder / part).write_bytes(pickle.dumps(content, protocol=2))
    names = {
        "fine_label_names": [f"class {i}" for i in range(classes)],
        "coarse_label_names": ["a"],
    }
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    known = datasets.CIFAR100
    for part in ("train", "test"):
        monkeypatch.setattr(known, f"{part}_list", [[part, md5(folder / part)]])
    monkeypatch.setattr(known, "meta", known.meta | {"md5": md5(folder / "meta")})
    return folder


def cifar10(root, monkeypatch, train=20, test=10):
    """Five batches and a test batch."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        pixels, labels = shaded(test if name == "test_batch" else train // 5, 10, 32, number)
        content = {"labels": labels.tolist(), "data": pixels.reshape(len(pixels), -1)}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    labels = {"label_names": [f"class {i}" for i in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(labels, protocol=2))
    known = datasets.CIFAR10
    lists = [[name, md5(folder / name)] for name in names]
    monkeypatch.setattr(known, "train_list", lists[:5])
    monkeypatch.setattr(known, "test_list", lists[5:])
    monkeypatch.setattr(known, "meta", known.meta | {"md5": md5(folder / "batches.meta")})
    return folder


def stl10(root, monkeypatch, train=20, test=10, unlabelled=30):
    """Bytes column by column, and class numbers from 1."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for number, (part, count) in enumerate(
        (("train", train), ("test", test), ("unlabeled", unlabelled))
    ):
        pixels, labels = shaded(count, 10, 96, number)
        (folder / f"{part}_X.bin").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes((labels + 1).tobytes())
    (folder / "class_names.txt").write_text("\n".join(f"class {i}" for i in range(10)) + "\n")
    for part, names in (
        ("train", ("train_X.bin", "train_y.bin", "unlabeled_X.bin")),
        ("test", ("test_X.bin", "test_y.bin")),
    ):
        files = [[name, md5(folder / name)] for name in names]
        monkeypatch.setattr(datasets.STL10, f"{part}_list", files)
    return folder


def svhn(root, monkeypatch, train=20, test=10):
    """Matlab files, in which the digit 0 has the number 10."""
    root.mkdir(parents=True, exist_ok=True)
    known = {}
    for part, count in (("train", train), ("test", test)):
        pixels, labels = shaded(count, 10, 32, count)
        path = root / f"{part}_32x32.mat"
        numbers = np.where(labels == 0, 10, labels)[:, None]
        scipy.io.savemat(path, {"X": pixels.transpose(2, 3, 1, 0), "y": numbers})
        known[part] = ["https://example.org", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", known)
    return root


def idx(pixels, labels):
    """The compressed IDX files of images (N, side, side) and of labels."""
    shape = pixels.shape
    images = struct.pack(f">I{len(shape)}I", 0x800 + len(shape), *shape) + pixels.tobytes()
    return gzip.compress(images), gzip.compress(
        struct.pack(">2I", 0x801, len(labels)) + labels.tobytes()
    )


def mnist(root, monkeypatch, name="MNIST", train=20, test=10):
    """Four compressed IDX files; MNIST, FashionMNIST and KMNIST are alike."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    files = []
    for part, count in (("train", train), ("t10k", test)):
        pixels, labels = shaded(count, 10, 28, count, channels=1)
        for kind, content in zip(("images-idx3", "labels-idx1"), idx(pixels[:, 0], labels)):
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(content)
            files.append((path.name, md5(path)))
    monkeypatch.setattr(getattr(datasets, name), "resources", files)
    return folder


def emnist(root, monkeypatch, split="letters", classes=26, first=1):
    """One archive of all splits; letters have the numbers from 1."""
    folder = root / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for part, count in (("train", 2 * classes), ("test", classes)):
            pixels, labels = shaded(count, classes, 28, count, channels=1)
            name = f"gzip/emnist-{split}-{part}"
            images, numbers = idx(pixels[:, 0], labels + np.uint8(first))
            archive.writestr(f"{name}-images-idx3-ubyte.gz", images)
            archive.writestr(f"{name}-labels-idx1-ubyte.gz", numbers)
    (folder / "gzip.zip").write_bytes(content.getvalue())
    monkeypatch.setattr(datasets.EMNIST, "md5", md5(folder / "gzip.zip"))
    return folder


def food101(root, classes=("apple_pie", "waffles"), train=3, test=2):
    """JPEGs by class, and lists of the parts."""
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    lists = {"train": {}, "test": {}}
    for label, name in enumerate(classes):
        for i in range(train + test):
            file = f"{name}/{1000 * label + i}"
            trees.write_jpeg(folder / f"images/{file}.jpg", 100 * label + i, 200 * label)
            lists["train" if i < train else "test"].setdefault(name, []).append(file)
    for part, content in lists.items():
        (folder / f"meta/{part}.json").write_text(json.dumps(content))
    return folder


def aircraft(root, variants=("707-320", "A300B4")):
    """JPEGs in one folder, and lines of number and variant."""
    folder = root / "fgvc-aircraft-2013b" / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("\n".join(variants) + "\n")
    number = 0
    for part, count in (("trainval", 2), ("test", 1)):
        lines = []
        for variant in variants * count:
            trees.write_jpeg(folder / f"images/{number:07d}.jpg", number)
            lines.append(f"{number:07d} {variant}")
            number += 1
        (folder / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def dtd(root, classes=("banded", "woven")):
    """JPEGs by class, and a list for each part of the first partition."""
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for number, part in enumerate(("train", "val", "test")):
        lines = [f"{name}/{name}_{number}.jpg" for name in classes]
        (folder / f"labels/{part}1.txt").write_text("\n".join(lines) + "\n")
        for i, line in enumerate(lines):
            trees.write_jpeg(folder / "images" / line, 10 * number + i)
    return folder


def flowers102(root, monkeypatch):
    """JPEGs by number, and Matlab files of their classes and parts; every class once a part."""
    folder = root / "flowers-102"
    numbers = np.arange(1, 3 * 102 + 1)
    for number in numbers:
        trees.write_jpeg(folder / f"jpg/image_{number:05d}.jpg", int(number), size=(4, 4))
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": (numbers - 1) % 102 + 1})
    parts = {name: numbers[i * 102 : (i + 1) * 102] for i, name in enumerate(PARTS_OF_FLOWERS)}
    scipy.io.savemat(folder / "setid.mat", parts)
    known = {
        key: (name, md5(folder / name))
        for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    files = datasets.Flowers102._file_dict | known
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", files)
    return folder


PARTS_OF_FLOWERS = ("trnid", "valid", "tstid")
