"""A study: which bases, arms, seeds, paradigms and tables. Every path in results/ is made here.

A study is a YAML file in studies/; ``load_study`` checks it against the models below. An *arm* is
what happened to a base before it is evaluated: ``base`` (nothing), ``continued`` (the same loss for
some more epochs), a criterion, or a named variant of one. A *run* is one arm of one base with its
seeds: one checkpoint, evaluated under every paradigm.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.evaluation.finetune import FineTuneProtocol
from e2mc.evaluation.heads import LinearProtocol
from e2mc.evaluation.information import Instrument
from e2mc.evaluation.svm import SVMProtocol
from e2mc.models.released import FORMATS, KeyMap
from e2mc.optim import OptimizerSpec, ScheduleSpec
from e2mc.slurm import Resources
from e2mc.training.loop import Component, TrainingSpec

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$")]
Seed = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
KINDS = ("linear", "finetune", "svm", "shipped", "released", "own")
DataFolder = Literal["fashion-mnist", "imagenet", "inaturalist-2018", "voc2007"]
BASE_ARM = "base"


class StudyError(ValueError):
    """A study or configuration that cannot be used: which file and key, and what is expected."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FashionMNIST(Model):
    """Fashion-MNIST in memory, and small data sets to transfer to."""

    dataset: Literal["fashion-mnist"] = Field(description="images of pre-training and evaluation")
    image_size: int = Field(ge=1, description="side of the images in pixels")
    normalisation: Normalisation
    validation: int = Field(ge=1, description="training images held out for every choice")
    train: int | None = Field(None, ge=1, description="use only so many training images; null: all")
    outfits: tuple[int, int, int] = Field(description="composed train, validation, test images")
    split_seed: Seed = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The data sets, each a file in ``results/<study>/data``."""
        return ("images", "digits", "outfits")

    def view(self, name: str) -> PlainView:
        """How the images of a data set are scored."""
        return PlainView(2 * self.image_size if name == "outfits" else self.image_size)

    def normalisation_of(self, name: str) -> Normalisation:
        """Mean and standard deviation with which a data set is scored."""
        return self.normalisation

    def training_identity(self) -> dict[str, Any]:
        """What decides the images of pre-training."""
        return self.model_dump(mode="json")

    def evaluation_identity(self, name: str) -> dict[str, Any]:
        """What decides the images of an evaluation, beyond those of pre-training."""
        return {}


class LabelList(Model):
    """A published list of the images whose labels may be used."""

    source: str = Field(description="an address to download it from, or its path")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    count: int = Field(ge=1, description="how many images it names")


class Images(Model):
    """One data set on disk; its folder stands in config.yaml under data_folders."""

    format: Literal["imagenet", "inaturalist-2018", "voc2007"]
    classes: int = Field(ge=2, description="how many there must be")
    train: int = Field(ge=1, description="how many training images there must be")
    test: int = Field(
        ge=1, description="how many images of ImageNet's val, iNaturalist's val, test"
    )
    validation: int = Field(
        0,
        ge=0,
        description="training images held out for every choice; 0: none, and the best epoch is "
        "chosen on the test images, as the papers do",
    )
    lists: dict[str, LabelList] = Field({}, description="label lists, e.g. SimCLR's 1percent")
    view: PlainView = Field(description="how images are scored")
    normalisation: Normalisation = Field(description="in evaluation")


class OnDisk(Model):
    """Data sets of image files; ``images`` is the one of pre-training."""

    dataset: Literal["on-disk"]
    normalisation: Normalisation = Field(description="in pre-training")
    sets: dict[Name, Images]
    split_seed: Seed = 0

    @model_validator(mode="after")
    def _has_images(self) -> OnDisk:
        if "images" not in self.sets:
            raise ValueError("sets: 'images' is missing, the data set of pre-training")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The data sets, each a file in ``results/<study>/data``."""
        return tuple(self.sets)

    def view(self, name: str) -> PlainView:
        """How the images of a data set are scored."""
        return self.sets[name].view

    def normalisation_of(self, name: str) -> Normalisation:
        """Mean and standard deviation with which a data set is scored."""
        return self.sets[name].normalisation

    def training_identity(self) -> dict[str, Any]:
        """What decides the images of pre-training."""
        images = self.sets["images"]
        held_out = {"validation": images.validation, "split_seed": self.split_seed}
        return {"format": images.format, "train": images.train} | held_out

    def evaluation_identity(self, name: str) -> dict[str, Any]:
        """What decides the images of an evaluation, beyond those of pre-training."""
        images = self.sets[name].model_dump(mode="json")
        return {"data": images | {"split_seed": self.split_seed}}


