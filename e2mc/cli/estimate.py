"""What a study costs: GPU-hours and disk space of every row and stage, from rates on one GPU.

Nothing is run and nothing is guessed: the rates are measured ones, see ``e2mc.cli.measuring``, or
given by the user, and the estimate says which.
"""

from __future__ import annotations

import csv
import functools
import heapq
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from e2mc.checkpoints.entries import kept_of
from e2mc.errors import InputError
from e2mc.evaluation.paradigm import Counts, Paradigm, Work, together
from e2mc.methods import create_method
from e2mc.models import create_backbone
from e2mc.reporting import made, parts
from e2mc.reporting.part import Part
from e2mc.study import BASE_ARM, CountedData, ReleasedCheckpoint, Run, Study, load_stages

if TYPE_CHECKING:
    import pandas as pd

FEATURES, FINE_TUNING = "features", "fine-tuning"
RATES = Path("results/rates.csv")  # what was measured, for later calls
COLUMNS = ["what", "images_per_second", "device"]
GPUS = (1, 2, 4, 8)  # for which the time until everything is done is estimated


class MissingRateError(InputError):
    """A rate that an estimate needs and nobody has given."""


@dataclass(frozen=True)
class Rates:
    """Images per second of one GPU, end to end, decoding included.

    Attributes:
        images_per_second: method -> rate of its pre-training with all its views; "features" ->
            that of the frozen backbone on one view; "fine-tuning" -> that of training it on one
            view.
        origin: where the rates come from, for whoever reads the estimate.
        device: on which they were measured; empty where they were given.
    """

    images_per_second: Mapping[str, float]
    origin: str = "given, not measured"
    device: str = ""

    def __post_init__(self) -> None:
        for name, rate in self.images_per_second.items():
            if not rate > 0:
                raise InputError(f"the rate of {name} is {rate}, it must be positive")

    def hours(self, what: str, images: float) -> float:
        """How long so many images take; ValueError where the rate is not known."""
        if what not in self.images_per_second:
            known = ", ".join(self.images_per_second) or "none"
            raise MissingRateError(
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
    return Rates(rates, f"measured on {devices[0]}, {path}", devices[0])


@dataclass(frozen=True)
class Estimate:
    """What a study costs.

    Attributes:
        frame: one row per table, base and arm, and rows of sums, see ``estimate``.
        unknown: why some rows have no numbers, a sentence each.
    """

    frame: pd.DataFrame
    unknown: tuple[str, ...]


def estimate(
    study: Study, rates: Rates, *, keep: Sequence[str] = ("downloads", "continued")
) -> Estimate:
    """GPU-hours, disk space and wall time of every row of what a study makes, and of its stages.

    Solving SVMs, measuring separability and embeddings, and everything else that a GPU waits for is
    left out.

    Args:
        study: whose data are on disk, torchvision's or glyphs, so that it states the counts.
        rates: images per second on one GPU.
        keep: which checkpoints stay when their dependants are done, see ``Config.keep``.

    Returns:
        One row per table (or figure that needs runs of its own), base and arm with the number of
        "runs", the GPU-hours "pre-training", "frozen" (evaluations) and "fine-tuning" and their sum
        "GPU-hours", "disk GB" of the checkpoints that stay, all over the row's runs, and the hours
        until all is done on "1 GPU", "2 GPUs" and so on, each job on one. Then rows of sums, in
        which what several need counts once: "together", all that the target `all` makes; "sweep";
        "everything", all targets of the study; and "stage ...", what each stage adds to those
        before it.

    Raises:
        ValueError: when a rate is missing for what the target `all` makes, or the study does
            not state the counts of its images.
    """
    import pandas as pd

    prices = _Prices(study, rates, keep)
    known = {name: part for name, part in parts(study).items() if not part.lacking(study)}
    targets = made(study)
    rows, seen = [], _Wanted()
    for name, part in targets.items():
        wanted = _wanted(study, part)
        if not (name in study.tables or wanted - seen):
            continue
        for base, arm in wanted.rows():
            rows.append((name, base, arm, prices, wanted.of(base, arm)))
        seen |= wanted
    rows.append(("together", "", "", prices, seen.with_bases(study)))
    sums = {"sweep": [known["sweep"]]} if "sweep" in known else {}
    for name, several in (sums | {"everything": [*known.values()]}).items():
        wanted = _Wanted().union(_wanted(study, part) for part in several)
        rows.append((name, "", "", prices, wanted.with_bases(study)))
    before = _Wanted()
    for stage in load_stages(study):
        wanted = _Wanted().union(_wanted(stage, part) for part in made(stage).values())
        wanted = wanted.with_bases(stage)
        rows.append((f"stage {stage.name}", "", "", _Prices(stage, rates, keep), wanted - before))
        before |= wanted
    found, unknown = [], []
    for name, base, arm, of, wanted in rows:
        place = {"table": name, "base": base, "arm": arm, "runs": len(wanted.runs)}
        try:
            found.append(place | of.row(wanted))
        except MissingRateError as error:
            if base or name == "together":
                raise
            found.append(place)
            unknown.append(f"{name}: {error}")
    return Estimate(pd.DataFrame(found), tuple(unknown))


def price(study: Study, keep: Sequence[str], path: Path = RATES) -> str:
    """What all that a study makes costs, in a sentence; without measured rates how to learn it.

    Args:
        study: which states the counts of its images.
        keep: see ``estimate``.
        path: measured rates.
    """
    try:
        rates = read_rates(path)
        frame = estimate(study, rates, keep=keep).frame
    except (InputError, OSError):
        return f"`e2mc estimate --study {study.source}` measures what study {study.name} costs."
    [row] = frame[frame["table"] == "together"].to_dict(orient="records")
    cost = f"{row['GPU-hours']:,.0f} GPU-hours, {row['disk GB']:,.1f} GB of checkpoints"
    return f"Study {study.name} in all: {cost} ({rates.origin})."


@dataclass(frozen=True)
class _Wanted:
    """Models and their evaluations, in the order in which they are asked for.

    Attributes:
        runs: whose model is wanted.
        scored: (run, rule of its evaluation, evaluation seed); the seeds of a run and rule that are
            asked for together are one job, which makes all of its results.
    """

    runs: tuple[Run, ...] = ()
    scored: tuple[tuple[Run, str, int], ...] = ()

    def __or__(self, other: _Wanted) -> _Wanted:
        return self.union((other,))

    def __sub__(self, other: _Wanted) -> _Wanted:
        return _Wanted(
            tuple(run for run in self.runs if run not in other.runs),
            tuple(item for item in self.scored if item not in other.scored),
        )

    def __bool__(self) -> bool:
        return bool(self.runs or self.scored)

    def union(self, others: Iterable[_Wanted]) -> _Wanted:
        runs, scored = dict.fromkeys(self.runs), dict.fromkeys(self.scored)
        for other in others:
            runs |= dict.fromkeys(other.runs)
            scored |= dict.fromkeys(other.scored)
        return _Wanted(tuple(runs), tuple(scored))

    def jobs(self) -> Counter[tuple[Run, str]]:
        """(run, rule) -> under how many evaluation seeds."""
        return Counter((run, rule) for run, rule, _ in self.scored)

    def rows(self) -> list[tuple[str, str]]:
        """The bases with their arms."""
        return list(dict.fromkeys((run.base, run.arm) for run in self.runs))

    def of(self, base: str, arm: str) -> _Wanted:
        return _Wanted(
            tuple(run for run in self.runs if (run.base, run.arm) == (base, arm)),
            tuple(item for item in self.scored if (item[0].base, item[0].arm) == (base, arm)),
        )

    def with_bases(self, study: Study) -> _Wanted:
        """With the bases that the runs go on from, where they are trained from random weights."""
        bases = [Run(run.base, BASE_ARM, run.base_seed, None) for run in self.runs]
        own = [base for base in bases if study.bases[base.base].trained_for(base.base_seed)]
        return self.union((_Wanted(tuple(own)),))


def _wanted(study: Study, part: Part) -> _Wanted:
    """The models and evaluations behind the files that a table or figure reads."""
    jobs = {
        name: job
        for job, names in study.evaluation_jobs().items()
        for name in names
        if name in study.paradigms  # the others are measurements of minutes
    }
    runs: dict[Run, None] = {}
    scored: dict[tuple[Run, str, int], None] = {}
    for path in part.inputs(study):
        kind, base, *arm, seeds, file = path.relative_to(study.root).parts
        run = Run.parse(base, arm[0] if arm else BASE_ARM, seeds)
        runs[run] = None
        name, _, suffix = file.partition(".")
        if kind == "evaluations" and suffix == "json" and name in jobs:
            scored |= {(run, jobs[name], seed): None for seed in study.evaluation_seeds(run)}
    return _Wanted(tuple(runs), tuple(scored))


@dataclass(frozen=True)
class _Cost:
    """Of one model or one evaluation: hours on one GPU, and bytes that stay."""

    training: float = 0.0
    frozen: float = 0.0
    fine_tuning: float = 0.0
    disk: int = 0

    @property
    def hours(self) -> float:
        return self.training + self.frozen + self.fine_tuning


class _Prices:
    """What the models and evaluations of a study cost, each worked out once."""

    def __init__(self, study: Study, rates: Rates, keep: Sequence[str]) -> None:
        self.study, self.rates, self.keep = study, rates, keep
        self.bytes = functools.cache(functools.partial(checkpoint_bytes, study))
        self.scoring = functools.cache(self._scoring)

    def row(self, wanted: _Wanted) -> dict[str, float]:
        """The numbers of a row."""
        models = {run: self._model(run) for run in wanted.runs}
        scores = {
            (run, job): self.scoring(run.base, run.arm, job, seeds)
            for (run, job), seeds in wanted.jobs().items()
        }
        costs = [*models.values(), *scores.values()]
        chains: dict[Hashable, tuple[float, Hashable]] = {}
        for run, cost in models.items():
            chains[run] = cost.hours, Run(run.base, BASE_ARM, run.base_seed, None)
        for job, cost in scores.items():
            chains[job] = cost.hours, job[0]
        return {
            "pre-training": sum(cost.training for cost in costs),
            "frozen": sum(cost.frozen for cost in costs),
            "fine-tuning": sum(cost.fine_tuning for cost in costs),
            "GPU-hours": sum(cost.hours for cost in costs),
            "disk GB": sum(cost.disk for cost in costs) / 1e9,
        } | {gpus_text(count): wall_hours(chains, count) for count in GPUS}

    def _model(self, run: Run) -> _Cost:
        """Training it, unless it is there, and keeping it."""
        study, is_base = self.study, run.arm == BASE_ARM
        if is_base and not study.bases[run.base].trained_for(run.base_seed):
            return _Cost(disk=self._published_bytes(run.base))
        spec = study.training_spec(run)
        images = study.training_images(run) or study.data.training_count
        shown = spec.steps * spec.batch_size if spec.steps else (spec.epochs or 0) * images
        hours = self.rates.hours(spec.method.name, shown)
        stays = is_base or "continued" in self.keep
        disk = self.bytes(run.base, spec.keep_optimizer) if stays else 0
        return _Cost(training=hours, disk=disk)

    def _published_bytes(self, base: str) -> int:
        """A base's own file, and the published one that it was converted from."""
        checkpoint = self.study.bases[base].checkpoint
        if not isinstance(checkpoint, ReleasedCheckpoint):
            return self.bytes(base, False)
        converted = self.bytes(base, checkpoint.format == "vicreg")
        # SimSiam's file has its optimizer's momentum too, which is not converted
        published = self.bytes(base, checkpoint.format != "swav")
        return converted + (published if "downloads" in self.keep else 0)

    def _scoring(self, base: str, arm: str, job: str, seeds: int) -> _Cost:
        """One job of an evaluation, with all of its results under so many evaluation seeds."""
        names = self.study.evaluation_jobs()[job]
        paradigms = {name: self.study.paradigm(name, base, arm) for name in names}
        work = _work(self.study, paradigms)
        # fresh views are each seed's own
        streamed = work.banked + seeds * (work.streamed - work.banked)
        frozen = streamed + sum(
            getattr(_counts(self.study, dataset), split) for dataset, split, _ in work.features
        )
        fine_tuning = 0.0
        if work.trained:
            fine_tuning = self.rates.hours(FINE_TUNING, seeds * work.trained)
            fine_tuning += self.rates.hours(FEATURES, seeds * work.looked_at)
        return _Cost(
            frozen=self.rates.hours(FEATURES, frozen) if frozen else 0.0, fine_tuning=fine_tuning
        )


def gpus_text(count: int) -> str:
    """The column of the hours on so many GPUs."""
    return "1 GPU" if count == 1 else f"{count} GPUs"


def wall_hours(jobs: Mapping[Hashable, tuple[float, Hashable]], gpus: int) -> float:
    """Hours until all jobs are done, each on one GPU and begun when what it needs is done.

    Whenever a GPU is free it takes the job that begins the longest chain.

    Args:
        jobs: job -> its hours, and the job that it needs; one that is not among them, or the job
            itself, is none.
        gpus: how many there are.
    """
    after: dict[Hashable, list[Hashable]] = {}
    begin = []
    for job, (_, needed) in jobs.items():
        if needed in jobs and needed != job:
            after.setdefault(needed, []).append(job)
        else:
            begin.append(job)

    @functools.cache
    def chain(job: Hashable) -> float:
        return jobs[job][0] + max(map(chain, after.get(job, ())), default=0.0)

    number = {job: i for i, job in enumerate(jobs)}
    ready = [(-chain(job), number[job], job) for job in begin]
    heapq.heapify(ready)
    running: list[tuple[float, int, Hashable]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < gpus:
            _, i, job = heapq.heappop(ready)
            heapq.heappush(running, (now + jobs[job][0], i, job))
        now, _, done = heapq.heappop(running)
        for job in after.get(done, ()):
            heapq.heappush(ready, (-chain(job), number[job], job))
    return now


def _counts(study: Study, dataset: str) -> Counts:
    """How many images there are; InputError for a study that does not say."""
    return counted_data(study).counts(dataset)


def counted_data(study: Study) -> CountedData:
    """The data of a study; InputError where they do not say how many images there are."""
    if not isinstance(study.data, CountedData):
        raise InputError(
            f"study {study.name} does not say how many images it has: estimates are of studies "
            "with data on disk, of torchvision or glyphs"
        )
    return study.data


def _work(study: Study, paradigms: Mapping[str, Paradigm]) -> Work:
    """What the paradigms of one job take; features and passes that they share count once."""
    groups = [
        [paradigm.work(_counts(study, paradigm.dataset)) for paradigm in group.values()]
        for group in together(paradigms)
    ]
    every = [work for group in groups for work in group]
    return Work(
        features=frozenset().union(*(work.features for work in every)),
        streamed=sum(max(work.streamed for work in group) for group in groups),
        banked=sum(max(work.banked for work in group) for group in groups),
        trained=sum(work.trained for work in every),
        looked_at=sum(work.looked_at for work in every),
    )


def checkpoint_bytes(study: Study, base: str, optimizer: bool) -> int:
    """Size of a checkpoint of a base's method in float32, with an optimizer's momentum or not."""
    method = study.bases[base].method
    with torch.device("meta"):
        made = create_method(
            method.name, create_backbone(study.backbone, study.data.channels), **method.params
        )
    sizes = [value.numel() * value.element_size() for value in kept_of(made).values()]
    momentum = sum(p.numel() * p.element_size() for p in made.parameters())
    return sum(sizes) + optimizer * momentum
