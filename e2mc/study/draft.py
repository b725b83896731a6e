"""The study file for somebody's model and images, as ``e2mc improve`` writes it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2mc.checkpoints.keys import KeyMap
from e2mc.data.looking import Counted

BASE, ARM = "model", "e2mc"  # the model, and what is judged
STEPS = 20  # of a continued run, at least
EPOCHS = 10  # of a continued run, at most; the paper's number
BATCHES = 16  # of an epoch, at least, where a batch can be that small
LARGEST_BATCH, SMALLEST_BATCH = 256, 64
FEW = 10  # labelled images per class that are few, at least
NEIGHBOURS = (20, 10)
MADE_FOR = "# of the images that the model was made for"
ANCHOR_IMAGES = 512  # whose features' mean and deviation are taken: their error is a thirtieth


@dataclass(frozen=True)
class Facts:
    """What is known of a model and of images.

    Attributes:
        name: of the study.
        model: file of the weights.
        keys: where they are in it.
        backbone: name of the network.
        images: named and counted.
        size: side at which the images are looked at, in pixels.
        mean, std: of the images that the model was made for, of pixels in [0, 1].
    """

    name: str
    model: Path
    keys: KeyMap
    backbone: str
    images: Counted
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def learnt_from(self) -> int:
        """Training images without those held out."""
        return self.images.train - self.images.validation

    @property
    def batch_size(self) -> int:
        """The largest power of two that leaves ``BATCHES`` to an epoch, within limits."""
        possible = 2 ** int(math.log2(max(1, self.learnt_from // BATCHES)))
        return min(LARGEST_BATCH, max(SMALLEST_BATCH, possible), self.learnt_from)

    @property
    def epochs(self) -> int:
        """As few as give ``STEPS``, but no more than ``EPOCHS``."""
        steps = max(1, self.learnt_from // self.batch_size)
        return min(EPOCHS, math.ceil(STEPS / steps))

    @property
    def few(self) -> float | None:
        """The share of the labels that is few; None where all of them are few."""
        per_class = self.learnt_from / self.images.classes
        shares = [share for share in (0.01, 0.1) if share * per_class >= FEW]
        if shares:
            return shares[0]
        return None if per_class < 2 * FEW else round(FEW / per_class, 3)


def draft(facts: Facts, weights: Mapping[str, float], *, epochs: int | None = None) -> str:
    """A commented study file: the model as it is, continued, and continued with E2MC.

    Args:
        facts: what is known.
        weights: arguments of E2MC, by the rule for a first weight.
        epochs: of the continued runs; None: as many as the images ask for.
    """
    size = facts.size
    blur = [0.1, round(max(0.5, 2.0 * size / 224), 2)]
    return f"""\
# Written by `e2mc improve`; yours to change.
# Run again with: snakemake --cores 2 --config study={facts.name}
name: {facts.name}
title: {_text(f"{facts.model.name} on {facts.images.label}")}
targets: [{"table1" if facts.images.labelled else "embeddings"}]
data:
  dataset: {facts.images.dataset}
{_data(facts)}\
backbone: {_text(facts.backbone)}
bases:
  {BASE}:
    label: {_text(facts.model.stem)}
    # no head: z is the feature, and the loss keeps it near that of the model as it was
    method: {{name: anchor, params: {{images: {ANCHOR_IMAGES}}}}}
    views:
      - {{size: {size}, count: 2, crop_scale: [0.2, 1.0], jitter: 0.8, brightness: 0.4,
         contrast: 0.4, saturation: 0.2, hue: 0.1, grayscale: 0.2, blur: 0.5, blur_sigma: {blur}}}
    checkpoint:
      kind: own
      path: {_text(facts.model)}
      keys: {_keys(facts.keys)}
    continued:
      optimizer: {{name: adamw, lr: 3.0e-4, weight_decay: 1.0e-4}}
      schedule: {{name: cosine}}
      epochs: {epochs or facts.epochs}
      batch_size: {facts.batch_size}
arms:
  continued: {{label: continued}}
  # weights by the rule for a first weight: a start, no optimum
  {ARM}: {{label: + E2MC, criterion: e2mc, params: {_mapping(weights)}}}