Data = Annotated[FashionMNIST | OnDisk, Field(discriminator="dataset")]


class Recipe(Model):
    """How a base is trained from random weights, or trained on."""

    optimizer: OptimizerSpec
    schedule: ScheduleSpec = ScheduleSpec("constant")
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    images: int | None = Field(None, ge=2, description="how many training images; null: all")
    drop_last: bool = True
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    micro_batches: int = Field(1, ge=1, description="parts of a batch, one after the other")
    augmentation_streams: int = Field(1, ge=1, description="parts that are augmented alike")
    restore_optimizer: bool = Field(
        False, description="go on with the optimizer state of the base, as VICReg's code does"
    )
    keep_optimizer: bool = False
    method_params: dict[str, Any] = Field({}, description="changes to the method's parameters")


class ShippedCheckpoint(Model):
    """A file of this repository, one per base seed ({seed} in the path)."""

    kind: Literal["shipped"]
    path: str
    sha256: dict[Seed, Sha256]


class ReleasedCheckpoint(Model):
    """A file that the authors of a method have published; it is downloaded and converted."""

    kind: Literal["released"]
    url: str = Field(pattern="^https?://")
    format: Literal["vicreg", "swav", "simsiam"] = Field(description="whose code wrote it")
    sha256: Sha256 | None = Field(
        None, description="null: recorded at the first download, checked ever after"
    )
    epochs: int | None = Field(
        None, ge=1, description="epochs of its pre-training, where the file does not say"
    )


class OwnCheckpoint(Model):
    """A state dict of one's own, of any backbone; heads that it lacks are created fresh."""

    kind: Literal["own"]
    path: str
    keys: KeyMap = KeyMap()
    epochs: int = Field(0, ge=0, description="epochs of its pre-training")
    head_seed: Seed = Field(0, description="decides the weights of fresh heads")


AnyCheckpoint = Annotated[
    ShippedCheckpoint | ReleasedCheckpoint | OwnCheckpoint, Field(discriminator="kind")
]


class Base(Model):
    """A pre-trained model and how to go on with it."""

    label: str
    published: str | None = Field(None, description="its name in published.csv")
    method: Component
    views: tuple[ViewRecipe, ...]
    normalisation: Normalisation | None = Field(None, description="of the views; null: data's")
    checkpoint: AnyCheckpoint | None = None
    pretraining: Recipe | None = Field(
        None, description="how to make it from random weights; null: its checkpoint alone is used"
    )
    continued: Recipe

    @property
    def converted(self) -> bool:
        """Whether it comes from a file in another format than this package's."""
        return isinstance(self.checkpoint, ReleasedCheckpoint | OwnCheckpoint)

    @model_validator(mode="after")
    def _has_a_beginning(self) -> Base:
        if self.checkpoint is None and self.pretraining is None:
            raise ValueError("neither checkpoint nor pretraining is given: give one of them")
        if isinstance(self.checkpoint, ReleasedCheckpoint):
            official = FORMATS[self.checkpoint.format]
            if official.method != self.method.name:
                raise ValueError(
                    f"a released {self.checkpoint.format} checkpoint cannot go on as method "
                    f"{self.method.name!r}: set method.name to {official.method!r}"
                )
            restorable = official.lars
        elif isinstance(self.checkpoint, OwnCheckpoint):
            restorable = False
        else:
            restorable = self.pretraining is None or self.pretraining.keep_optimizer
        if self.continued.restore_optimizer and not restorable:
            raise ValueError(
                "continued.restore_optimizer is set, but its checkpoint holds no optimizer state "
                "(only VICReg's released file, or pretraining with keep_optimizer, has one)"
            )
        return self


