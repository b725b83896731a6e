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

from pydantic import Field, model_validator

from e2mc.errors import InputError
from e2mc.evaluation.information import Instrument
from e2mc.study.parts import (
    SVM,
    AnyParadigm,
    Arm,
    Base,
    Convergence,
    Data,
    FineTune,
    Information,
    Linear,
    Model,
    Name,
    OnDisk,
    Rows,
    Seeds,
    Separability,
    Stability,
    Sweep,
    Table,
)
from e2mc.training.batches import smallest_part
from e2mc.training.spec import Component, TrainingSpec

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

    @classmethod
    def parse(cls, base: str, arm: str, seeds: str) -> Run:
        """The run of the wildcards {base}, {arm} and {seeds} of a path."""
        base_seed, _, continuation_seed = seeds.removeprefix("base").partition("-cont")
        return cls(base, arm, int(base_seed), int(continuation_seed) if continuation_seed else None)


class Study(Model):
    """Everything that is run, and how it is shown. See studies/ for examples."""

    name: Name
    title: str
    templates: dict[str, Any] = Field({}, description="a place for YAML anchors; not read")
    data: Data
    backbone: str
    bases: dict[Name, Base]
    arms: dict[Name, Arm]
    seeds: Seeds = Seeds()
    paradigms: dict[Name, AnyParadigm]
    separability: Separability
    tables: dict[Name, Table] = Field(description="table1 and table2 are part of `all`")
    reported_epoch: Literal["last", "best"] = Field(
        "last", description="whose score the tables show; the papers show the best epoch's"
    )
    sweep: Sweep | None = None
    convergence: Convergence | None = None
    information: Information | None = None
    stability: Stability | None = None

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        for where, rows, columns in self._named():
            for row in rows:
                _known(row.base, self.bases, f"{where}: base")
                for arm in row.arms:
                    if arm != BASE_ARM:
                        _known(arm, self.arms, f"{where}: arm")
            for column in columns:
                _known(column, self.paradigms, f"{where}: paradigm")
        for where, bases in self._named_bases():
            for base in bases:
                _known(base, self.bases, f"{where}: base")
                if self.bases[base].pretraining is None:
                    raise InputError(f"{where}: {base} has no pretraining to show")
        if self.stability is not None:
            _known(self.stability.column, self.paradigms, "stability.column: paradigm")
        if "continued" not in self.arms:
            raise InputError("arms: 'continued' is missing, every criterion is compared with it")
        for name, item in self.arms.items():
            if name == BASE_ARM:
                raise InputError("arms: 'base' is the base itself and cannot be defined")
            _known(item.reference, self.arms, f"arms.{name}.reference: arm")
            if item.variant_of is not None:
                _known(item.variant_of, self.arms, f"arms.{name}.variant_of: arm")
            for base in item.base_params:
                _known(base, self.bases, f"arms.{name}.base_params: base")
        return self

    @model_validator(mode="after")
    def _data_exist(self) -> Study:
        for name, paradigm in self.paradigms.items():
            where = f"paradigms.{name}"
            _known(paradigm.dataset, self.data.names, f"{where}.dataset: data set")
            choice = getattr(paradigm, "label_list", None)
            if choice is not None:
                sets = self.data.sets if isinstance(self.data, OnDisk) else {}
                lists = sets[paradigm.dataset].lists if paradigm.dataset in sets else {}
                _known(choice, lists, f"{where}.label_list: list")
            if isinstance(paradigm, Linear) and not self.data.holds_out(paradigm.dataset):
                rates = paradigm.protocol.learning_rates
                if len(rates) > 1:
                    raise InputError(
                        f"{where}.protocol.learning_rates: {len(rates)} rates would be chosen on "
                        f"the test images: set data.sets.{paradigm.dataset}.validation, or give "
                        "one rate"
                    )
        return self

    @model_validator(mode="after")
    def _can_be_built(self) -> Study:
        """Every criterion and every window fits, so that nothing fails hours later."""
        from e2mc.criteria import CRITERIA, create_criterion
        from e2mc.methods import METHODS
        from e2mc.models import check_backbone

        check_backbone(self.backbone, *self._sizes(), len(self.data.normalisation.mean))
        for name, base in self.bases.items():
            where = f"bases.{name}.method"
            _known(base.method.name, METHODS, f"{where}.name")
            _accepts(METHODS[base.method.name], base.method.params, where)
            for stage in ("pretraining", "continued"):
                recipe = getattr(base, stage)
                if recipe is not None:
                    where = f"bases.{name}.{stage}"
                    _accepts(METHODS[base.method.name], recipe.method_params, where)
            if base.converted and self.seeds.base != (0,):
                raise InputError(
                    f"seeds.base is {self.seeds.base}, but bases.{name} is one file: set it to [0]"
                )
        for name in self.stability.ema if self.stability is not None else ():
            if self.momentum(name) is None:
                raise InputError(f"stability.ema: {name} has no target network to follow it")
        for name, arm in itertools.product(self.bases, self.arms):
            spec = self.training_spec(Run(name, arm, 0, 0))
            changes = self.arms[arm].method_params
            _accepts(METHODS[spec.method.name], changes, f"arms.{arm}.method_params (on {name})")
            if spec.criterion is None:
                continue
            where = f"arms.{arm} (on {name})"
            _known(spec.criterion.name, CRITERIA, f"{where}: criterion")
            _accepts(CRITERIA[spec.criterion.name], spec.criterion.params, where)
            try:
                create_criterion(spec.criterion.name, **spec.criterion.params)
            except ValueError as error:
                raise InputError(f"{where}: {error}") from error
            window = spec.criterion.params.get("window")
            images = self.bases[name].continued.images or self.data.training_count
            smallest = smallest_part(spec, images)
            if window is not None and window >= smallest:
                raise InputError(
                    f"{where}: a window of {window} needs batches of at least {window + 1} "
                    f"images, the smallest part of a batch has {smallest}"
                )
        return self

    def _sizes(self) -> tuple[set[int], set[int]]:
        """Sides of the images that the backbone takes, and of those whose map is needed."""
        whole = {view.size for base in self.bases.values() for view in base.views}
        maps = set()
        for paradigm in self.paradigms.values():
            size = self.data.view(paradigm.dataset).size
            whole.add(size)
            if isinstance(paradigm, SVM):
                maps.add(size)
            elif isinstance(paradigm, Linear) and paradigm.views is not None:
                whole.add(paradigm.views.size)
                maps |= {size, paradigm.views.size} if paradigm.spatial else set()
        return whole, maps

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

    def frozen_groups(self) -> dict[str, tuple[str, ...]]:
        """Paradigms with a frozen backbone that one job evaluates: name of the group -> paradigms.

        What is in memory takes minutes altogether; on disk each data set is a job of its own.
        """
        groups: dict[str, tuple[str, ...]] = {}
        for name, paradigm in self.paradigms.items():
            if isinstance(paradigm, FineTune):
                continue
            group = paradigm.dataset if isinstance(self.data, OnDisk) else "frozen"
            groups[group] = (*groups.get(group, ()), name)
        return groups

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
    def instrument(self) -> Instrument:
        """What measures entropy and reconstruction; the default one where the study has none."""
        return Instrument() if self.information is None else self.information.instrument

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
        criterion = None
        method_params = base.method.params | recipe.method_params
        if run.arm != BASE_ARM:
            arm = self.arms[run.arm]
            changes = {
                key: value
                for key, value in (("epochs", arm.epochs), ("batch_size", arm.batch_size))
                if value is not None
            }
            criterion = self._criterion(run)
            method_params |= arm.method_params
            if arm.lr is not None:
                changes["optimizer"] = dataclasses.replace(recipe.optimizer, lr=arm.lr)
        seed = run.base_seed if run.continuation_seed is None else run.continuation_seed
        method = Component(base.method.name, method_params)
        spec = TrainingSpec(
            backbone=self.backbone,
            method=method,
            views=base.views,
            normalisation=base.normalisation or self.data.normalisation,
            optimizer=recipe.optimizer,
            schedule=recipe.schedule,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            drop_last=recipe.drop_last,
            precision=recipe.precision,
            compile=recipe.compile,
            micro_batches=recipe.micro_batches,
            augmentation_streams=recipe.augmentation_streams,
            criterion=criterion,
            restore_optimizer=recipe.restore_optimizer,
            keep_optimizer=recipe.keep_optimizer,
            seed=seed,
        )
        return dataclasses.replace(spec, **changes)

    def entropy_mapping(self, base: str) -> str:
        """The map of the first arm with E2MC, under which all arms of a base are measured."""
        for arm in self.arms:
            criterion = self._criterion(Run(base, arm, 0, 0))
            if criterion is not None and criterion.name == "e2mc":
                return criterion.params.get("mapping", "normal")
        return "normal"

    def momentum(self, base: str) -> float | None:
        """The momentum of the target network at the start of a base's pre-training, if any."""
        from e2mc.methods import METHODS

        spec = self.training_spec(Run(base, BASE_ARM, 0, None))
        parameter = inspect.signature(METHODS[spec.method.name]).parameters.get("ema")
        return None if parameter is None else spec.method.params.get("ema", parameter.default)

    def training_images(self, run: Run) -> int | None:
        """How many training images a run sees; None for all."""
        base = self.bases[run.base]
        recipe = base.pretraining if run.arm == BASE_ARM else base.continued
        return None if recipe is None else recipe.images

    def criterion_name(self, arm: str) -> str | None:
        """The criterion of an arm, or of what it is a variant of; the base has none."""
        if arm == BASE_ARM:
            return None
        named = (link.criterion for link in self._lineage(arm) if link.criterion is not None)
        return next(named, None)

    def _lineage(self, arm: str) -> list[Arm]:
        """An arm, what it is a variant of, and so on."""
        chain = [self.arms[arm]]
        while chain[-1].variant_of is not None:
            chain.append(self.arms[chain[-1].variant_of])
        return chain

    def _criterion(self, run: Run) -> Component | None:
        name = self.criterion_name(run.arm)
        if name is None:
            return None
        params: dict[str, Any] = {}
        for link in reversed(self._lineage(run.arm)):
            params |= link.params | link.base_params.get(run.base, {})
        return Component(name, params)

    # --- where it is; the parts of a run may also be the wildcards of a rule ---

    @property
    def root(self) -> Path:
        return Path("results") / self.name

    def dataset_path(self, dataset: str) -> Path:
        return self.root / "data" / f"{dataset}.pt"

    def retrained_path(self, base: str, base_seed: int | str) -> Path:
        """Where ``snakemake bases`` writes; ``base_seed`` may be a wildcard."""
        return self.root / "bases" / base / f"base{base_seed}" / "checkpoint.pt"

    def download_path(self, base: str) -> Path:
        """Where a released checkpoint is kept as published; ``base`` may be a wildcard."""
        return self.root / "bases" / base / "released.pth"

    def converted_path(self, base: str) -> Path:
        """A released checkpoint or one of one's own in our format; ``base`` may be a wildcard."""
        return self.root / "bases" / base / "converted.pt"

    def checkpoint_path(self, run: Run) -> Path:
        """The checkpoint of a continued run."""
        return self.root / "continued" / run.base / run.arm / run.seeds / "checkpoint.pt"

    def log_path(self, run: Run) -> Path:
        """Every term of a continued run, step by step."""
        return self.checkpoint_path(run).with_name("training.csv")

    def table_results(self, name: str) -> list[Path]:
        """Every result file of a table."""
        table = self.tables[name]
        runs = self.runs(table.rows)
        return [self.result_path(run, column) for run in runs for column in table.columns]

    def information_path(self, run: Run) -> Path:
        """What was measured along the training of a base or a continued run."""
        if run.arm == BASE_ARM:
            checkpoint = self.retrained_path(run.base, run.base_seed)
        else:
            checkpoint = self.checkpoint_path(run)
        return checkpoint.with_name("information.csv")

    def result_path(self, run: Run, paradigm: str) -> Path:
        """The scores of a run under one paradigm, or what is measured of it."""
        return self.root / "evaluations" / run.base / run.arm / run.seeds / f"{paradigm}.json"


def _accepts(kind: type, params: dict[str, Any], where: str) -> None:
    """Raises ValueError for a parameter that a method or criterion does not have."""
    known = set(inspect.signature(kind).parameters) - {"backbone", "group"}
    for name in params:
        _known(name, sorted(known), f"{where}: parameter")


def _known(name: str, names: Iterable[str], what: str) -> None:
    if name not in names:
        raise InputError(f"{what} {name!r} does not exist, expected one of {', '.join(names)}")
