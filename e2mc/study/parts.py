"""The keys of a study file, from data to tables; ``Study`` puts them together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from e2mc.checkpoints.keys import KeyMap
from e2mc.checkpoints.released import FORMATS
from e2mc.data.torchvision_sets import COLOUR, GREY, Selection
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.errors import InputError
from e2mc.evaluation import COLUMNS, Column
from e2mc.evaluation.information import Information
from e2mc.evaluation.paradigm import Counts
from e2mc.models.names import written
from e2mc.training.spec import Component, Recipe, expect_once, expect_one_length

NAME = r"^[a-z0-9]+([_-][a-z0-9]+)*$"
Name = Annotated[str, Field(pattern=NAME)]
Seed = Annotated[int, Field(ge=0)]
# keys of data_folders in config.yaml
DataFolder = Literal[
    "fashion-mnist",
    "folder",
    "glyphs",
    "imagenet",
    "inaturalist-2018",
    "parquet",
    "torchvision",
    "unlabelled",
    "voc2007",
]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


FASHION_MNIST, FASHION_MNIST_TEST = 60_000, 10_000  # its images
DIGITS = (1000, 297, 500)  # training, validation and test images, see ``e2mc.data.transfer``
CLASSES = 10  # of garments, and of digits


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(Model):
    """A backbone with options of its library; they may also stand behind its name."""

    name: str
    options: dict[str, Any] = {}


def backbone_name(value: Any) -> Any:
    """A mapping in one text, as checkpoints and results name a backbone."""
    if not isinstance(value, dict):
        return value
    name, options = value.get("name"), value.get("options", {})
    strangers = sorted(str(key) for key in value.keys() - {"name", "options"})
    if strangers or not isinstance(name, str) or not isinstance(options, dict):
        found = f"the key {strangers[0]}" if strangers else repr(value)
        raise InputError(
            "expected a name, or a mapping such as {name: timm:vit_small_patch14_dinov2, options: "
            f"{{img_size: 224}}}}, found {found}"
        )
    return written(name, options)


BackboneName = Annotated[str, BeforeValidator(backbone_name, json_schema_input_type=str | Network)]


def check_channels(normalisation: Normalisation, data: Data, where: str) -> None:
    """Raises InputError unless there is a mean and a std per channel."""
    if len(normalisation.mean) != data.channels:
        raise InputError(
            f"{where} has {len(normalisation.mean)} channels, expected {data.channels}: "
            f"{data.colour}; give {data.channels} numbers for mean and for std"
        )


class FashionMNIST(Model):
    """Fashion-MNIST in memory, and small data sets to transfer to."""

    quick: ClassVar[bool] = True
    dataset: Literal["fashion-mnist"] = Field(description="images of pre-training and evaluation")
    image_size: int = Field(ge=1, description="side of the images in pixels")
    normalisation: Normalisation
    validation: int = Field(ge=1, description="training images held out for every choice")
    train: int | None = Field(None, ge=1, description="use only so many training images; null: all")
    outfits: tuple[int, int, int] = Field(description="composed train, validation, test images")
    split_seed: Seed = 0

    @model_validator(mode="after")
    def _is_grey(self) -> FashionMNIST:
        check_channels(self.normalisation, self, "normalisation")
        return self

    @model_validator(mode="after")
    def _has_so_many_images(self) -> FashionMNIST:
        used = self.validation + (self.train or 1)
        if used > FASHION_MNIST:
            raise InputError(
                f"train and validation: {self.train or 'some'} and {self.validation} images, but "
                f"Fashion-MNIST has {FASHION_MNIST} to train on: lower one of them"
            )
        parts = (self.training_count, self.validation, FASHION_MNIST_TEST)
        for count, garments in zip(self.outfits, parts, strict=True):
            if not 1 <= count <= garments:  # an outfit has one to four garments
                raise InputError(
                    f"outfits: {count} cannot be composed of {garments} garments: give a number "
                    f"from 1 to about {garments // 4}"
                )
        return self

    @property
    def channels(self) -> int:
        """Of an image: 1, grey."""
        return GREY

    @property
    def colour(self) -> str:
        """Why there are so many channels."""
        return "Fashion-MNIST is grey"

    @property
    def names(self) -> tuple[str, ...]:
        """The data sets, each a file in ``results/<study>/data``."""
        return ("images", "digits", "outfits")

    @property
    def training_count(self) -> int:
        """Training images, without those held out."""
        return self.train or FASHION_MNIST - self.validation

    def view_of(self, name: str) -> PlainView:
        """How the images of a data set are scored."""
        return PlainView(2 * self.image_size if name == "outfits" else self.image_size)

    def normalisation_of(self, name: str) -> Normalisation:
        """Mean and standard deviation with which a data set is scored."""
        return self.normalisation

    def counts(self, name: str) -> Counts:
        """How many images a data set has."""
        counts = {
            "images": (self.training_count, self.validation, FASHION_MNIST_TEST),
            "digits": DIGITS,
            "outfits": self.outfits,
        }
        return Counts(*counts[name], {}, CLASSES, several_labels=name == "outfits")

    def decides_training(self) -> dict[str, Any]:
        """What decides the images of pre-training."""
        return self.model_dump(mode="json")

    def decides_evaluation(self, name: str) -> dict[str, Any]:
        """What decides the images of an evaluation, beyond those of pre-training."""
        return {}


class LabelList(Model):
    """A published list of the images whose labels may be used."""

    source: str = Field(description="an address to download it from, or its path")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    archive: str | None = Field(
        None, pattern="^https?://", description="a second address, where the first has it no more"
    )
    count: int = Field(ge=1, description="how many images it names")

    @model_validator(mode="after")
    def _is_downloaded_from_two_addresses(self) -> LabelList:
        if self.archive is not None and not self.published:
            raise InputError(
                f"archive: found {self.archive}, a second address, but source {self.source} is a "
                "path: leave archive out, or name an address as source"
            )
        return self

    @property
    def published(self) -> bool:
        """Whether it is downloaded."""
        return self.source.startswith(("http://", "https://"))


class CountedImages(Model):
    """One data set, of which the study says how many images there must be."""

    folder: Annotated[str, AfterValidator(os.path.expanduser)] | None = Field(
        None, description="where it is; null: where data_folders of config.yaml says"
    )
    classes: int = Field(ge=2, description="how many there must be")
    train: int = Field(
        ge=1,
        description="how many images there must be that are not tested on, those of a validation "
        "folder among them",
    )
    test: int = Field(
        ge=1, description="how many images there must be to test on, e.g. of ImageNet's val"
    )
    validation: int = Field(
        0,
        ge=0,
        description="training images held out for every choice; 0: none, and the best epoch is "
        "chosen on the test images, as the papers do",
    )
    view: PlainView = Field(description="how images are scored")
    normalisation: Normalisation = Field(
        None, validate_default=True, description="in evaluation; left out: that of pre-training"
    )

    @model_validator(mode="after")
    def _has_so_many_images(self) -> CountedImages:
        if self.validation >= self.train:
            raise InputError(
                f"validation: {self.validation} of {self.train} training images would be held out "
                "and none be left: lower it"
            )
        return self

    @property
    def place(self) -> DataFolder:
        """The key of ``data_folders`` in config.yaml that says where it is."""
        raise NotImplementedError

    @property
    def labelled(self) -> bool:
        """Whether anything is known of what the images show."""
        return True

    @property
    def several_labels(self) -> bool:
        """Whether an image can be of several classes."""
        return False

    @property
    def in_memory(self) -> bool:
        """Whether its images are held in memory."""
        return False

    @property
    def listed(self) -> dict[str, int]:
        """Label lists, and how many images each names."""
        return {}

    @property
    def counted(self) -> Counts:
        """How many images it has."""
        parts = (self.train - self.validation, self.validation, self.test)
        return Counts(*parts, self.listed, self.classes, self.several_labels)

    def decides(self) -> dict[str, Any]:
        """What decides its images and how they are scored."""
        raise NotImplementedError

    def decides_images(self) -> dict[str, Any]:
        """What decides the images that are pre-trained on."""
        raise NotImplementedError


class Images(CountedImages):
    """One data set on disk."""

    format: Literal["folder", "imagenet", "inaturalist-2018", "parquet", "unlabelled", "voc2007"]
    classes: int = Field(
        1, ge=1, description="how many there must be; 1 where there are no labels (unlabelled)"
    )
    lists: dict[str, LabelList] = Field({}, description="label lists, e.g. SimCLR's 1percent")

    @model_validator(mode="after")
    def _has_classes_if_labels(self) -> Images:
        if (self.classes > 1) != self.labelled:
            wanted = "2 or more" if self.labelled else "1, as there are no labels"
            raise InputError(
                f"classes: format {self.format} has {wanted}, found {self.classes}: correct it, or "
                "choose another format"
            )
        return self

    @model_validator(mode="after")
    def _has_labels_for_its_lists(self) -> Images:
        if self.validation and self.several_labels:
            raise InputError(
                f"validation: images of several classes each ({self.format}) cannot be held out: "
                "set it to 0"
            )
        for name, item in self.lists.items():
            if item.count > self.train - self.validation:
                raise InputError(
                    f"lists.{name}.count: {item.count} of {self.train} training images "
                    f"({self.validation} held out) cannot be listed: correct one of the numbers"
                )
        return self

    @property
    def place(self) -> DataFolder:
        return self.format

    @property
    def labelled(self) -> bool:
        return self.format != "unlabelled"

    @property
    def several_labels(self) -> bool:
        return self.format == "voc2007"

    @property
    def listed(self) -> dict[str, int]:
        return {name: item.count for name, item in self.lists.items()}

    def decides(self) -> dict[str, Any]:
        # where files are, or are looked for when they are gone, decides nothing
        places: Any = {"folder": True, "lists": {"__all__": {"archive"}}}
        return self.model_dump(mode="json", exclude=places)

    def decides_images(self) -> dict[str, Any]:
        return {"format": self.format, "train": self.train, "validation": self.validation}


class CountedData(Model):
    """Data sets by name, each with its counts; ``images`` is the one of pre-training.

    Attributes:
        quick: whether one core goes through the images in seconds, so that jobs need no more.
    """

    quick: ClassVar[bool] = False
    normalisation: Normalisation = Field(
        None,
        validate_default=True,
        description="in pre-training; left out: that of the backbone's published weights",
    )
    split_seed: Seed = 0

    @property
    def every(self) -> Mapping[str, CountedImages]:
        """The data sets by name."""
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """The data sets, each a file in ``results/<study>/data``."""
        return tuple(self.every)

    @property
    def training_count(self) -> int:
        """Training images of pre-training, without those held out."""
        return self.every["images"].train - self.every["images"].validation

    def view_of(self, name: str) -> PlainView:
        """How the images of a data set are scored."""
        return self.every[name].view

    def normalisation_of(self, name: str) -> Normalisation:
        """Mean and standard deviation with which a data set is scored."""
        return self.every[name].normalisation

    def counts(self, name: str) -> Counts:
        """How many images a data set has."""
        return self.every[name].counted

    def decides_training(self) -> dict[str, Any]:
        """What decides the images of pre-training."""
        return self.every["images"].decides_images() | {"split_seed": self.split_seed}

    def decides_evaluation(self, name: str) -> dict[str, Any]:
        """What decides the images of an evaluation, beyond those of pre-training."""
        return {"data": self.every[name].decides() | {"split_seed": self.split_seed}}


class OnDisk(CountedData):
    """Data sets of image files."""

    dataset: Literal["on-disk"]
    sets: dict[Name, Images]

    @model_validator(mode="after")
    def _has_images(self) -> OnDisk:
        if "images" not in self.sets:
            raise InputError("sets: 'images' is missing, the data set of pre-training")
        return self

    @model_validator(mode="after")
    def _is_in_colour(self) -> OnDisk:
        check_channels(self.normalisation, self, "normalisation")
        for name, images in self.sets.items():
            check_channels(images.normalisation, self, f"sets.{name}.normalisation")
        return self

    @property
    def every(self) -> Mapping[str, Images]:
        return self.sets

    @property
    def channels(self) -> int:
        """Of an image: 3, in colour."""
        return COLOUR

    @property
    def colour(self) -> str:
        """Why there are so many channels."""
        return "images on disk are read in colour"


class TorchvisionImages(CountedImages):
    """One of torchvision's data sets."""

    name: str = Field(description="as torchvision calls it, e.g. CIFAR100")
    split: str | None = Field(None, description="of EMNIST, e.g. balanced")
    unlabelled: int = Field(
        0, ge=0, description="of STL10: how many images without labels are pre-trained on, too"
    )

    @model_validator(mode="after")
    def _exists(self) -> TorchvisionImages:
        self.selection  # noqa: B018 (checks the name)
        return self

    @property
    def selection(self) -> Selection:
        """What is read."""
        return Selection(self.name, self.split, self.unlabelled > 0)

    @property
    def place(self) -> DataFolder:
        return "torchvision"

    @property
    def in_memory(self) -> bool:
        return self.selection.in_memory

    def decides(self) -> dict[str, Any]:
        keys = TorchvisionImages.model_fields.keys() - {"folder"}
        return self.model_dump(mode="json", include=keys)

    def decides_images(self) -> dict[str, Any]:
        keys = {"name", "split", "unlabelled", "train", "validation"}
        return self.model_dump(mode="json", include=keys)