class Arm(Model):
    """What happens to a base before it is evaluated."""

    label: str
    criterion: str | None = None
    params: dict[str, Any] = {}
    base_params: dict[Name, dict[str, Any]] = Field({}, description="params of single bases")
    variant_of: Name | None = Field(None, description="arm whose criterion and params are taken")
    reference: Name = Field("continued", description="arm it is compared with, seed by seed")
    epochs: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=2)
    lr: float | None = Field(None, gt=0, description="instead of the recipe's learning rate")
    method_params: dict[str, Any] = Field(
        {}, description="changes to the method's parameters, e.g. {objective: er}"
    )


class Paradigm(Model):
    """One way of scoring a checkpoint; also a column of the tables."""

    label: str
    dataset: Name = "images"


class Labelled(Paradigm):
    """Learns from all labels, from a share of them, or from those of a published list."""

    fraction: float = Field(1.0, gt=0, le=1, description="share of the labels")
    label_list: str | None = Field(None, description="a list of the data set, instead of a share")
    label_seeds: tuple[Seed, ...] = (0,)

    @model_validator(mode="after")
    def _one_choice_of_labels(self) -> Labelled:
        if self.label_list is not None and self.fraction != 1:
            raise ValueError("give either fraction or label_list, not both")
        return self


class Linear(Labelled):
    kind: Literal["linear"]
    features: tuple[Literal["raw", "whitened"], ...] = ("raw", "whitened")
    views: ViewRecipe | None = Field(
        None, description="a new random view in every epoch; null: features are computed once"
    )
    spatial: bool = Field(False, description="features pooled to 2 x 2 places instead of one")
    shared_pass: bool = Field(
        True, description="one pass over random views serves all heads; false: each its own"
    )
    protocol: LinearProtocol

    @model_validator(mode="after")
    def _views_are_needed(self) -> Linear:
        if self.views is None and (self.spatial or self.protocol.batch_norm):
            raise ValueError("spatial and batch_norm need views: give the recipe of random views")
        if self.views is not None and self.views.count != 1:
            raise ValueError(f"views.count must be 1, found {self.views.count}")
        return self


class FineTune(Labelled):
    kind: Literal["finetune"]
    protocol: FineTuneProtocol


class SVM(Paradigm):
    kind: Literal["svm"]
    protocol: SVMProtocol


AnyParadigm = Annotated[Linear | FineTune | SVM, Field(discriminator="kind")]


class Separability(Model):
    """Whose separability, embeddings and spectrum are measured."""

    base: Name
    arms: tuple[Name, ...]


class Rows(Model):
    base: Name
    arms: tuple[Name, ...]


class Table(Model):
    """Rows by base and arm, columns by paradigm."""

    title: str
    published: Literal[1, 2] | None = Field(None, description="the paper's table it mirrors")
    rows: tuple[Rows, ...]
    columns: tuple[Name, ...]


class Seeds(Model):
    base: tuple[Seed, ...] = (0,)
    continuation: tuple[Seed, ...] = (0, 1, 2)


class Sweep(Model):
    """Arms compared on the validation split, with seeds that no table reports."""

    rows: tuple[Rows, ...]
    columns: tuple[Name, ...]
    seeds: tuple[Seed, ...]


class Convergence(Model):
    """Accuracy against epochs of continued pre-training."""

    base: Name
    curves: tuple[tuple[Name, ...], ...] = Field(
        min_length=1, description="arms by rising epochs; each is compared with the first curve"
    )
    columns: tuple[Name, ...]


class Information(Model):
    """Entropy and reconstruction of the embeddings, before and after each epoch of every run."""

    instrument: Instrument = Instrument()
    bases: tuple[Name, ...] = Field(description="whose pre-training the figure shows")


