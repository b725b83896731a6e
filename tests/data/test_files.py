from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles, crop_box, decode, plain_crop, random_crop, usable_cores
from e2mc.data.imagenet import read_imagenet
from e2mc.data.images import Splits
from e2mc.data.source import Batch
from e2mc.data.views import Normalisation, PlainView, ViewRecipe

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
STEP = 1 / 255
COLOURS = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> ImageFiles:
    """40 files of mixed size; some are greyscale, some CMYK."""
    folder = tmp_path_factory.mktemp("files")
    names = [f"a/{i}.JPEG" for i in range(40)]
    for i, name in enumerate(names):
        trees.write_jpeg(folder / name, i, **trees.sizes_and_modes(i))
    return ImageFiles.of(folder, names, torch.arange(40) % 4, ("a", "b", "c", "d"))


def views(files, batches, *recipes):
    return list(files.views(batches, recipes, PLAIN, "cpu"))


def test_names_and_subsets(files):
    assert len(files) == 40 and files.name(0) == "a/0.JPEG" and files.name(39) == "a/39.JPEG"
    part = files.subset(torch.tensor([7, 3]))
    assert [part.name(i) for i in range(2)] == ["a/7.JPEG", "a/3.JPEG"]
    assert part.labels.tolist() == [3, 3]
    with pytest.raises(ValueError, match="40 images but 3 labels"):
        ImageFiles(files.folder, files.names, files.ends, files.rows, torch.arange(3), ("a",))
    with pytest.raises(ValueError, match="run from 0 to 3, but there are 2 classes"):
        ImageFiles(files.folder, files.names, files.ends, files.rows, files.labels, ("a", "b"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_decoding_is_pillows(mode, tmp_path):
    trees.write_jpeg(tmp_path / "x.jpg", 0, mode=mode)
    expected = np.asarray(Image.open(tmp_path / "x.jpg").convert("RGB"))
    assert torch.equal(decode(tmp_path / "x.jpg").permute(1, 2, 0), torch.tensor(expected))


def ramp(mode: str) -> Image.Image:
    """A picture of all grey levels, in a mode of Pillow."""
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    if mode == "HSV":
        return grey.convert("RGB").convert("HSV")
    return grey.convert("L").convert({"P": "RGB"}.get(mode, mode)).convert(mode)


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("PA", "TIFF"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("LAB", "TIFF"),
        ("P", "GIF"),
        ("RGBA", "WEBP"),
        ("L", "BMP"),
        ("L", "JPEG"),
    ],
)
def test_modes_of_eight_bits_are_converted_as_pillow_does(mode, format, tmp_path):
    image = Image.new(mode, (16, 16)) if mode in ("PA", "LAB") else ramp(mode)
    path = tmp_path / "x.img"
    image.save(path, format)
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert torch.equal(decode(path).permute(1, 2, 0), torch.tensor(expected))


LEVELS = np.array([[0, 128, 129, 257, 32767], [32768, 32896, 65406, 65407, 65535]], np.uint16)


def save_16_bits(path, kind: str) -> None:
    image = Image.fromarray(LEVELS)
    if kind == "tiff-big-endian":
        Image.frombytes("I;16B", (5, 2), LEVELS.astype(">u2").tobytes()).save(path, "TIFF")
    elif kind == "pgm":
        path.write_bytes(b"P5 5 2 65535\n" + LEVELS.astype(">u2").tobytes())
    else:
        image.save(path, kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "tiff-big-endian", "JPEG2000", "pgm"])
def test_16_bit_greyscale_is_rounded_to_8_bits(kind, tmp_path):
    path = tmp_path / "x.png"
    save_16_bits(path, kind)
    expected = torch.tensor(np.round(LEVELS / 257)).byte()
    found = decode(path)
    assert expected.tolist() == [[0, 0, 1, 1, 127], [128, 128, 254, 255, 255]]
    assert all(torch.equal(channel, expected) for channel in found)


