"""The fonts that glyphs are drawn in: packages of Debian, or a folder of somebody's own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from e2mc.data.debian import packages, unpack
from e2mc.data.errors import DataError

# of Debian 12; its other fonts of Chinese characters have no face that differs from all of these
DEBIAN_PACKAGES = (
    "fonts-aoyagi-kouzan-t",
    "fonts-aoyagi-soseki",
    "fonts-arphic-bkai00mp",
    "fonts-arphic-bsmi00lp",
    "fonts-arphic-gbsn00lp",
    "fonts-arphic-gkai00mp",
    "fonts-arphic-uming",
    "fonts-babelstone-han",
    "fonts-cns11643-kai",
    "fonts-cns11643-sung",
    "fonts-cwtex-fs",
    "fonts-cwtex-heib",
    "fonts-cwtex-kai",
    "fonts-cwtex-ming",
    "fonts-cwtex-yen",
    "fonts-dejima-mincho",
    "fonts-dotgothic16",
    "fonts-droid-fallback",
    "fonts-hanazono",
    "fonts-horai-umefont",
    "fonts-ipaexfont-mincho",
    "fonts-kiloji",
    "fonts-klee",
    "fonts-konatu",
    "fonts-kouzan-mouhitsu",
    "fonts-lxgw-wenkai",
    "fonts-migmix",
    "fonts-misaki",
    "fonts-mmcedar",
    "fonts-mona",
    "fonts-monapo",
    "fonts-morisawa-bizud-gothic",
    "fonts-morisawa-bizud-mincho",
    "fonts-motoya-l-maruberi",
    "fonts-mplus",
    "fonts-noto-cjk",
    "fonts-noto-cjk-extra",
    "fonts-oradano-mincho-gsrr",
    "fonts-rampart",
    "fonts-reggae",
    "fonts-rocknroll",
    "fonts-sawarabi-gothic",
    "fonts-sawarabi-mincho",
    "fonts-seto",
    "fonts-smiley-sans",
    "fonts-stick",
    "fonts-takao-gothic",
    "fonts-takao-mincho",
    "fonts-train",
    "fonts-vlgothic",
    "fonts-wqy-zenhei",
    "fonts-yusei-magic",
)
# cursive script has other forms of many characters, which no other face tells
CURSIVE = "KouzanBrushFontSousyo.ttf"
FOLDER = "glyphs"  # of the unpacked packages


def fetch_fonts(folder: Path | None, download_to: Path) -> Path:
    """A folder with the fonts.

    Args:
        folder: of somebody's own, taken as it is; None: Debian's packages, fetched with apt and
            unpacked, each into a folder of its name, unless they are there.
        download_to: where to.

    Raises:
        DataError: when the folder does not exist, or a package cannot be fetched.
    """
    if folder is not None:
        folder = Path(os.path.expanduser(folder))
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder: set data_folders.glyphs in config.yaml to the folder "
                "that holds the fonts, or to null to have Debian's packages fetched"
            )
        return folder
    fonts = download_to / FOLDER
    fonts.mkdir(parents=True, exist_ok=True)
    missing = [name for name in DEBIAN_PACKAGES if not (fonts / name).is_dir()]
    try:
        with tempfile.TemporaryDirectory(dir=download_to.resolve()) as scratch:
            for name, package in packages(missing, Path(scratch)) if missing else ():
                unpack(package, Path(scratch) / name)
                package.unlink()
                (Path(scratch) / name).rename(fonts / name)
    except OSError as error:
        raise DataError(
            f"the fonts could not be fetched ({error}): unpack the packages of docs/glyphs.md into "
            "a folder, and name it in config.yaml under data_folders.glyphs"
        ) from None
    return fonts
