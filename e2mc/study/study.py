"""Which bases, arms, seeds, paradigms and tables, and the paths of data, checkpoints and results.

The rules of the workflow make those of tables, figures and logs.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, PrivateAttr, model_validator

from e2mc.criteria import CRITERIA, create_criterion
from e2mc.errors import InputError, expect_known
from e2mc.evaluation.embeddings import Embeddings
from e2mc.evaluation.frozen import FrozenPass
from e2mc.evaluation.information import Information
from e2mc.evaluation.paradigm import Column, Paradigm
from e2mc.evaluation.separability import Separability
from e2mc.methods import METHODS
from e2mc.models import check_backbone, feature_dim, model_normalisation
from e2mc.study.arguments import (
    checked_arguments,
    expect_buildable,
    has_heads,
    normalises_batches,
)
from e2mc.study.parts import (
    AnyColumn,
    Arm,
    BackboneName,
    BankComparison,
    Base,
    Convergence,
    CountedData,
    Data,
    HeadRates,
    Informed,
    Measured,
    Model,
    Name,
    Rows,
    Seeds,
    Stability,
    Sweep,
    Table,
    backbone_name,
    check_channels,
)
from e2mc.training.batches import expect_warmup_ends, smallest_part
from e2mc.training.spec import Component, Recipe, TrainingSpec

BASE_ARM = "base"
Measurement = Literal["separability", "embeddings"]


@dataclass(frozen=True)
class Run:
    """One checkpoint: an arm of a base with its seeds."""

    base: str
    arm: str
    base_seed: int
    continuation_seed: int | None

    @property
    def seeds(self) -> str:
        """``base0`` for the base itself, ``base0-cont1`` for a continued run."""
        if self.continuation_seed is None:
            return f"base{self.base_seed}"
        return f"base{self.base_seed}-cont{self.continuation_seed}"

    def names(self) -> dict[str, str]:
        """What ``parse`` makes the run of again; the wildcards of a path."""
        return {"base": self.base, "arm": self.arm, "seeds": self.seeds}

    @classmethod
    def parse(cls, base: str, arm: str, seeds: str) -> Run:
        """The run of the wildcards {base}, {arm} and {seeds} of a path."""
        base_seed, _, continuation_seed = seeds.removeprefix("base").partition("-cont")
        return cls(base, arm, int(base_seed), int(continuation_seed) if continuation_seed else None)


def _normalisation_of(backbone: Any) -> dict[str, Any]:
    """Mean and deviation for a backbone's published weights, as a study writes them."""
    name = backbone_name(backbone)
    found = model_normalisation(name) if isinstance(name, str) else None
    if found is None:
        raise InputError(
            f"data.normalisation is missing, and backbone {name!r} has none of its own: give mean "
            "and std"
        )
    mean, std, _ = found
    return {"mean": mean, "std": std}


def data_folder(results: str) -> Path:
    """Where a study of a folder in results/ prepares, unpacks and downloads its images."""
    return Path("results") / results / "data"


