"""Glyphs: 300 Chinese characters drawn in about a hundred font faces, 28 x 28 pixels, grey.

The faces are those of fonts in Debian. They are split by design lineage, so that neither a face of
the test images nor a relative of it has been trained on: docs/glyphs.md.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from e2mc.data.errors import DataError
from e2mc.data.found import Found
from e2mc.data.glyph_fonts import CURSIVE
from e2mc.data.images import PARTS, ImageSet

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

# What is taught in the first three years of Japanese schools, in the order of the official table:
# Ministry of Education, Culture, Sports, Science and Technology, Course of Study for Elementary
# Schools, 2017, Table of Kanji by School Year (80, 160 and 200 characters).
CHARACTERS = (
    "一右雨円王音下火花貝学気九休玉金空月犬見五口校左三山子四糸字耳七車手十出女小上森"
    "人水正生青夕石赤千川先早草足村大男竹中虫町天田土二日入年白八百文木本名目立力林六"
    "引羽雲園遠何科夏家歌画回会海絵外角楽活間丸岩顔汽記帰弓牛魚京強教近兄形計元言原戸"
    "古午後語工公広交光考行高黄合谷国黒今才細作算止市矢姉思紙寺自時室社弱首秋週春書少"
    "場色食心新親図数西声星晴切雪船線前組走多太体台地池知茶昼長鳥朝直通弟店点電刀冬当"
    "東答頭同道読内南肉馬売買麦半番父風分聞米歩母方北毎妹万明鳴毛門夜野友用曜来里理話"
    "悪安暗医委意育員院飲運泳駅央横屋温化荷界開階寒感漢館岸起期客究急級宮球去橋業曲局"
    "銀区苦具君係軽血決研県庫湖向幸港号根祭皿仕死使始指歯詩次事持式実写者主守取酒受州"
    "拾終習集住重宿所暑助昭消商章勝乗植申身神真深進世整昔全相送想息速族他打対待代第題"
    "炭短談着注柱丁帳調追定庭笛鉄転都度投豆島湯登等動童農波配倍箱畑発反坂板皮悲美鼻筆"
    "氷表秒病品負部服福物平返勉放味命面問役薬由油有遊予羊洋葉陽様落流旅両緑礼列練路和"
)
CLASSES = 300
DRAWN, CANVAS, SIDE = 48, 56, 28  # pixels: size of a face, of the paper, and of the image
FACE_SHARE = 0.5  # of the characters that a face has, or it is no face of Chinese characters
CHARACTER_SHARE = 0.9  # of the faces that have a character, or another one is taken
SAME, RELATED = 0.97, 0.85  # mean correlation of the pixels from which two faces are these
LARGEST = 2  # lineages that are trained on in any case
SHARES = 0.4, 0.2  # of the other lineages for training and validation; the rest is tested on
NO_CHARACTER = "\uffff"  # drawn as what a face has none for


@dataclass(frozen=True)
class Faces:
    """Characters drawn in font faces.

    Attributes:
        names: path below the folder, and number in the file, of each face.
        images: uint8 (F, K, 28, 28), white on black.
        drawn: bool (F, K), whether the face has the character.
    """

    names: tuple[str, ...]
    images: np.ndarray
    drawn: np.ndarray

    def __getitem__(self, faces: list[int]) -> Faces:
        names = tuple(self.names[face] for face in faces)
        return Faces(names, self.images[faces], self.drawn[faces])


def load_glyphs(folder: Path, seed: int) -> Found:
    """The images of every face below a folder that has Chinese characters.

    Args:
        folder: holds fonts, in folders of any depth.
        seed: of the split of the lineages.

    Raises:
        DataError: when there are too few faces, or a file is damaged.
    """
    faces = distinct(draw(folder))
    characters = common(faces)
    if len(characters) < CLASSES or len(faces.names) < len(PARTS):
        raise DataError(
            f"{folder} has {len(faces.names)} faces that differ, which have {len(characters)} of "
            f"the characters in common, expected about 100 faces and {CLASSES} characters: unpack "
            "the packages of docs/glyphs.md there"
        )
    parts = split(lineages(faces), seed)
    return Found(**{part: _images(faces[parts[part]], characters) for part in PARTS})


def _images(faces: Faces, characters: list[int]) -> ImageSet:
    """Face by face, in the order of the characters."""
    drawn = faces.drawn[:, characters]
    images = torch.from_numpy(faces.images[:, characters][drawn]).unsqueeze(1)
    labels = torch.from_numpy(drawn.nonzero()[1])
    return ImageSet(images, labels, tuple(CHARACTERS[index] for index in characters))


def draw(folder: Path) -> Faces:
    """The characters in every face below a folder that has enough of them, by the files' names.

    Raises DataError when a file cannot be read.
    """
    endings = (".ttf", ".otf", ".ttc", ".otc")
    files = (path for path in folder.rglob("*") if path.suffix.lower() in endings)
    names, images, drawn = [], [], []
    for path in sorted(files, key=lambda path: (path.name, path)):
        if path.name == CURSIVE:
            continue
        for number, face in _faces(path):
            has = _drawn(face)
            if has.mean() < FACE_SHARE:
                continue
            empty = np.zeros((SIDE, SIDE), dtype=np.uint8)
            names.append(f"{path.relative_to(folder)}:{number}")
            pictures = zip(CHARACTERS, has, strict=True)
            images.append(
                np.stack([_picture(face, c) if there else empty for c, there in pictures])
            )
            drawn.append(has)
    if not names:
        raise DataError(
            f"{folder} has no font with Chinese characters: name the folder that holds the fonts "
            "of docs/glyphs.md"
        )
    return Faces(tuple(names), np.stack(images), np.stack(drawn))


def _faces(path: Path) -> Iterator[tuple[int, FreeTypeFont]]:
    """The faces of a file, with their numbers."""
    from PIL import ImageFont

    basic = ImageFont.Layout.BASIC
    for number in itertools.count():
        try:
            face = ImageFont.truetype(str(path), DRAWN, index=number, layout_engine=basic)
        except OSError as error:
            if number:  # there are no more
                return
            raise DataError(f"{path} cannot be read as a font ({error}): unpack it again") from None
        yield number, face


def _drawn(face: FreeTypeFont) -> np.ndarray:
    """Bool (K,), which characters a face has: what it draws for several of them is none of them."""
    shapes = [_shape(face, character) for character in (NO_CHARACTER, *CHARACTERS)]
    often = Counter(shapes)
    return np.array([any(shape) and often[shape] == 1 for shape in shapes[1:]])


def _shape(face: FreeTypeFont, character: str) -> bytes:
    """The pixels of a character; none where the face's program for it is broken."""
    try:
        return bytes(face.getmask(character))
    except OSError:
        return b""


