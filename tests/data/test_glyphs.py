"""Glyphs are drawn, compared and split by lineage; here letters in matplotlib's fonts."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from e2mc.data import glyph_fonts, glyphs
from e2mc.data.errors import DataError
from e2mc.data.glyph_fonts import DEBIAN_PACKAGES, fetch_fonts
from e2mc.data.glyphs import CHARACTERS, SIDE, Faces, common, distinct, draw, lineages, split

FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CYRILLIC = "".join(map(chr, range(0x430, 0x450)))


@pytest.fixture
def letters(monkeypatch):
    monkeypatch.setattr(glyphs, "CHARACTERS", LETTERS)
    monkeypatch.setattr(glyphs, "CLASSES", 20)


def faces(drawn=None, count=6, characters=8):
    """Noise of its own in each face."""
    images = np.random.default_rng(0).integers(0, 256, (count, characters, SIDE, SIDE))
    has = np.ones((count, characters), dtype=bool) if drawn is None else drawn
    return Faces(tuple(map(str, range(count))), images.astype(np.uint8) * has[..., None, None], has)


def mixed(first, second, share):
    """Between two pictures: their correlation rises with the share."""
    return (share * first + (1 - share) * second).astype(np.uint8)


def test_characters_are_those_of_the_table():
    assert len(CHARACTERS) == len(set(CHARACTERS)) == 80 + 160 + 200
    assert all("\u4e00" <= character <= "\u9fff" for character in CHARACTERS)
    assert (CHARACTERS[79], CHARACTERS[80], CHARACTERS[239], CHARACTERS[240]) == tuple("六引話悪")


def test_packages_are_fonts_and_named_once():
    assert len(set(DEBIAN_PACKAGES)) == len(DEBIAN_PACKAGES) == 52
    assert all(name.startswith("fonts-") for name in DEBIAN_PACKAGES)


def test_page_says_where_each_face_comes_from():
    page = (Path(__file__).parents[2] / "docs/glyphs.md").read_text()
    rows = re.findall(r"^\| `(fonts-[a-z0-9-]+)` \|.*\|(.*)\|(.*)\|(.*)\|$", page, re.MULTILINE)
    assert [name for name, *_ in rows] == list(DEBIAN_PACKAGES)
    counts = [[int(number.strip() or 0) for number in numbers] for _, *numbers in rows]
    assert all(sum(numbers) for numbers in counts)
    for part, total in zip(("train", "validation", "test"), np.sum(counts, axis=0), strict=True):
        assert re.search(rf"\| {part} \| \d+ \| {total} \|", page)


def test_letters_stand_in_the_middle(letters):
    found = draw(FONTS)
    name = next(name for name in found.names if name.startswith("DejaVuSans.ttf"))
    images = found[[found.names.index(name)]].images[0]
    assert images.shape == (26, 28, 28) and images.dtype == np.uint8
    for image in images:
        for axis in (0, 1):
            ink = np.flatnonzero(image.max(axis=axis))
            assert abs(ink[0] + ink[-1] - (SIDE - 1)) <= 3
    assert images[LETTERS.index("I")].max() == 255


def test_faces_that_have_few_of_the_characters_are_left_out(letters, monkeypatch, tmp_path):
    for name in ("DejaVuSans.ttf", "cmr10.ttf"):
        (tmp_path / name).write_bytes((FONTS / name).read_bytes())
    monkeypatch.setattr(glyphs, "CHARACTERS", LETTERS + CYRILLIC + CHARACTERS[:9])
    found = draw(tmp_path)
    assert found.names == ("DejaVuSans.ttf:0",)
    assert found.drawn[0].tolist() == [True] * 58 + [False] * 9
    assert found.images[0, :58].any(axis=(1, 2)).all() and not found.images[0, 58:].any()


def test_one_picture_for_all_characters_is_none(letters):
    assert (FONTS / "LastResortHE-Regular.ttf").exists()
    assert not any("LastResort" in name for name in draw(FONTS).names)


def test_one_cursive_face_is_left_out(letters, monkeypatch):
    monkeypatch.setattr(glyphs, "CURSIVE", "DejaVuSans.ttf")
    assert not any(name.startswith("DejaVuSans.ttf") for name in draw(FONTS).names)


def test_images_of_a_folder_of_fonts(letters):
    found = glyphs.load_glyphs(FONTS, 0)
    parts = (found.train, found.validation, found.test)
    for part in parts:
        assert part.classes == tuple(LETTERS[:20])
        assert part.images.shape[1:] == (1, 28, 28) and part.labels.dtype == torch.int64
        assert set(part.labels.tolist()) == set(range(20))
    assert len(found.train) > len(found.test) >= len(found.validation)
    again = glyphs.load_glyphs(FONTS, 1)
    assert len(again.train) + len(again.validation) + len(again.test) == sum(map(len, parts))
    assert not torch.equal(again.test.images, found.test.images)


def test_folder_without_chinese_characters():
    with pytest.raises(DataError, match="has no font with Chinese characters: name the folder"):
        glyphs.load_glyphs(FONTS, 0)


def test_too_few_faces(letters, tmp_path):
    (tmp_path / "one.ttf").write_bytes((FONTS / "DejaVuSans.ttf").read_bytes())
    with pytest.raises(DataError, match="has 1 faces that differ, which have 20 of the characters"):
        glyphs.load_glyphs(tmp_path, 0)


def test_damaged_font_is_named(letters, tmp_path):
    (tmp_path / "broken.otf").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(DataError, match=r"broken\.otf cannot be read as a font .* unpack it again"):
        draw(tmp_path)


def test_similarity_is_the_mean_correlation():
    drawn = np.ones((3, 8), dtype=bool)
    drawn[1, :5] = False
    found = faces(drawn, 3)
    expected = np.mean(
        [
            np.corrcoef(found.images[0, k].ravel(), found.images[1, k].ravel())[0, 1]
            for k in range(5, 8)
        ]
    )
    similar = glyphs.similarity(found)
    assert similar[0, 1] == pytest.approx(expected) and similar[2, 2] == pytest.approx(1)


def test_the_same_face_is_kept_once_and_related_ones_are_a_lineage():
    found = faces()
    images = found.images
    images[1] = mixed(images[0], images[1], 0.95)  # the same
    images[3] = mixed(images[2], images[3], 0.65)  # related
    images[4] = mixed(images[3], images[4], 0.75)  # to the one before, and not to its relative
    assert glyphs.similarity(found)[2, 4] < glyphs.RELATED
    kept = distinct(found)
    assert kept.names == ("0", "2", "3", "4", "5")
    assert lineages(kept) == [[1, 2, 3], [0], [4]]


def test_characters_that_few_faces_have_are_passed_over(monkeypatch):
    drawn = np.ones((20, 8), dtype=bool)
    drawn[:2, 3] = drawn[0, 5] = False
    monkeypatch.setattr(glyphs, "CLASSES", 5)
    assert common(faces(drawn, 20)) == [0, 1, 2, 4, 5]


def test_lineages_are_split_whole_and_the_largest_are_trained_on():
    found = [[0, 1, 2, 9], [3, 4], [5, 6], *([index] for index in (7, 8, *range(10, 22)))]
    parts = split(found, 0)
    assert sorted(face for part in parts.values() for face in part) == list(range(22))
    assert {0, 1, 2, 9, 3, 4} <= set(parts["train"])
    assert any({5, 6} <= set(part) for part in parts.values())
    # 15 others: 6, 3 and 6
    places = {face: name for name, part in parts.items() for face in part}
    counts = [places[lineage[0]] for lineage in found[2:]]
    assert [counts.count(name) for name in parts] == [6, 3, 6]
    assert split(found, 0) == parts != split(found, 1)
    assert found[0] == [0, 1, 2, 9] and len(found) == 17


def test_a_folder_of_ones_own_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch_fonts(Path("~"), tmp_path / "unused") == tmp_path
    assert not (tmp_path / "unused").exists()
    with pytest.raises(DataError, match=r"is not a folder: set data_folders\.glyphs in config"):
        fetch_fonts(tmp_path / "nowhere", tmp_path)


@pytest.fixture
def debian(monkeypatch):
    """Two packages; those that were fetched."""
    fetched = []

    def packages(names, scratch):
        for name in names:
            if name == "fonts-gone":
                raise OSError("no network")
            fetched.append(name)
            (scratch / f"{name}.deb").touch()
            yield name, scratch / f"{name}.deb"

    monkeypatch.setattr(glyph_fonts, "DEBIAN_PACKAGES", ("fonts-one", "fonts-two"))
    monkeypatch.setattr(glyph_fonts, "packages", packages)
    monkeypatch.setattr(glyph_fonts, "unpack", lambda package, folder: folder.mkdir())
    return fetched


def test_packages_are_fetched_once(debian, tmp_path):
    folder = fetch_fonts(None, tmp_path / "downloads")
    assert sorted(path.name for path in folder.iterdir()) == ["fonts-one", "fonts-two"]
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [folder.name]
    (folder / "fonts-two").rmdir()
    assert fetch_fonts(None, tmp_path / "downloads") == folder
    assert debian == ["fonts-one", "fonts-two", "fonts-two"]


def test_packages_that_cannot_be_fetched(debian, tmp_path, monkeypatch):
    monkeypatch.setattr(glyph_fonts, "DEBIAN_PACKAGES", ("fonts-one", "fonts-gone"))
    with pytest.raises(DataError, match=r"could not be fetched \(no network\): unpack the pack"):
        fetch_fonts(None, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["glyphs", "fonts-one"]