class Study(Model):
    """Everything that is run, and how it is shown. See studies/ for examples."""

    name: Name
    title: str
    results: Name | None = Field(
        None,
        description="folder in results/ that it shares with other studies, whose checkpoints and "
        "scores it then uses; null: one of its own name",
    )
    stages: tuple[Name, ...] = Field(
        (), description="studies that share the folder, in the order in which they are to be run"
    )
    targets: tuple[str, ...] | None = Field(
        None,
        description="tables and figures that `all` makes; null: table1, table2 and what shows "
        "their results",
    )
    templates: dict[str, Any] = Field({}, description="a place for YAML anchors; not read")
    data: Data
    backbone: BackboneName
    bases: dict[Name, Base]
    arms: dict[Name, Arm]
    seeds: Seeds = Seeds()
    paradigms: dict[Name, AnyColumn]
    separability: Measured
    measurements: tuple[Measurement, ...] = Field(
        ("separability", "embeddings"), description="what is measured of these arms"
    )
    tables: dict[Name, Table] = Field(description="table1 and table2 are part of `all`")
    extended: bool = Field(
        True,
        description="whether cells are made that the paper's tables leave blank; false: only its "
        "own, and what their differences need",
    )
    one_job: bool = Field(
        False,
        description="whether one job scores and measures a checkpoint, all but fine-tuning: where "
        "all of it is wanted of every one",
    )
    frozen_pass: FrozenPass = Field(
        FrozenPass(), description="how images pass a backbone that does not learn"
    )
    reported_epoch: Literal["last", "best"] = Field(
        "last", description="whose score the tables show; the papers show the best epoch's"
    )
    sweep: Sweep | None = None
    rates: HeadRates | None = None
    convergence: Convergence | None = None
    views_bank: BankComparison | None = None
    information: Informed | None = None
    stability: Stability | None = None

    _source: str = PrivateAttr("")

    @property
    def source(self) -> str:
        """What ``load_study`` reads it from again."""
        return self._source or self.name

    @model_validator(mode="before")
    @classmethod
    def _normalises_as_the_model_does(cls, content: Any) -> Any:
        """Fills in the mean and deviation that are left out for images that are not grey."""
        data = content.get("data") if isinstance(content, dict) else None
        if not isinstance(data, dict) or data.get("dataset") not in ("on-disk", "torchvision"):
            return content
        said = data.get("normalisation")
        if said is None:
            said = _normalisation_of(content.get("backbone"))
        changed = {"normalisation": said}
        for key in ("sets", "transfer"):
            if isinstance(data.get(key), dict):
                changed[key] = {
                    name: {"normalisation": said, **item} if isinstance(item, dict) else item
                    for name, item in data[key].items()
                }
        return content | {"data": data | changed}

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        for where, rows, columns in self._named():
            for row in rows:
                expect_known(row.base, self.bases, f"{where}: base")
                for arm in row.arms:
                    if arm != BASE_ARM:
                        expect_known(arm, self.arms, f"{where}: arm")
            for column in columns:
                expect_known(column, self.paradigms, f"{where}: paradigm")
        for where, bases in self._named_bases():
            for base in bases:
                expect_known(base, self.bases, f"{where}: base")
                if self.bases[base].pretraining is None:
                    raise InputError(f"{where}: {base} has no pretraining to show")
        if self.stability is not None:
            expect_known(self.stability.column, self.paradigms, "stability.column: paradigm")
        if "continued" not in self.arms:
            raise InputError("arms: 'continued' is missing, every criterion is compared with it")
        for name, item in self.arms.items():
            if name == BASE_ARM:
                raise InputError("arms: 'base' is the base itself and cannot be defined")
            expect_known(item.reference, (BASE_ARM, *self.arms), f"arms.{name}.reference: arm")
            if item.variant_of is not None:
                expect_known(item.variant_of, self.arms, f"arms.{name}.variant_of: arm")
            for base in itertools.chain(item.base_params, *(c.base_params for c in item.criteria)):
                expect_known(base, self.bases, f"arms.{name}.base_params: base")
        for name in self.arms:
            self._refuse_circle(name)
        self._expect_references("sweep", self.sweep_rows())
        if self.rates is not None:
            self._expect_references("rates", self.rates.rows)
        return self

    def _without_labels(self, dataset: str) -> bool:
        return self.data.counts(dataset).classes == 1

    def _expect_references(self, where: str, rows: Iterable[Rows]) -> None:
        """Every arm has what its gain is over."""
        compared: dict[str, set[str]] = {}
        for row in rows:
            compared.setdefault(row.base, {BASE_ARM}).update(row.arms)
        for base, arms in compared.items():
            for arm in sorted(arms - {BASE_ARM}):
                reference = self.arms[arm].reference
                if reference not in arms and reference != arm:
                    raise InputError(
                        f"{where}: {arm} is compared with {reference}, which is not among the arms "
                        f"of {base}: add it to them, or give {arm} another reference"
                    )

    def _refuse_circle(self, arm: str) -> None:
        chain, origin = [arm], self.arms[arm].variant_of
        while origin is not None:
            chain.append(origin)
            if origin in chain[:-1]:
                raise InputError(
                    f"arms.{arm}.variant_of: {' is a variant of '.join(chain)}: give one of them a "
                    "criterion of its own instead"
                )
            origin = self.arms[origin].variant_of

    @model_validator(mode="after")
    def _data_exist(self) -> Study:
        for name, base in self.bases.items():
            if base.normalisation is not None:
                where = f"bases.{name}.normalisation"
                check_channels(base.normalisation, self.data, where)
        for name, paradigm in self.paradigms.items():
            where = f"paradigms.{name}"
            expect_known(paradigm.dataset, self.data.names, f"{where}.dataset: data set")
            if self._without_labels(paradigm.dataset):
                raise InputError(
                    f"{where}.dataset: the images of {paradigm.dataset} have no labels, which kind "
                    f"{paradigm.kind} needs: leave the paradigm out, or name a data set with labels"
                )
            for base_name in paradigm.base_protocol:
                expect_known(base_name, self.bases, f"{where}.base_protocol: base")
            of_bases = {
                f"{where}.base_protocol.{base_name}: ": self._column(name, base_name)
                for base_name in paradigm.base_protocol
            }
            for key, column in ({f"{where}.": paradigm} | of_bases).items():
                try:
                    column.check(self.data.counts(paradigm.dataset))
                except InputError as error:
                    raise InputError(f"{key}{error}") from error
        return self

    @model_validator(mode="after")
    def _rates_are_of_heads(self) -> Study:
        for name in self.rates.columns if self.rates is not None else ():
            try:
                self.paradigms[name].with_rates()
            except InputError as error:
                raise InputError(f"rates.columns: {name}: {error}") from error
        return self

    @model_validator(mode="after")
    def _can_be_built(self) -> Study:
        """Every criterion and every window fits, so that nothing fails hours later."""
        check_backbone(self.backbone, *self._sizes(), len(self.data.normalisation.mean))
        for name, base in self.bases.items():
            self._check_method(self.method(name), f"bases.{name}.method")
            if base.pretraining is not None:
                method = self._method(Run(name, BASE_ARM, 0, None))
                self._check_method(method, f"bases.{name}.pretraining.method_params")
            if base.converted and self.seeds.base != (0,):
                raise InputError(
                    f"seeds.base is {self.seeds.base}, but bases.{name} is one file: set it to [0]"
                )
        for name in self.stability.ema if self.stability is not None else ():
            if self.momentum(name) is None:
                raise InputError(f"stability.ema: {name} has no target network to follow it")
        for name, arm in itertools.product(self.bases, self.arms):
            where = f"arms.{arm} (on {name})"
            try:
                spec = self.training_spec(Run(name, arm, 0, 0))
                expect_buildable(spec.method)
                if spec.head_warmup_epochs and not has_heads(spec.method):
                    raise InputError(
                        f"head_warmup_epochs is {spec.head_warmup_epochs}, but method "
                        f"{spec.method.name} has no heads: leave it out"
                    )
                for criterion in spec.criteria:
                    create_criterion(criterion.name, **criterion.params)
            except InputError as error:
                message = str(error)
                raise InputError(
                    message if message.startswith(("arms.", "bases.")) else f"{where}: {message}"
                ) from error
            for criterion in spec.criteria:
                window = criterion.params.get("window")
                images = self.bases[name].continued.images or self.data.training_count
                smallest = smallest_part(spec, images)
                if window is not None and window >= smallest:
                    raise InputError(
                        f"{where}: a window of {window} needs batches of at least {window + 1} "
                        f"images, the smallest part of a batch has {smallest}"
                    )
        return self

    @model_validator(mode="after")
    def _has_images_for_every_training(self) -> Study:
        """Of the bases and arms that are shown; a study may inherit others that it cannot run."""
        rows = [row for _, several, _ in self._named() for row in several]
        runs = {(row.base, arm) for row in rows for arm in row.arms if arm != BASE_ARM}
        bases = {row.base for row in rows}.union(*(names for _, names in self._named_bases()))
        trained = {
            (base, BASE_ARM)
            for base in bases
            if any(self.bases[base].trained_for(seed) for seed in self.seeds.base)
        }
        for base, arm in sorted(runs | trained):
            self._check_images(Run(base, arm, 0, None if arm == BASE_ARM else 0))
        return self

    @model_validator(mode="after")
    def _curves_are_over_epochs(self) -> Study:
        for row in self.convergence_rows():
            for arm in row.arms:
                self.epochs_of(row.base, arm)
        return self

    def _check_images(self, run: Run) -> None:
        """Raises InputError where a training finds fewer images than it takes."""
        spec, wanted = self.training_spec(run), self.training_images(run)
        count = self.data.training_count
        stage = "pretraining" if run.arm == BASE_ARM else "continued"
        recipe = f"bases.{run.base}.{stage}"
        where = recipe if run.arm == BASE_ARM else f"{recipe} (arm {run.arm})"
        if wanted is not None and wanted > count:
            raise InputError(
                f"{recipe}.images: {wanted} images are wanted, there are {count} to train on: "
                "lower it"
            )
        labelled = self.data.counts("images")
        if wanted is not None and (labelled.several_labels or count != labelled.train):
            what = "with several labels each" if labelled.several_labels else "without labels"
            raise InputError(
                f"{recipe}.images: a share of images {what} cannot be drawn by class: leave it out"
            )
        images = wanted or count
        if spec.drop_last and images < spec.batch_size:
            raise InputError(
                f"{where}: {images} images do not fill one batch of {spec.batch_size}: lower "
                "batch_size, or set drop_last: false"
            )
        try:
            expect_warmup_ends(spec, images)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        alone = smallest_part(spec, images) < 2
        if alone and (spec.criteria or normalises_batches(spec.method)):
            raise InputError(
                f"{where}: the smallest part of a batch has 1 image, and cannot be normalised or "
                "spread out: change batch_size or micro_batches, or set drop_last: true"
            )

    @staticmethod
    def _check_method(method: Component, where: str) -> None:
        try:
            expect_buildable(method)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    def _sizes(self) -> tuple[set[int], set[int]]:
        """Sides of the images that the backbone takes, and of those whose map is needed."""
        whole = {view.size for base in self.bases.values() for view in base.views}
        maps: set[int] = set()
        for paradigm in self.paradigms.values():
            for side, spatial in paradigm.sides(self.data.view_of(paradigm.dataset).size):
                (maps if spatial else whole).add(side)
        return whole | maps, maps

    def _named(self) -> Iterator[tuple[str, tuple[Rows, ...], tuple[str, ...]]]:
        for name, table in self.tables.items():
            yield f"tables.{name}", table.rows, table.columns
        shown = Rows(base=self.separability.base, arms=self.separability.arms)
        yield "separability", (shown,), ()
        if self.sweep is not None:
            yield "sweep", self.sweep.rows, self.sweep.columns
            if self.sweep.rates is not None:
                yield "sweep.rates", self.sweep.rates.rows, ()
        if self.rates is not None:
            yield "rates", self.rates.rows, self.rates.columns
        if self.convergence is not None:
            yield "convergence", self.convergence_rows(), self.convergence.columns
        if self.views_bank is not None:
            compared = self.views_bank
            columns = tuple(itertools.chain.from_iterable(compared.columns))
            yield "views_bank", (Rows(base=compared.base, arms=(compared.arm,)),), columns

    def _named_bases(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        if self.information is not None:
            yield "information.bases", self.information.bases
        if self.stability is not None:
            yield "stability.batch_size", self.stability.batch_size
            yield "stability.ema", self.stability.ema

    # --- what is run ---

    def runs(self, rows: Iterable[Rows], seeds: tuple[int, ...] | None = None) -> list[Run]:
        """The runs of some rows, with every seed of the study or with ``seeds``."""
        found = []
        for row in rows:
            for arm in row.arms:
                for base_seed in self.seeds.base:
                    for seed in self.continuation_seeds(arm) if seeds is None else seeds:
                        found.append(
                            Run(row.base, arm, base_seed, None if arm == BASE_ARM else seed)
                        )
        return list(dict.fromkeys(found))

    def continuation_seeds(self, arm: str) -> tuple[int | None, ...]:
        """Seeds with which an arm is trained on; a single None for the base, which is not."""
        return (None,) if arm == BASE_ARM else self.seeds.continuation

    def evaluation_seeds(self, run: Run) -> tuple[int, ...]:
        """Under which seeds a run is evaluated: a base under all, a continued run under its own."""
        every = self.seeds.evaluation
        if run.arm == BASE_ARM:
            return every
        return (run.continuation_seed,) if run.continuation_seed in every else every[:1]

    def paradigm(self, name: str, base: str, arm: str = BASE_ARM) -> Paradigm:
        """A column of the study as it scores an arm of a base, or what every study measures.

        A column has the base's protocol, and heads of several rates where ``rates`` asks for them.
        """
        if name in self.paradigms:
            column = self._column(name, base)
            return column.with_rates() if self._asks_for_rates(name, base, arm) else column
        measured: dict[str, Paradigm] = {
            "separability": Separability(
                functools.partial(feature_dim, self.backbone, self.data.channels)
            ),
            "embeddings": Embeddings(
                batch_size=self.bases[base].continued.batch_size,
                mapping=self.entropy_mapping(base),
                criteria=self._measured_criteria(base),
            ),
            "information": self.instrument,
        }
        expect_known(name, (*self.paradigms, *measured), "paradigm")
        return measured[name]

    def _asks_for_rates(self, name: str, base: str, arm: str) -> bool:
        shown = self.rates
        if shown is None or name not in shown.columns:
            return False
        return any(row.base == base and arm in row.arms for row in shown.rows)

    def _column(self, name: str, base: str) -> Column:
        column = self.paradigms[name]
        changes = column.base_protocol.get(base)
        if changes is None:
            return column
        where = f"paradigms.{name}.base_protocol.{base}"
        if column.protocol is None:
            raise InputError(f"{where}: kind {column.kind} has no protocol to change: leave it out")
        checked = checked_arguments(type(column.protocol), changes, where)
        try:
            return column.with_protocol(checked)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    def evaluation_jobs(self) -> dict[str, tuple[str, ...]]:
        """Which paradigms one job scores: name of its rule -> paradigms.

        Those of Fashion-MNIST take seconds each: one job scores on the images of pre-training and
        measures, another, if any, fine-tunes and scores on other data sets, which tables want or
        leave out together. Of other data those that learn from the same passes over fresh views
        have a job of their own, and the others of each data set: a study that asks for some of
        them makes no others, and studies with one folder have the same jobs. With ``one_job`` a
        single one makes them, and the measurements.
        """
        jobs: dict[str, tuple[str, ...]] = {}
        passes: dict[Hashable, str] = {}
        left_out = self.left_out
        in_memory = not isinstance(self.data, CountedData)
        together = self.one_job or in_memory
        tuned = any(paradigm.job == "evaluate_fine_tuned" for paradigm in self.paradigms.values())
        two_jobs = in_memory and tuned and not self.one_job
        for name, paradigm in self.paradigms.items():
            rule = paradigm.job
            if two_jobs and not (rule == "evaluate_frozen" and paradigm.dataset == "images"):
                rule = "evaluate_fine_tuned_and_transfer"
            elif rule == "evaluate_frozen" and not together:
                own = paradigm.dataset
                if paradigm.work(self.data.counts(paradigm.dataset)).streamed:
                    own = passes.setdefault((paradigm.kind, paradigm.pass_key(name)), name)
                rule = f"{rule}_{own}"
            jobs[rule] = (*jobs.get(rule, ()), name)
        measured = tuple(name for name in self.measurements if name not in left_out)
        if measured:
            rule = "evaluate_frozen" if together else "measure"
            jobs[rule] = (*jobs.get(rule, ()), *measured)
        return jobs | {"measure_information": ("information",)}

    @functools.cached_property
    def left_out(self) -> dict[str, str]:
        """Measurements that are not made: name -> why not."""
        reasons = {name: self._reason_against(name) for name in get_args(Measurement)}
        return {
            name: f"study {self.name} leaves {name} out: {reason}"
            for name, reason in reasons.items()
            if reason
        }

    def _reason_against(self, measurement: str) -> str:
        """Why a measurement is not made; empty where it is."""
        if measurement not in self.measurements:
            return "it is not among its measurements"
        if measurement == "separability" and self._without_labels("images"):
            return "its images have no labels"
        try:
            self.paradigm(measurement, self.separability.base).check(self.data.counts("images"))
        except InputError as error:
            return str(error)
        return ""

    @property
    def main_tables(self) -> list[str]:
        """The tables that ``all`` makes."""
        wanted = ("table1", "table2") if self.targets is None else self.targets
        return [name for name in wanted if name in self.tables]

    def continued_runs(self) -> list[Run]:
        """Every continued run of the main tables."""
        return [run for run in self.main_runs() if run.arm != BASE_ARM]

    def main_runs(self) -> list[Run]:
        """Every run of the main tables, bases among them."""
        return self.runs(self._main_rows())

    def _main_rows(self) -> list[Rows]:
        return [row for name in self.main_tables for row in self.tables[name].rows]

    def separability_runs(self) -> list[Run]:
        """The runs whose separability is drawn."""
        return self.runs([Rows(base=self.separability.base, arms=self.separability.arms)])

    def convergence_rows(self) -> tuple[Rows, ...]:
        """The runs behind the curves; each begins at the base."""
        if self.convergence is None:
            return ()
        arms = dict.fromkeys(itertools.chain((BASE_ARM,), *self.convergence.curves))
        return (Rows(base=self.convergence.base, arms=tuple(arms)),)

    def epochs_of(self, base: str, arm: str) -> int:
        """Epochs of continued pre-training; 0 for the base itself.

        Raises InputError for a run whose length is in steps.
        """
        if arm == BASE_ARM:
            return 0
        spec = self.training_spec(Run(base, arm, 0, 0))
        if spec.epochs is None:
            raise InputError(
                f"convergence: arm {arm} of base {base} goes on for {spec.steps} steps, but its "
                "curve is drawn over epochs: give it epochs, or leave it out"
            )
        return spec.epochs

    def sweep_rows(self) -> tuple[Rows, ...]:
        """Every candidate of the sweep: those of its rates, and those of its weights."""
        if self.sweep is None:
            return ()
        return (() if self.sweep.rates is None else self.sweep.rates.rows) + self.sweep.rows

    @property
    def instrument(self) -> Information:
        """What measures entropy and reconstruction; the default one where the study has none."""
        return Information() if self.information is None else self.information.instrument

    def information_runs(self) -> list[Run]:
        """The pre-training runs whose measurements the figure shows."""
        if self.information is None:
            return []
        return self.runs(Rows(base=base, arms=(BASE_ARM,)) for base in self.information.bases)

    def stability_runs(self) -> list[Run]:
        """The bases that differ in batch size or momentum."""
        if self.stability is None:
            return []
        bases = dict.fromkeys(self.stability.batch_size + self.stability.ema)
        return self.runs(Rows(base=base, arms=(BASE_ARM,)) for base in bases)

    def arm_label(self, arm: str) -> str:
        """How tables and figures call an arm."""
        return "base" if arm == BASE_ARM else self.arms[arm].label

    def training_spec(self, run: Run) -> TrainingSpec:
        """What produces the checkpoint of a run: from random weights, or from its base."""
        base = self.bases[run.base]
        recipe = base.pretraining if run.arm == BASE_ARM else base.continued
        if recipe is None:
            raise InputError(
                f"bases.{run.base} has no pretraining recipe and cannot be made from random weights"
            )
        changes: dict[str, Any] = {"epochs": recipe.epochs, "steps": recipe.steps}
        if run.arm != BASE_ARM:
            arm = self.arms[run.arm]
            if arm.epochs is not None or arm.steps is not None:
                changes = {"epochs": arm.epochs, "steps": arm.steps}
            if arm.batch_size is not None:
                changes["batch_size"] = arm.batch_size
            lr = arm.lr_factor * (arm.lr or recipe.optimizer.lr)
            if lr != recipe.optimizer.lr:
                changes["optimizer"] = dataclasses.replace(recipe.optimizer, lr=lr)
        of_recipe = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(Recipe)}
        return TrainingSpec(
            backbone=self.backbone,
            method=self._method(run),
            views=base.views,
            normalisation=base.normalisation or self.data.normalisation,
            criteria=self._criteria(run),
            seed=run.base_seed if run.continuation_seed is None else run.continuation_seed,
            **of_recipe | changes,
        )

    def entropy_mapping(self, base: str) -> str:
        """The map of the first arm with E2MC, under which all arms of a base are measured."""
        for arm in self.arms:
            for criterion in self._criteria(Run(base, arm, 0, 0)):
                if criterion.name == "e2mc":
                    return criterion.params.get("mapping", "normal")
        return "normal"

    def _measured_criteria(self, base: str) -> dict[str, dict[str, Any]]:
        """The criteria of a base's arms in the main tables and the sweep, without their weights.

        Weights scale terms, which are measured before; where arms differ otherwise, as the first.
        """
        rows = (*self._main_rows(), *self.sweep_rows())
        arms = dict.fromkeys(arm for row in rows if row.base == base for arm in row.arms)
        found: dict[str, dict[str, Any]] = {}
        for arm in arms:
            for criterion in self._criteria(Run(base, arm, 0, 0)):
                params = {k: v for k, v in criterion.params.items() if not k.endswith("weight")}
                found.setdefault(criterion.name, params)
        return found

    def momentum(self, base: str) -> float | None:
        """The momentum of the target network at the start of a base's pre-training, if any."""
        spec = self.training_spec(Run(base, BASE_ARM, 0, None))
        parameter = inspect.signature(METHODS[spec.method.name]).parameters.get("ema")
        return None if parameter is None else spec.method.params.get("ema", parameter.default)

    def training_images(self, run: Run) -> int | None:
        """How many training images a run sees; None for all."""
        base = self.bases[run.base]
        recipe = base.pretraining if run.arm == BASE_ARM else base.continued
        return None if recipe is None else recipe.images

    def criterion_names(self, arm: str) -> tuple[str, ...]:
        """The criteria of an arm, or of what it is a variant of; the base has none."""
        # on which base makes no difference
        return tuple(c.name for c in self._criteria(Run(next(iter(self.bases)), arm, 0, 0)))

    def method(self, base: str) -> Component:
        """The method that made a base."""
        where, method = f"bases.{base}.method", self.bases[base].method
        expect_known(method.name, METHODS, f"{where}.name")
        return Component(
            method.name, checked_arguments(METHODS[method.name], method.params, f"{where}.params")
        )

    def _method(self, run: Run) -> Component:
        """The method of a run, with what its recipe and its arm change."""
        method, base = self.method(run.base), self.bases[run.base]
        stage = "pretraining" if run.arm == BASE_ARM else "continued"
        recipe = getattr(base, stage)
        changes = {f"bases.{run.base}.{stage}.method_params": recipe.method_params}
        if run.arm != BASE_ARM:
            where = f"arms.{run.arm}.method_params (on {run.base})"
            changes[where] = self.arms[run.arm].method_params
        for where, change in changes.items():
            checked = checked_arguments(METHODS[method.name], change, where)
            method = Component(method.name, method.params | checked)
        return method

    def _lineage(self, arm: str) -> list[Arm]:
        """An arm, what it is a variant of, and so on."""
        chain = [self.arms[arm]]
        while chain[-1].variant_of is not None:
            chain.append(self.arms[chain[-1].variant_of])
        return chain

    def _criteria(self, run: Run) -> tuple[Component, ...]:
        """The criteria of a run, with all that its arm and those before it say of them."""
        params: dict[str, dict[str, Any]] = {}
        for link in reversed(self._lineage(run.arm) if run.arm != BASE_ARM else []):
            try:
                changes = link.changes(tuple(params))
            except InputError as error:
                raise InputError(f"arms.{run.arm}: {error}") from error
            for change in changes:
                of_base = change.base_params.get(run.base, {})
                params[change.name] = params.get(change.name, {}) | change.params | of_base
        where = f"arms.{run.arm} (on {run.base})"
        for name in params:
            expect_known(name, CRITERIA, f"{where}: criterion")
        return tuple(
            Component(name, checked_arguments(CRITERIA[name], given, where))
            for name, given in params.items()
        )

    # --- where it is; the parts of a run may also be the wildcards of a rule ---

    @property
    def folder(self) -> str:
        """Its folder in results/, by which its results are told from those of other studies."""
        return self.results or self.name

    @property
    def root(self) -> Path:
        """The folder of everything that the study makes."""
        return Path("results") / self.folder

    def dataset_path(self, dataset: str) -> Path:
        """The prepared images of a data set; ``dataset`` may be a wildcard."""
        return data_folder(self.folder) / f"{dataset}.pt"

    def download_path(self, base: str) -> Path:
        """Where a released checkpoint is kept as published; ``base`` may be a wildcard."""
        return self.root / "bases" / base / "released.pth"

    def converted_path(self, base: str) -> Path:
        """A released checkpoint or one of one's own in our format; ``base`` may be a wildcard."""
        return self.root / "bases" / base / "converted.pt"

    def trained_path(self, run: Run) -> Path:
        """The checkpoint that a run's training writes: a base's, or a continued one."""
        if run.arm == BASE_ARM:
            return self.root / "bases" / run.base / run.seeds / "checkpoint.pt"
        return self.root / "continued" / run.base / run.arm / run.seeds / "checkpoint.pt"

    def log_path(self, run: Run) -> Path:
        """Every term of a run's loss, step by step."""
        return self.trained_path(run).with_name("training.csv")

    def information_path(self, run: Run) -> Path:
        """What was measured along the training of a run."""
        return self.trained_path(run).with_name("information.csv")

    def result_path(self, run: Run, paradigm: str) -> Path:
        """The scores of a run under one paradigm, or what is measured of it."""
        return self.root / "evaluations" / run.base / run.arm / run.seeds / f"{paradigm}.json"