class Torchvision(CountedData, TorchvisionImages):
    """A data set of torchvision, ``images``, and others to transfer to."""

    dataset: Literal["torchvision"]
    transfer: dict[Name, TorchvisionImages] = Field(
        {}, description="more data sets of torchvision, on which the models are evaluated"
    )

    @model_validator(mode="after")
    def _has_one_kind_of_images(self) -> Torchvision:
        if "images" in self.transfer:
            raise InputError("transfer: 'images' is the data set of pre-training: rename it")
        check_channels(self.normalisation, self, "normalisation")
        for name, images in self.transfer.items():
            if images.selection.channels != self.channels:
                raise InputError(
                    f"transfer.{name}: images of {images.name} have {images.selection.channels} "
                    f"channels, those of {self.name} have {self.channels}: choose another"
                )
            if images.unlabelled:
                raise InputError(
                    f"transfer.{name}.unlabelled: only the images of pre-training can do without "
                    "labels: leave it out"
                )
            check_channels(images.normalisation, self, f"transfer.{name}.normalisation")
        return self

    @property
    def every(self) -> Mapping[str, TorchvisionImages]:
        return {"images": self} | self.transfer

    @property
    def channels(self) -> int:
        """Of an image: 1, grey, or 3, in colour."""
        return self.selection.channels

    @property
    def colour(self) -> str:
        """Why there are so many channels."""
        return f"images of {self.name} are {'grey' if self.channels == GREY else 'in colour'}"

    @property
    def training_count(self) -> int:
        """Images of pre-training: the training images without those held out, and unlabelled."""
        return super().training_count + self.unlabelled


