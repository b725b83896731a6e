"""What a study costs: GPU-hours and disk space of every row of its tables, from rates on one GPU.

Nothing is run and nothing is guessed: the rates are measured ones from a file, or given by the
user, and the estimate says which.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from e2mc.errors import InputError
from e2mc.evaluation.paradigm import Counts, Work, together
from e2mc.methods import create_method
from e2mc.models import create_backbone
from e2mc.study import (
    BASE_ARM,
    OnDisk,
    ReleasedCheckpoint,
    Run,
    Study,
)

if TYPE_CHECKING:
    import pandas as pd

FEATURES, FINE_TUNING = "features", "fine-tuning"
COLUMNS = ["what", "images_per_second", "device"]


@dataclass(frozen=True)
class Rates:
    """Images per second of one GPU, end to end, decoding included.

    Attributes:
        images_per_second: method -> rate of its pre-training with all its views; "features" ->
            that of the frozen backbone on one view; "fine-tuning" -> that of training it on one
            view.
        origin: where the rates come from, for whoever reads the estimate.
    """

    images_per_second: Mapping[str, float]
    origin: str = "given, not measured"

    def __post_init__(self) -> None:
        for name, rate in self.images_per_second.items():
            if not rate > 0:
                raise InputError(f"the rate of {name} is {rate}, it must be positive")

    def hours(self, what: str, images: float) -> float:
        """How long so many images take; ValueError where the rate is not known."""
        if what not in self.images_per_second:
            known = ", ".join(self.images_per_second) or "none"
            raise InputError(
                f"no rate for {what}: measure it or give it in images per second (known: {known})"
            )
        return images / self.images_per_second[what] / 3600


def read_rates(path: Path) -> Rates:
    """Measured rates from a CSV file with the columns what, images_per_second and device.

    Raises ValueError when the file has other columns, no rows, or rows of several devices.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(COLUMNS) <= rows[0].keys():
        raise InputError(f"{path} holds no rates: expected rows with columns {', '.join(COLUMNS)}")
    devices = sorted({row["device"] for row in rows})
    if len(devices) > 1:
        raise InputError(f"{path} holds rates of several devices: {', '.join(devices)}")
    try:
        rates = {row["what"]: float(row["images_per_second"]) for row in rows}
    except ValueError as error:
        raise InputError(f"{path}: images_per_second must be numbers: {error}") from None
    return Rates(rates, f"measured on {devices[0]}, {path}")