class Stability(Model):
    """Bases that differ in their batch size, and bases that differ in their target's momentum."""

    column: Name
    batch_size: tuple[Name, ...]
    ema: tuple[Name, ...]


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
                    raise ValueError(f"{where}: {base} has no pretraining to show")
        if self.stability is not None:
            _known(self.stability.column, self.paradigms, "stability.column: paradigm")
        if "continued" not in self.arms:
            raise ValueError("arms: 'continued' is missing, every criterion is compared with it")
        for name, item in self.arms.items():
            if name == BASE_ARM:
                raise ValueError("arms: 'base' is the base itself and cannot be defined")
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
        return self

    @model_validator(mode="after")
    def _can_be_built(self) -> Study:
        """Every criterion and every window fits, so that nothing fails hours later."""
        from e2mc.criteria import CRITERIA, create_criterion
        from e2mc.methods import METHODS
        from e2mc.models import check_backbone

        check_backbone(self.backbone)
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
                raise ValueError(
                    f"seeds.base is {self.seeds.base}, but bases.{name} is one file: set it to [0]"
                )
        for name in self.stability.ema if self.stability is not None else ():
            if self.momentum(name) is None:
                raise ValueError(f"stability.ema: {name} has no target network to follow it")
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
                raise ValueError(f"{where}: {error}") from error
            window = spec.criterion.params.get("window")
            if window is not None and window >= spec.batch_size:
                raise ValueError(
                    f"{where}: a window of {window} needs batches of at least {window + 1} "
                    f"images, batch_size is {spec.batch_size}"
                )
        return self

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

    def labels(self) -> dict[str, Any]:
        """What tables and figures call things; they change when one of these does."""
        return {
            "title": self.title,
            "arms": {name: arm.label for name, arm in self.arms.items()},
            "bases": {name: base.label for name, base in self.bases.items()},
            "paradigms": {name: paradigm.label for name, paradigm in self.paradigms.items()},
        }

    def training_spec(self, run: Run) -> TrainingSpec:
        """What produces the checkpoint of a run: from random weights, or from its base."""
        base = self.bases[run.base]
        recipe = base.pretraining if run.arm == BASE_ARM else base.continued
        if recipe is None:
            raise ValueError(
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

    def _criterion(self, run: Run) -> Component | None:
        arm = self.arms[run.arm]
        chain = [arm]
        while chain[-1].variant_of is not None:
            chain.append(self.arms[chain[-1].variant_of])
        name = next((link.criterion for link in chain if link.criterion is not None), None)
        if name is None:
            return None
        params: dict[str, Any] = {}
        for link in reversed(chain):
            params |= link.params | link.base_params.get(run.base, {})
        return Component(name, params)

    # --- where it is ---

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
        return self.root / "evaluations" / run.base / run.arm / run.seeds / f"{paradigm}.json"


LaunchedRule = Literal[
    "pretrain_base",
    "continue_pretraining",
    "evaluate_frozen",
    "evaluate_fine_tuned",
    "measure",
]


class Slurm(Model):
    """What jobs get from SLURM: the same for all rules, and what is different for some."""

    defaults: Resources = Resources()
    rules: dict[LaunchedRule, Resources] = Field({}, description="changes to the defaults")

    @model_validator(mode="before")
    @classmethod
    def _rules_change_defaults(cls, content: Any) -> Any:
        if not isinstance(content, dict) or not isinstance(content.get("rules"), dict):
            return content
        defaults = content.get("defaults", {})
        rules = {name: _merged(defaults, rule) for name, rule in content["rules"].items()}
        return content | {"rules": rules}


class Config(Model):
    """config.yaml: this machine and this user."""

    study: str = Field(description="a name in studies/, or the path of a study file")
    data_folders: dict[DataFolder, Path | None] = Field(
        {}, description="where data sets are; null: Fashion-MNIST is fetched, others are not used"
    )
    base_checkpoints: Literal["shipped", "shipped-or-retrain", "retrain"] = Field(
        "shipped", description="what to do when a shipped base checkpoint is missing or changed"
    )
    keep: tuple[Literal["downloads", "continued"], ...] = Field(
        ("downloads", "continued"),
        description="checkpoints that stay when their dependants are done: the published files, "
        "the continued models; what is not named is deleted then, and made again when needed",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<number>")
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        (), description="where training runs are logged besides their training.csv"
    )
    launcher: Literal["local", "slurm"] = "local"
    slurm: Slurm = Slurm.model_validate({})

    def resources(self, rule: LaunchedRule) -> Resources | None:
        """What a job of a rule gets from SLURM; None where its step runs in the rule's process."""
        if self.launcher == "local":
            return None
        return self.slurm.rules.get(rule, self.slurm.defaults)


def load_study(name: str) -> Study:
    """Reads and checks a study: a name in studies/ or the path of a YAML file.

    Raises StudyError that names the file, the key, what was found and what is expected.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else Path("studies") / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in Path("studies").glob("*.yaml")))
        raise StudyError(f"study file {path} does not exist: choose one of {there or 'none'}")
    return _checked(Study, _read_study(path), str(path))


def load_config(content: dict[str, Any]) -> Config:
    """Checks the content of config.yaml (with what the command line changed)."""
    return _checked(Config, content, "config.yaml")


def read_config(**changes: Any) -> Config:
    """config.yaml, with some of its keys changed."""
    content = _read_yaml(Path("config.yaml"))
    return load_config(content | changes if isinstance(content, dict) else content)


def _read_study(path: Path) -> Any:
    """The file's content, over that of the study that its key ``extends`` names, if any."""
    content = _read_yaml(path)
    if not isinstance(content, dict) or "extends" not in content:
        return content
    other = path.with_name(f"{content.pop('extends')}.yaml")
    if not other.is_file() or other == path:
        raise StudyError(f"{path}: extends: study file {other} does not exist")
    return _merged(_read_study(other), content)


def _merged(below: Any, above: Any) -> Any:
    """Mappings are merged key by key, anything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merged(below.get(key), value) for key, value in above.items()}


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _checked(model: type[Model], content: Any, where: str) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise StudyError(
            "; ".join(_explain(model, problem, where) for problem in error.errors())
        ) from error


def _explain(model: type[Model], problem: Any, where: str) -> str:
    """One of pydantic's problems as one sentence, with a near name for a misspelt key."""
    # pydantic puts the kind of a discriminated union into the path; it is no key of the file
    data = [("data", "fashion-mnist"), ("data", "on-disk")]
    loc = [part for part in problem["loc"] if part not in KINDS]
    keys = [str(part) for before, part in zip(("", *loc), loc) if (before, part) not in data]
    key = ".".join(keys) or "the whole file"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(keys[-1], _all_keys(model), n=1)
        hint = f", did you mean {near[0]!r}?" if near else ": remove it"
        return f"{where}: unknown key {key}{hint}"
    message = problem["msg"].removeprefix("Value error, ")
    found = ""
    if problem["type"] not in ("value_error", "missing"):
        found = f", found {problem['input']!r}"
    return f"{where}: {key}: {message}{found}"


def _all_keys(model: type[Model]) -> list[str]:
    schema = model.model_json_schema()
    objects = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for item in objects for key in item.get("properties", {})})


def _accepts(kind: type, params: dict[str, Any], where: str) -> None:
    """Raises ValueError for a parameter that a method or criterion does not have."""
    known = set(inspect.signature(kind).parameters) - {"backbone", "group"}
    for name in params:
        _known(name, sorted(known), f"{where}: parameter")


def _known(name: str, names: Iterable[str], what: str) -> None:
    if name not in names:
        raise ValueError(f"{what} {name!r} does not exist, expected one of {', '.join(names)}")


STAGES = {
    "data": ("data",),
    "models": ("models", "methods", "optim.py"),
    "training": ("data", "models", "methods", "criteria", "training", "entropy.py", "optim.py"),
    "evaluation": ("data", "models", "evaluation", "frozen.py", "steps.py"),
    "reporting": ("reporting",),
}


def code_hash(stage: str) -> str:
    """Twelve hexadecimal digits that change when a module changes that computes the stage."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for part in STAGES[stage]:
        path = package / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(package).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