class Glyphs(CountedData, CountedImages):
    """Chinese characters drawn in many faces, whose design lineages are split by ``split_seed``."""

    quick: ClassVar[bool] = True
    dataset: Literal["glyphs"]
    normalisation: Normalisation
    validation: int = Field(
        ge=1, description="how many images of faces there must be on which every choice is made"
    )

    @model_validator(mode="after")
    def _is_grey(self) -> Glyphs:
        check_channels(self.normalisation, self, "normalisation")
        return self

    @property
    def every(self) -> Mapping[str, Glyphs]:
        return {"images": self}

    @property
    def channels(self) -> int:
        """Of an image: 1, grey."""
        return GREY

    @property
    def colour(self) -> str:
        """Why there are so many channels."""
        return "glyphs are grey"

    @property
    def place(self) -> DataFolder:
        return "glyphs"

    @property
    def in_memory(self) -> bool:
        return True

    def decides(self) -> dict[str, Any]:
        keys = CountedImages.model_fields.keys() - {"folder"}
        return self.model_dump(mode="json", include={"dataset", *keys})

    def decides_images(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include={"dataset", "train", "validation"})


AnyData = FashionMNIST | Glyphs | OnDisk | Torchvision
Data = Annotated[AnyData, Field(discriminator="dataset")]


