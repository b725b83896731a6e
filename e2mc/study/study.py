"""Which bases, arms, seeds, paradigms and tables, and the paths of data, checkpoints and results.

The rules of the workflow make those of tables, figures and logs.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from e2mc.criteria import CRITERIA, create_criterion
from e2mc.errors import InputError, expect_known
from e2mc.evaluation.embeddings import Embeddings
from e2mc.evaluation.information import Information
from e2mc.evaluation.paradigm import Paradigm
from e2mc.evaluation.separability import Separability
from e2mc.methods import METHODS
from e2mc.models import check_backbone, model_normalisation
from e2mc.study.arguments import checked_arguments, expect_buildable, has_heads
from e2mc.study.parts import (
    AnyColumn,
    Arm,
    BackboneName,
    Base,
    Convergence,
    Data,
    Informed,
    Measured,
    Model,
    Name,
    OnDisk,
    Rows,
    Seeds,
    Stability,
    Sweep,
    Table,
    backbone_name,
    check_channels,
)
from e2mc.training.batches import smallest_part
from e2mc.training.spec import Component, Recipe, TrainingSpec

BASE_ARM = "base"


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


class Study(Model):
    """Everything that is run, and how it is shown. See studies/ for examples."""

    name: Name
    title: str
    templates: dict[str, Any] = Field({}, description="a place for YAML anchors; not read")
    data: Data
    backbone: BackboneName
    bases: dict[Name, Base]
    arms: dict[Name, Arm]
    seeds: Seeds = Seeds()
    paradigms: dict[Name, AnyColumn]
    separability: Measured
    tables: dict[Name, Table] = Field(description="table1 and table2 are part of `all`")
    reported_epoch: Literal["last", "best"] = Field(
        "last", description="whose score the tables show; the papers show the best epoch's"
    )
    sweep: Sweep | None = None
    convergence: Convergence | None = None
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
        """Fills in the mean and deviation that are left out for images on disk."""
        data = content.get("data") if isinstance(content, dict) else None
        if not isinstance(data, dict) or data.get("dataset") != "on-disk":
            return content
        said = data.get("normalisation")
        if said is None:
            said = _normalisation_of(content.get("backbone"))
        sets = data.get("sets")
        if isinstance(sets, dict):
            sets = {
                name: {"normalisation": said, **item} if isinstance(item, dict) else item
                for name, item in sets.items()
            }
        return content | {"data": data | {"normalisation": said, "sets": sets}}

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
            expect_known(item.reference, self.arms, f"arms.{name}.reference: arm")
            if item.variant_of is not None:
                expect_known(item.variant_of, self.arms, f"arms.{name}.variant_of: arm")
            for base in itertools.chain(item.base_params, *(c.base_params for c in item.criteria)):
                expect_known(base, self.bases, f"arms.{name}.base_params: base")
        for name in self.arms:
            self._refuse_circle(name)
        return self

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
                check_channels(base.normalisation, self.data.channels, where)
        for name, paradigm in self.paradigms.items():
            where = f"paradigms.{name}"
            expect_known(paradigm.dataset, self.data.names, f"{where}.dataset: data set")
            try:
                paradigm.check(self.data.counts(paradigm.dataset))
            except InputError as error:
                raise InputError(f"{where}.{error}") from error
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
            for side, spatial in paradigm.sides(self.data.view(paradigm.dataset).size):
                (maps if spatial else whole).add(side)
        return whole | maps, maps

    def _named(self) -> Iterator[tuple[str, tuple[Rows, ...], tuple[str, ...]]]:
        for name, table in self.tables.items():
            yield f"tables.{name}", table.rows, table.columns
        shown = Rows(base=self.separability.base, arms=self.separability.arms)
        yield "separability", (shown,), ()
        if self.sweep is not None:
            yield "sweep", self.sweep.rows, self.sweep.columns
        if self.convergence is not None:
            yield "convergence", self.convergence_rows(), self.convergence.columns

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
        return (None,) if arm == BASE_ARM else self.seeds.continuation

    def paradigm(self, name: str, base: str) -> Paradigm:
        """A column of the study, or one of the measurements that every study has."""
        if name in self.paradigms:
            return self.paradigms[name]
        measured: dict[str, Paradigm] = {
            "separability": Separability(),
            "embeddings": Embeddings(
                batch_size=self.bases[base].continued.batch_size, mapping=self.entropy_mapping(base)
            ),
            "information": self.instrument,
        }
        expect_known(name, (*self.paradigms, *measured), "paradigm")
        return measured[name]

    def evaluation_jobs(self) -> dict[str, tuple[str, ...]]:
        """Which paradigms one job scores: name of its rule -> paradigms.

        What is in memory takes minutes altogether; on disk each data set has a job of its own.
        """
        jobs: dict[str, tuple[str, ...]] = {}
        for name, paradigm in self.paradigms.items():
            rule = paradigm.job
            if isinstance(self.data, OnDisk) and rule == "evaluate_frozen":
                rule = f"{rule}_{paradigm.dataset}"
            jobs[rule] = (*jobs.get(rule, ()), name)
        return jobs | {
            "measure": ("separability", "embeddings"),
            "measure_information": ("information",),
        }

    @property
    def main_tables(self) -> list[str]:
        """The tables that ``all`` makes."""
        return [name for name in ("table1", "table2") if name in self.tables]

    def continued_runs(self) -> list[Run]:
        """Every continued run of the main tables."""
        rows = [row for name in self.main_tables for row in self.tables[name].rows]
        return [run for run in self.runs(rows) if run.arm != BASE_ARM]

    def separability_runs(self) -> list[Run]:
        return self.runs([Rows(base=self.separability.base, arms=self.separability.arms)])

    def convergence_rows(self) -> tuple[Rows, ...]:
        """The runs behind the curves; each begins at the base."""
        if self.convergence is None:
            return ()
        arms = dict.fromkeys(itertools.chain((BASE_ARM,), *self.convergence.curves))
        return (Rows(base=self.convergence.base, arms=tuple(arms)),)

    def epochs_of(self, base: str, arm: str) -> int:
        """Epochs of continued pre-training; 0 for the base itself."""
        return 0 if arm == BASE_ARM else self.training_spec(Run(base, arm, 0, 0)).epochs

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
        return "base" if arm == BASE_ARM else self.arms[arm].label

    def training_spec(self, run: Run) -> TrainingSpec:
        """What produces the checkpoint of a run: from random weights, or from its base."""
        base = self.bases[run.base]
        recipe = base.pretraining if run.arm == BASE_ARM else base.continued
        if recipe is None:
            raise InputError(
                f"bases.{run.base} has no pretraining recipe and cannot be made from random weights"
            )
        changes: dict[str, Any] = {}
        if run.arm != BASE_ARM:
            arm = self.arms[run.arm]
            given = {"epochs": arm.epochs, "batch_size": arm.batch_size}
            changes = {key: value for key, value in given.items() if value is not None}
            if arm.lr is not None:
                changes["optimizer"] = dataclasses.replace(recipe.optimizer, lr=arm.lr)
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
    def root(self) -> Path:
        return Path("results") / self.name

    def dataset_path(self, dataset: str) -> Path:
        return self.root / "data" / f"{dataset}.pt"

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

    def table_results(self, name: str) -> list[Path]:
        """Every result file of a table."""
        table = self.tables[name]
        runs = self.runs(table.rows)
        return [self.result_path(run, column) for run in runs for column in table.columns]

    def information_path(self, run: Run) -> Path:
        """What was measured along the training of a run."""
        return self.trained_path(run).with_name("information.csv")

    def result_path(self, run: Run, paradigm: str) -> Path:
        """The scores of a run under one paradigm, or what is measured of it."""
        return self.root / "evaluations" / run.base / run.arm / run.seeds / f"{paradigm}.json"