def unclear(path, kind: str) -> None:
    """Files whose numbers have no plain meaning as 8 bits."""
    if kind == "int32":
        Image.fromarray(LEVELS.astype(np.int32)).save(path, "TIFF")
    elif kind == "float":
        Image.fromarray(LEVELS.astype(np.float32) / 65535).save(path, "TIFF")
    elif kind == "signed":
        tags = {339: 2}
        Image.fromarray(LEVELS).save(path, "TIFF", tiffinfo=tags)
    elif kind == "white is zero":
        content = io.BytesIO()
        Image.fromarray(LEVELS).save(content, "TIFF")
        one, zero = (struct.pack("<HHIHH", 262, 3, 1, value, 0) for value in (1, 0))
        assert content.getvalue().count(one) == 1
        path.write_bytes(content.getvalue().replace(one, zero))
    elif kind == "12 bits":
        content = io.BytesIO()
        Image.fromarray(LEVELS[:, :4]).save(content, "TIFF")
        sixteen, twelve = (struct.pack("<HHIHH", 258, 3, 1, value, 0) for value in (16, 12))
        assert content.getvalue().count(sixteen) == 1
        path.write_bytes(content.getvalue().replace(sixteen, twelve))


@pytest.mark.parametrize("kind", ["int32", "float", "signed", "white is zero", "12 bits"])
def test_numbers_without_a_plain_meaning_are_refused_by_name_and_mode(kind, tmp_path):
    unclear(tmp_path / "x.tif", kind)
    with pytest.raises(DataError, match=r"x\.tif is a TIFF file of mode (I|F|I;16), which has no"):
        decode(tmp_path / "x.tif")
    images = ImageFiles.of(tmp_path, ["x.tif"], torch.tensor([0]), ["a"])
    [problem] = images.broken()
    assert "no plain meaning" in problem


def test_colours_of_16_bits_keep_their_upper_byte(tmp_path):
    """As Pillow reads them; a PNG written by hand, because Pillow does not write any."""
    colours = np.array([[[0, 0x12FF, 0xFFFF]] * 2], dtype=">u2")

    def chunk(kind: bytes, content: bytes) -> bytes:
        code = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", code)

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" + colours.tobytes()))
        + chunk(b"IEND", b"")
    )
    assert decode(tmp_path / "x.png").flatten(1).tolist() == [[0] * 2, [0x12] * 2, [0xFF] * 2]


def test_transparency_frames_and_orientation_change_no_pixel(tmp_path):
    clear = Image.new("RGBA", (4, 3), (200, 100, 50, 0))
    clear.save(tmp_path / "clear.png")
    assert decode(tmp_path / "clear.png")[:, 0, 0].tolist() == [200, 100, 50]
    frames = [Image.new("RGB", (4, 3), shade) for shade in ("red", "blue")]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert decode(tmp_path / "x.webp")[:, 0, 0].tolist() == [255, 0, 0]
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    frames[0].save(tmp_path / "turned.jpg", exif=exif)
    assert decode(tmp_path / "turned.jpg").shape == (3, 3, 4)


def test_file_that_may_not_be_read_is_not_called_damaged(files, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DataError, match=r"0\.JPEG may not be read .*: change its permissions"):
        decode(files.path(0))


def test_views_are_in_order_and_a_function_of_the_seed(files):
    recipe, small = ViewRecipe(16, **COLOURS, blur=0.5), ViewRecipe(8, count=3)
    batches = [Batch(torch.arange(20), 1), Batch(torch.arange(20, 39), 2)]
    found = views(files, batches, recipe, small)
    assert [[tuple(view.shape) for view in step] for step in found] == [
        [(20, 3, 16, 16)] + 3 * [(20, 3, 8, 8)],
        [(19, 3, 16, 16)] + 3 * [(19, 3, 8, 8)],
    ]
    again = views(files, batches[1:], recipe, small)
    assert all(torch.equal(a, b) for a, b in zip(found[1], again[0], strict=True))
    other = views(files, [Batch(torch.arange(20), 3)], recipe, small)[0]
    assert not torch.equal(found[0][0], other[0])
    assert not torch.equal(found[0][1], found[0][2])