@dataclass(frozen=True, kw_only=True)
class BaseRecipe(Recipe):
    """How a base is trained from random weights, or trained on.

    Args:
        epochs: length in passes over the images, at least 1.
        steps: length in batches instead, at least 1.
        images: how many training images; None for all.
        method_params: changes to the method's parameters.
    """

    epochs: int | None = None
    steps: int | None = None
    images: int | None = None
    method_params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_one_length(self.epochs, self.steps)
        if self.images is not None and self.images < 2:
            raise InputError(f"images must be at least 2, found {self.images}")


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
    archive: str | None = Field(
        None, pattern="^https?://", description="a second address, where the first has it no more"
    )
    epochs: int | None = Field(
        None, ge=1, description="epochs of its pre-training, where the file does not say"
    )


class OwnCheckpoint(Model):
    """A state dict of one's own, of any backbone; heads that it lacks are created fresh."""

    kind: Literal["own"]
    path: Annotated[str, AfterValidator(os.path.expanduser)]
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
    pretraining: BaseRecipe | None = Field(
        None, description="how to make it from random weights; null: its checkpoint alone is used"
    )
    continued: BaseRecipe

    @property
    def converted(self) -> bool:
        """Whether it comes from a file in another format than this package's."""
        return isinstance(self.checkpoint, ReleasedCheckpoint | OwnCheckpoint)

    def trained_for(self, base_seed: int) -> bool:
        """Whether it has to be trained for a base seed, since no checkpoint comes with it."""
        if isinstance(self.checkpoint, ShippedCheckpoint) and self.pretraining is not None:
            return base_seed not in self.checkpoint.sha256
        return self.checkpoint is None

    @model_validator(mode="after")
    def _has_a_beginning(self) -> Base:
        if self.checkpoint is None and self.pretraining is None:
            raise InputError("neither checkpoint nor pretraining is given: give one of them")
        if isinstance(self.checkpoint, ReleasedCheckpoint):
            official = FORMATS[self.checkpoint.format]
            if official.method != self.method.name:
                raise InputError(
                    f"a released {self.checkpoint.format} checkpoint cannot go on as method "
                    f"{self.method.name!r}: set method.name to {official.method!r}"
                )
            restorable = official.lars
        elif isinstance(self.checkpoint, OwnCheckpoint):
            restorable = False
        else:
            restorable = self.pretraining is None or self.pretraining.keep_optimizer
        if self.continued.restore_optimizer and not restorable:
            raise InputError(
                "continued.restore_optimizer is set, but its checkpoint holds no optimizer state "
                "(only VICReg's released file, or pretraining with keep_optimizer, has one)"
            )
        return self