def _picture(face: FreeTypeFont, character: str) -> np.ndarray:
    """A character in the middle of its image, uint8 (28, 28)."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = face.getbbox(character)
    corner = (CANVAS - (right - left)) // 2 - left, (CANVAS - (bottom - top)) // 2 - top
    paper = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(paper).text(corner, character, fill=255, font=face)
    return np.asarray(paper.reduce(CANVAS // SIDE))


def similarity(faces: Faces) -> np.ndarray:
    """Correlation of the pixels, the mean over the characters that two faces have: (F, F)."""
    total = np.zeros((len(faces.names), len(faces.names)))
    for images in faces.images.transpose(1, 0, 2, 3):
        pixels = images.reshape(len(images), -1).astype(np.float64)
        pixels -= pixels.mean(axis=1, keepdims=True)
        pixels /= np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-6)
        total += pixels @ pixels.T  # of what is not drawn it is 0
    both = faces.drawn.astype(np.float64) @ faces.drawn.T
    return total / np.maximum(both, 1)


def distinct(faces: Faces) -> Faces:
    """Those that are not the same as one before them."""
    alike, kept = similarity(faces) >= SAME, list[int]()
    for face in range(len(faces.names)):
        if not alike[face, kept].any():
            kept.append(face)
    return faces[kept]


def common(faces: Faces) -> list[int]:
    """The first characters that nearly all faces have, as numbers."""
    return np.flatnonzero(faces.drawn.mean(axis=0) > CHARACTER_SHARE)[:CLASSES].tolist()


def lineages(faces: Faces) -> list[list[int]]:
    """Faces that are related, directly or through others (single linkage), the largest first."""
    related = similarity(faces) > RELATED
    found: list[list[int]] = []
    left = set(range(len(faces.names)))
    while left:
        lineage, new = set[int](), {min(left)}
        while new:
            lineage |= new
            near = np.flatnonzero(related[sorted(new)].any(axis=0)).tolist()
            new = set(near) - lineage
        found.append(sorted(lineage))
        left -= lineage
    return sorted(found, key=len, reverse=True)


def split(found: list[list[int]], seed: int) -> dict[str, list[int]]:
    """The faces of each part: whole lineages, the largest ones for training.

    Args:
        found: lineages, the largest first.
        seed: decides which of the others go where.
    """
    others = found[LARGEST:]
    random.Random(seed).shuffle(others)
    first, second = (round(share * len(others)) for share in SHARES)
    parts = (
        found[:LARGEST] + others[:first],
        others[first : first + second],
        others[first + second :],
    )
    return {
        name: sorted(face for lineage in part for face in lineage)
        for name, part in zip(PARTS, parts, strict=True)
    }