def test_a_part_of_a_batch_is_that_part_of_the_whole(files):
    recipe = ViewRecipe(16, **COLOURS)
    [[whole]] = views(files, [Batch(torch.arange(24), 5)], recipe)
    [[part]] = views(files, [Batch(torch.arange(24), 5, slice(8, 16))], recipe)
    torch.testing.assert_close(part, whole[8:16])


def test_an_empty_part_gives_empty_views(files):
    recipe = ViewRecipe(16, **COLOURS, blur=0.5)
    batches = [Batch(torch.arange(2), 5, slice(2, 2)), Batch(torch.arange(2), 5, slice(0, 2))]
    [[nothing], [both]] = views(files, batches, recipe)
    assert nothing.shape == (0, 3, 16, 16) and both.shape == (2, 3, 16, 16)


def test_boxes_are_those_of_torchvision():
    """The same law: shares of boxes that hit the border, and of area, within sampling error."""
    recipe = ViewRecipe(16, crop_scale=(0.3, 1.0))
    draws = random.Random(0)
    ours = [crop_box([draws.random() for _ in range(4)], 60, 40, recipe) for _ in range(4000)]
    image = torch.zeros(3, 40, 60)
    torch.manual_seed(0)
    theirs = [
        transforms.RandomResizedCrop.get_params(image, (0.3, 1.0), (3 / 4, 4 / 3))
        for _ in range(4000)
    ]
    ours = torch.tensor(ours).double()
    theirs = torch.tensor([(left, top, w, h) for top, left, h, w in theirs]).double()
    assert (ours[:, 0] + ours[:, 2]).max() <= 60 and (ours[:, 1] + ours[:, 3]).max() <= 40
    error = (ours.var(dim=0) / 4000 + theirs.var(dim=0) / 4000).sqrt()
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)).abs() < 4 * error).all()
    spread = ours.std(dim=0) / theirs.std(dim=0)
    assert spread.min() > 0.93 and spread.max() < 1.07