class ArmCriterion(Model):
    """One of the criteria of an arm."""

    name: str
    params: dict[str, Any] = {}
    base_params: dict[Name, dict[str, Any]] = Field({}, description="params of single bases")


class Arm(Model):
    """What happens to a base before it is evaluated."""

    label: str
    criteria: tuple[ArmCriterion, ...] = Field(
        (), description="their losses are added to the method's; in a variant, changes to them"
    )
    criterion: str | None = Field(None, description="short for criteria with this one alone")
    params: dict[str, Any] = Field({}, description="of the only criterion")
    base_params: dict[Name, dict[str, Any]] = Field({}, description="params of single bases")
    variant_of: Name | None = Field(None, description="arm whose criteria and params are taken")
    reference: Name = Field(
        "continued", description="arm it is compared with, seed by seed; base: the base itself"
    )
    epochs: int | None = Field(None, ge=1, description="instead of the recipe's length")
    steps: int | None = Field(None, ge=1, description="instead of the recipe's length, in batches")
    batch_size: int | None = Field(None, ge=2)
    lr: float | None = Field(None, gt=0, description="instead of the recipe's learning rate")
    lr_factor: float = Field(
        1.0, gt=0, description="times the recipe's learning rate; rates of single groups stay"
    )
    method_params: dict[str, Any] = Field(
        {}, description="changes to the method's parameters, e.g. {objective: er}"
    )

    @model_validator(mode="after")
    def _has_one_length(self) -> Arm:
        if self.epochs is not None or self.steps is not None:
            expect_one_length(self.epochs, self.steps)
        return self

    @model_validator(mode="after")
    def _one_form_of_criteria(self) -> Arm:
        expect_once(criterion.name for criterion in self.criteria)
        short = self.criterion is not None or self.params or self.base_params
        if self.criteria and short:
            raise InputError(
                "give either criteria, each with its params, or criterion with params and "
                "base_params, not both"
            )
        if self.criterion is None and self.variant_of is None and short:
            raise InputError(
                "params are given, but there is no criterion: name it with criterion or criteria"
            )
        return self

    def changes(self, inherited: tuple[str, ...]) -> tuple[ArmCriterion, ...]:
        """The criteria with the params that this arm gives them.

        Args:
            inherited: criteria of the arm that this one is a variant of; they alone can change.

        Raises:
            InputError: where it is not one of them that changes.
        """
        given = self.criteria
        if self.criterion is not None:
            given = (self._short(self.criterion),)
        if given:
            for criterion in given:
                if self.variant_of is not None and criterion.name not in inherited:
                    raise InputError(
                        f"{self.variant_of} has the criteria {', '.join(inherited) or 'none'}, "
                        f"which a variant can change, found {criterion.name!r}: leave out "
                        "variant_of to list others"
                    )
            return given
        if not (self.params or self.base_params):
            return ()
        if len(inherited) != 1:
            raise InputError(
                f"params are those of a single criterion, but {self.variant_of} has "
                f"{', '.join(inherited) or 'none'}: list whose they are under criteria, "
                "e.g. [{name: ..., params: ...}]"
            )
        return (self._short(inherited[0]),)

    def _short(self, name: str) -> ArmCriterion:
        return ArmCriterion(name=name, params=self.params, base_params=self.base_params)