seeds: {{continuation: [0, 1, 2]}}
separability: {{base: {BASE}, arms: [base, continued, {ARM}]}}
measurements: [embeddings]
one_job: true  # all of this is wanted of every model
{_scores(facts)}"""


def same_but_for_weights(one: str, other: str) -> bool:
    """Whether two texts of ``draft`` are of one study, whose weights somebody may have changed."""
    first, second = (
        [line for line in text.splitlines() if not line.startswith(f"  {ARM}:")]
        for text in (one, other)
    )
    return first == second


def _data(facts: Facts) -> str:
    """Which images, and how many."""
    images, size = facts.images, facts.size
    normalisation = f"{{mean: {_list(facts.mean)}, std: {_list(facts.std)}}}"
    # files are of any shape; what is in memory is square
    cut = f", resize: {round(size * 8 / 7)}, crop: true" if images.files else ""
    own = [
        *(f"{key}: {_plain(value)}" for key, value in images.named.items()),
        "# counted; a folder that has changed stops the run",
        *_counts(images),
        f"view: {{size: {size}{cut}}}",
    ]
    if images.dataset == "torchvision":  # the data are one data set
        return _lines("  ", [MADE_FOR, f"normalisation: {normalisation}", *own])
    data = _lines("  ", [MADE_FOR, f"normalisation: &images {normalisation}", "sets:", "  images:"])
    return data + _lines("      ", [*own, "normalisation: *images"])


def _lines(margin: str, lines: list[str]) -> str:
    return "".join(f"{margin}{line}\n" for line in lines)


def _plain(value: str | Path) -> str:
    """A word as it is, and a path in quotes."""
    return _text(value) if isinstance(value, Path) else value


def _counts(images: Counted) -> list[str]:
    train, test = f"train: {images.train}", f"test: {images.test}"
    if not images.labelled:
        return [train, f"{test}  # held out to measure on"]
    taken = "kept apart" if images.apart else "held out"
    return [
        f"classes: {images.classes}",
        train,
        f"{test}  # of all images, divided by split_seed" if images.divided else test,
        f"validation: {images.validation}  # of the training images, {taken} for every choice",
    ]


def _scores(facts: Facts) -> str:
    """What needs labels."""
    if not facts.images.labelled:
        return "# what needs labels would stand here\nparadigms: {}\ntables: {}\n"
    few = facts.few
    columns = ["knn", *(["linear_few"] if few else []), "linear_all"]
    neighbours = [k for k in NEIGHBOURS if k <= facts.learnt_from]
    return f"""\
paradigms:
  # on whitened features too: the control that costs no training
  knn: {{kind: knn, label: k-NN, features: [raw, whitened], protocol: {{k: {neighbours}}}}}
{_few(few)}\
  linear_all:
    {{kind: linear, label: linear, fraction: 1.0, protocol:
      {{epochs: 20, learning_rates: [0.01, 0.03, 0.1, 0.3, 1.0], validate_every: 10}}}}
tables:
  table1:
    title: {_text(f"{facts.model.name}, continued with and without E2MC")}
    rows: [{{base: {BASE}, arms: [base, continued, {ARM}]}}]
    columns: [{", ".join(columns)}]
"""


def _few(share: float | None) -> str:
    if share is None:
        return ""
    label = _text(f"linear {100 * share:g} %")
    return f"""\
  linear_few:
    {{kind: linear, label: {label}, fraction: {share}, label_seeds: [0, 1, 2], protocol:
      {{epochs: 60, learning_rates: [0.003, 0.01, 0.03, 0.1, 0.3, 1.0], validate_every: 20}}}}
"""


def _text(value: Any) -> str:
    """A text in quotes, which YAML reads as it stands; JSON is a part of YAML."""
    return json.dumps(str(value), ensure_ascii=False)


def _list(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"


def _mapping(values: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{key}: {float(f'{value:.2g}')}" for key, value in values.items()) + "}"


def _keys(keys: KeyMap) -> str:
    written = {"entry": keys.entry, "prefixes": keys.prefixes, "drop": list(keys.drop)}
    return json.dumps({key: value for key, value in written.items() if value}, ensure_ascii=False)


def name_of(model: Path, images: Path) -> str:
    """A name for the study of a model and a folder."""
    words = re.findall(r"[a-z0-9]+", f"{images.name}-{model.stem}".lower())
    return "-".join(words) or "mine"