def test_box_that_never_fits_is_the_centre():
    recipe = ViewRecipe(16, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    assert crop_box([0.5] * 4, 60, 40, recipe) == (10, 0, 40, 40)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("seed", range(4))
def test_crop_equals_torchvision_and_pillow(files, interpolation, seed):
    draws = random.Random(seed)
    numbers = [draws.random() for _ in range(4)]
    image = decode(files.path(seed))
    recipe = ViewRecipe(24, interpolation=interpolation)
    left, top, width, height = crop_box(numbers, image.shape[2], image.shape[1], recipe)
    mode = v2.InterpolationMode(interpolation)
    ours = random_crop(image, numbers, recipe).int()
    theirs = reference.resized_crop(
        image, top, left, height, width, [24, 24], interpolation=mode, antialias=True
    )
    assert (ours - theirs.int()).abs().max() <= 1
    pillow = Image.fromarray(image.permute(1, 2, 0).numpy())
    pillow = reference.resized_crop(pillow, top, left, height, width, [24, 24], interpolation=mode)
    assert (ours - reference.pil_to_tensor(pillow).int()).abs().max() <= 1


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("number", range(4))
def test_plain_crop_is_resize_and_centre_crop(files, crop, number):
    image = decode(files.path(number))
    last = v2.CenterCrop(28) if crop else v2.Resize((28, 28), antialias=True)
    expected = v2.Compose([v2.Resize(32, antialias=True), last])(image)
    ours = plain_crop(image, (), PlainView(28, resize=32, crop=crop))
    assert ours.shape == (3, 28, 28)
    assert (ours.int() - expected.int()).abs().max() <= 1


def test_plain_views_come_in_batches_and_in_order(files):
    view = PlainView(20, resize=24, crop=True)
    batches = list(files.plain_views(view, PLAIN, "cpu", 17))
    assert [len(batch) for batch in batches] == [17, 17, 6]
    whole = torch.cat(batches)
    for i in (0, 5, 7, 39):
        expected = plain_crop(decode(files.path(i)), (), view).float() / 255
        torch.testing.assert_close(whole[i], expected)


def test_broken_file_is_one_sentence_that_names_it(files, tmp_path):
    good = files.path(0).read_bytes()
    names = ["good.JPEG", "cut.JPEG", "text.JPEG", "empty.JPEG", "gone.JPEG"]
    for name, content in zip(names, (good, good[: len(good) // 2], b"no image", b"")):
        (tmp_path / name).write_bytes(content)
    broken = ImageFiles.of(tmp_path, names, torch.zeros(5, dtype=torch.long), ("a",))
    for i, name in enumerate(names[1:], start=1):
        expected = "does not exist" if name == "gone.JPEG" else "cannot be decoded"
        with pytest.raises(DataError, match=rf"{name} {expected}.*") as caught:
            views(broken, [Batch(torch.tensor([0, i]), 0)], ViewRecipe(8))
        assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
        with pytest.raises(DataError, match=rf"{name} {expected}"):
            list(broken.subset(torch.tensor([i])).plain_views(PlainView(8), PLAIN, "cpu", 4))
    assert [problem.split(".JPEG")[0].rsplit("/")[-1] for problem in broken.broken()] == [
        "cut", "text", "empty", "gone"
    ]  # fmt: skip


BYTES = "caf\udce9"  # "café" in Latin-1, which is no UTF-8


def test_names_are_bytes_on_disk(files, tmp_path):
    """Read, listed, saved, loaded, decoded and told, whatever their encoding."""
    good, bad = f"{BYTES}/{BYTES}.JPEG", f"{BYTES}/{BYTES}2.JPEG"
    root = tmp_path / BYTES
    for name, content in ((good, files.path(0).read_bytes()), (bad, b"no image")):
        for part in ("train", "val"):
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
            (root / part / name).write_bytes(content + part.encode())
    found, tested = read_imagenet(root)
    assert found.classes == (BYTES,) and found.name(0) == f"train/{good}"
    Splits(found, found.subset(torch.arange(0)), tested).save(tmp_path / "images.pt")
    found = Splits.load(tmp_path / "images.pt").train
    assert found.classes == (BYTES,) and found.name(0) == f"train/{good}"
    [[view]] = views(found, [Batch(torch.tensor([0]), 0)], ViewRecipe(8))
    assert view.shape == (1, 3, 8, 8)
    [problem] = found.broken()
    with pytest.raises(DataError, match=r"caf\\udce92\.JPEG cannot be decoded") as caught:
        decode(found.path(1))
    assert problem == str(caught.value)
    problem.encode()  # can be sent to a log and to a terminal
    with pytest.raises(DataError, match=r"caf\\udce9/train is not a folder") as caught:
        read_imagenet(root / BYTES)
    str(caught.value).encode()


def test_cores_are_those_that_may_be_used(monkeypatch, tmp_path):
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr("e2mc.data.files.CPU_QUOTA", quota)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert usable_cores() == 12
    for text, expected in (("max 100000", 12), ("350000 100000", 4), ("9900000 100000", 12)):
        quota.write_text(text)
        assert usable_cores() == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert usable_cores() == 6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert usable_cores() == 1


def test_splits_of_files_survive_a_round_trip(files, tmp_path):
    parts = [files.subset(torch.arange(start, start + 8)) for start in (0, 8, 16)]
    lists = {"1percent": torch.tensor([1, 4])}
    Splits(*parts, lists).save(tmp_path / "images.pt")
    found = Splits.load(tmp_path / "images.pt")
    assert found.validation.name(3) == "a/11.JPEG"
    assert torch.equal(found.test.labels, parts[2].labels)
    assert found.train.classes == files.classes
    assert found.lists["1percent"].tolist() == [1, 4]
    assert (tmp_path / "images.pt").stat().st_size < 20_000