if TYPE_CHECKING:
    AnyColumn = Column
else:  # the class is told by the key ``kind``
    AnyColumn = Annotated[reduce(or_, COLUMNS), Field(discriminator="kind")]


class Measured(Model):
    """Whose separability, embeddings and spectrum are shown."""

    base: Name
    arms: tuple[Name, ...]


class Rows(Model):
    """Arms of a base, each a row of a table."""

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
    evaluation: tuple[Seed, ...] = Field(
        default=(0,),
        min_length=1,
        description="of initial weights, order and views: a base is evaluated with all of them, a "
        "continued run with that which equals its own seed, or with the first",
    )
    same_order: bool = Field(
        default=False,
        description="quirk of the official evaluations: all evaluation seeds see the images in "
        "one order",
    )

    @model_validator(mode="after")
    def _continued_runs_have_their_own(self) -> Seeds:
        lacking = sorted(set(self.continuation) - set(self.evaluation))
        if len(set(self.evaluation)) < len(self.evaluation):
            raise InputError(f"evaluation must name each seed once, found {self.evaluation}")
        if len(self.evaluation) > 1 and lacking:
            raise InputError(
                f"evaluation lacks {lacking}, which are continuation seeds: give one seed for all "
                "runs, or name every continuation seed"
            )
        return self


class RateSweep(Model):
    """Learning rates compared without a criterion, before the weights of criteria are.

    The rule: of each base the largest rate is taken that moves no column of the sweep by more than
    ``within`` from the base itself.
    """

    rows: tuple[Rows, ...] = Field(description="base and arms that differ in their rate alone")
    within: float = Field(gt=0, description="points of a score")


class Sweep(Model):
    """Candidates for the weights of criteria, compared with seeds that no table reports."""

    rows: tuple[Rows, ...]
    columns: tuple[Name, ...] = Field(
        (), description="of each base and criterion the best on these, on the validation split"
    )
    closes: float | None = Field(
        None,
        gt=0,
        le=1,
        description="instead of columns, without labels: the first candidate of each base and "
        "criterion, in the order of the rows, that closes this share of the distance between its "
        "reference and ideal embeddings in the criterion's own term; the last where none does",
    )
    seeds: tuple[Seed, ...]
    rates: RateSweep | None = Field(None, description="what is compared first, on the columns")

    @model_validator(mode="after")
    def _has_one_rule(self) -> Sweep:
        if bool(self.columns) == (self.closes is not None):
            raise InputError(
                "sweep needs either columns, whose best candidate is taken, or closes, the share "
                "of the distance that the first one taken must close"
            )
        if self.rates is not None and not self.columns:
            raise InputError("sweep.rates compares columns: name them, and leave closes out")
        return self


class HeadRates(Model):
    """Differences between arms against the learning rate of linear heads.

    Heads at several rates, on raw, standardised and whitened features, are trained beside those of
    the scores; nothing is chosen from them.
    """

    rows: tuple[Rows, ...] = Field(description="arms with their references")
    columns: tuple[Name, ...] = Field(description="whose heads are linear")


class Convergence(Model):
    """Accuracy against epochs of continued pre-training."""

    base: Name
    curves: tuple[tuple[Name, ...], ...] = Field(
        min_length=1, description="arms by rising epochs; each is compared with the first curve"
    )
    columns: tuple[Name, ...]


class BankComparison(Model):
    """Columns under a bank of views beside the same under fresh views."""

    base: Name
    arm: Name = Field(description="whose difference to its reference is compared, too")
    columns: tuple[tuple[Name, ...], ...] = Field(
        min_length=1, description="a column with fresh views, and the same with banks"
    )


class Informed(Model):
    """Entropy and reconstruction of the embeddings, before and after each epoch of every run."""

    instrument: Information = Information()
    bases: tuple[Name, ...] = Field(description="whose pre-training the figure shows")


class Stability(Model):
    """Bases that differ in their batch size, and bases that differ in their target's momentum."""

    column: Name
    batch_size: tuple[Name, ...]
    ema: tuple[Name, ...]