def estimate(
    study: Study, rates: Rates, *, keep: Sequence[str] = ("downloads", "continued")
) -> pd.DataFrame:
    """GPU-hours and disk space of every row of Tables 1 and 2.

    Solving SVMs and everything else that a GPU waits for is left out.

    Args:
        study: whose data are on disk, so that it states the counts of images.
        rates: images per second on one GPU.
        keep: which checkpoints stay when their dependants are done, see ``Config.keep``.

    Returns:
        One row per table, base and arm with the number of "runs", the GPU-hours "pre-training",
        "frozen" (evaluations) and "fine-tuning" and their sum "GPU-hours", and "disk GB" of the
        checkpoints that stay, all over the row's runs; then one row of the tables together, in
        which a run that both need counts once.

    Raises:
        ValueError: when a rate is missing or the study's data are not on disk.
    """
    import pandas as pd

    columns_of: dict[Run, set[str]] = {}
    shown: list[tuple[str, str, str, list[Run]]] = []
    for name, table in study.tables.items():
        if table.published is None:
            continue
        for row in table.rows:
            for arm in row.arms:
                runs = study.runs([row.model_copy(update={"arms": (arm,)})])
                shown.append((name, row.base, arm, runs))
                for run in runs:
                    columns_of.setdefault(run, set()).update(table.columns)
    costs = {
        (name, run): _Cost.of(study, rates, run, set(study.tables[name].columns), keep)
        for name, _, _, runs in shown
        for run in runs
    }
    rows = [
        {"table": name, "base": base, "arm": arm}
        | _Cost.sum(costs[name, run] for run in runs).row(len(runs))
        for name, base, arm, runs in shown
    ]
    together = _Cost.sum(
        _Cost.of(study, rates, run, columns, keep) for run, columns in columns_of.items()
    )
    rows.append({"table": "together", "base": "", "arm": ""} | together.row(len(columns_of)))
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Cost:
    """Of some runs: hours on one GPU, and bytes that stay."""

    training: float = 0.0
    frozen: float = 0.0
    fine_tuning: float = 0.0
    disk: int = 0

    @classmethod
    def of(
        cls, study: Study, rates: Rates, run: Run, columns: set[str], keep: Sequence[str]
    ) -> _Cost:
        """Of one run and the paradigms in ``columns``."""
        training, disk = 0.0, 0
        if run.arm == BASE_ARM:
            disk = _base_bytes(study, run.base, "downloads" in keep)
        else:
            spec = study.training_spec(run)
            images = study.training_images(run) or _count(study, "images", "train")
            training = rates.hours(spec.method.name, study.epochs_of(run.base, run.arm) * images)
            if "continued" in keep:
                disk = checkpoint_bytes(study, run.base, optimizer=spec.keep_optimizer)
        work = _work(study, columns)
        fine_tuning = 0.0
        if work.trained:
            fine_tuning = rates.hours(FINE_TUNING, work.trained)
            fine_tuning += rates.hours(FEATURES, work.looked_at)
        frozen = work.streamed + sum(
            _count(study, dataset, split) for dataset, split, _ in work.features
        )
        return cls(training, rates.hours(FEATURES, frozen) if frozen else 0.0, fine_tuning, disk)

    @classmethod
    def sum(cls, costs: Iterable[_Cost]) -> _Cost:
        costs = list(costs)
        return cls(
            sum(cost.training for cost in costs),
            sum(cost.frozen for cost in costs),
            sum(cost.fine_tuning for cost in costs),
            sum(cost.disk for cost in costs),
        )

    def row(self, runs: int) -> dict[str, float]:
        return {
            "runs": runs,
            "pre-training": self.training,
            "frozen": self.frozen,
            "fine-tuning": self.fine_tuning,
            "GPU-hours": self.training + self.frozen + self.fine_tuning,
            "disk GB": self.disk / 1e9,
        }


def _counts(study: Study, dataset: str) -> Counts:
    """How many images there are; InputError for a study that does not say."""
    if not isinstance(study.data, OnDisk):
        raise InputError(
            f"study {study.name} does not say how many images it has: estimates are of studies "
            "with data on disk"
        )
    return study.data.counts(dataset)


def _count(study: Study, dataset: str, split: str) -> int:
    """Images of the "train", "validation" or "test" split."""
    return getattr(_counts(study, dataset), split)


def _work(study: Study, columns: Iterable[str]) -> Work:
    """What some columns of one run take; features and passes that they share count once."""
    chosen = {name: study.paradigms[name] for name in sorted(columns)}
    groups = [
        [paradigm.work(_counts(study, paradigm.dataset)) for paradigm in group.values()]
        for group in together(chosen)
    ]
    every = [work for group in groups for work in group]
    return Work(
        features=frozenset().union(*(work.features for work in every)),
        streamed=sum(max(work.streamed for work in group) for group in groups),
        trained=sum(work.trained for work in every),
        looked_at=sum(work.looked_at for work in every),
    )


def checkpoint_bytes(study: Study, base: str, *, optimizer: bool) -> int:
    """Size of a checkpoint of a base's method in float32, with an optimizer's momentum or not."""
    method = study.bases[base].method
    with torch.device("meta"):
        made = create_method(method.name, create_backbone(study.backbone, 3), **method.params)
    sizes = [
        value.numel() * value.element_size()
        for key, value in made.state_dict().items()
        if key not in made.run_state
    ]
    momentum = sum(p.numel() * p.element_size() for p in made.parameters())
    return sum(sizes) + optimizer * momentum


def _base_bytes(study: Study, base: str, keep_published: bool) -> int:
    """A base's own file, and the published one that it was converted from."""
    checkpoint = study.bases[base].checkpoint
    if not isinstance(checkpoint, ReleasedCheckpoint):
        return checkpoint_bytes(study, base, optimizer=False)
    converted = checkpoint_bytes(study, base, optimizer=checkpoint.format == "vicreg")
    # SimSiam's file has its optimizer's momentum too, which is not converted
    published = checkpoint_bytes(study, base, optimizer=checkpoint.format != "swav")
    return converted + (published if keep_published else 0)
