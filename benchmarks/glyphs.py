"""What the data set glyphs looks like, and from which packages its faces are.

    python benchmarks/glyphs.py results/glyphs/data/downloads/glyphs docs/glyphs.png

Draws some characters in some faces of each part into the picture, and prints the faces of each
package in each part: the last columns of the table in docs/glyphs.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from e2mc.data.glyphs import CHARACTERS, Faces, common, distinct, draw, lineages, split
from e2mc.data.images import PARTS
from e2mc.data.subsets import evenly_spaced

SHOWN = {"train": 12, "validation": 6, "test": 10}  # faces of each part
CHOSEN = 16  # characters


def picture(faces: Faces, parts: dict[str, list[int]], path: Path) -> None:
    """Faces are rows, part by part; black on white, which is easier to read, in 16 greys."""
    characters = [common(faces)[i] for i in evenly_spaced(len(common(faces)), CHOSEN).tolist()]
    rows = {
        part: [members[i] for i in evenly_spaced(len(members), SHOWN[part]).tolist()]
        for part, members in parts.items()
    }
    heights = [len(found) for found in rows.values()]
    figure, panels = plt.subplots(
        len(PARTS),
        1,
        figsize=(0.4 * CHOSEN + 0.6, 0.4 * sum(heights) + 0.3),
        height_ratios=heights,
        layout="constrained",
    )
    for axes, (part, found) in zip(panels, rows.items(), strict=True):
        lines = [np.hstack(faces.images[face][characters]) for face in found]
        axes.imshow(255 - np.vstack(lines), cmap="gray", vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(f"{part}\n{len(found)} of {len(parts[part])} faces", fontsize=9)
    figure.savefig(path, dpi=110)
    Image.open(path).convert("L").quantize(16).save(path, optimize=True)


def table(faces: Faces, parts: dict[str, list[int]]) -> list[str]:
    """Package, faces trained on, for validation, tested on."""
    counts = {
        part: Counter(Path(faces.names[face]).parts[0] for face in members)
        for part, members in parts.items()
    }
    packages = sorted(set().union(*counts.values()))
    rows = [[counts[part][package] for part in PARTS] for package in packages]
    return [
        f"| `{package}` | {' | '.join(str(n or '') for n in row)} |"
        for package, row in zip(packages, rows, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the packages, each in its own")
    parser.add_argument("picture", type=Path, help="where to write it, e.g. docs/glyphs.png")
    options = parser.parse_args()
    faces = distinct(draw(options.folder))
    found = lineages(faces)
    parts = split(found, 0)
    picture(faces, parts, options.picture)
    lacking = "".join(CHARACTERS[i] for i in range(common(faces)[-1]) if i not in common(faces))
    print(f"{len(faces.names)} faces, {len(found)} lineages; passed over: {lacking}")
    print("\n".join(table(faces, parts)))


if __name__ == "__main__":
    main()
