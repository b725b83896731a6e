"""config.yaml: where data are, what jobs get, what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from e2mc.cluster.slurm import Resources
from e2mc.study.parts import CountedImages, DataFolder, Model

BaseCheckpoints = Literal["shipped", "shipped-or-retrain", "retrain"]
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
        rules = {name: merged(defaults, rule) for name, rule in content["rules"].items()}
        return content | {"rules": rules}


class Config(Model):
    """config.yaml: this machine and this user."""

    study: str = Field(description="a name in studies/, or the path of a study file")
    data_folders: dict[DataFolder, Path | None] = Field(
        {},
        description="where data sets are; null: Fashion-MNIST, glyphs' fonts and torchvision's are "
        "fetched, others are not used",
    )
    base_checkpoints: BaseCheckpoints = Field(
        "shipped",
        description="shipped: a shipped checkpoint that is missing or changed is an error; "
        "shipped-or-retrain: its base is trained again then; retrain: every base that has a "
        "recipe is trained. Seeds of which none is shipped are trained in any case",
    )
    keep: tuple[Literal["downloads", "continued", "banks"], ...] = Field(
        ("downloads", "continued"),
        description="what stays when its dependants are done: the published files, the continued "
        "models, the banks of views (42 GB each for ImageNet); what is not named is deleted then, "
        "and made again when needed",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<number>")
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        (), description="where training runs are logged besides their training.csv"
    )
    launcher: Literal["local", "slurm"] = "local"
    slurm: Slurm = Slurm.model_validate({})

    def folder(self, images: CountedImages) -> Path | None:
        """Where a data set is: the study's word, or this machine's; None without any."""
        if images.folder is not None:
            return Path(images.folder)
        return self.data_folders.get(images.place)

    def resources(self, rule: str) -> Resources | None:
        """What a job of a rule gets from SLURM; None where its step runs in the rule's process.

        A rule of some paradigms, such as ``evaluate_frozen_linear_1``, gets what its kind does.
        """
        if self.launcher == "local":
            return None
        own = [found for kind, found in self.slurm.rules.items() if rule.startswith(kind)]
        return own[0] if own else self.slurm.defaults


def merged(below: Any, above: Any) -> Any:
    """Mappings are merged key by key, anything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}
