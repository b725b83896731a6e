"""What decides a checkpoint, a result or a table: plain values, and the code that makes it.

What differs in these is made again, what does not is kept.
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from e2mc.code_hash import PACKAGE, Code
from e2mc.criteria import CRITERIA
from e2mc.methods import METHODS
from e2mc.study import BASE_ARM, Run, ShippedCheckpoint, Study


def training_identity(study: Study, run: Run) -> dict[str, Any]:
    """What decides the checkpoint that a run's training writes, apart from files that a rule made.

    Raises ValueError for a base without a pretraining recipe.
    """
    identity = {
        "spec": dataclasses.asdict(study.training_spec(run)),
        "images": study.training_images(run),
        "data": study.data.training_identity(),
    }
    return identity if run.arm == BASE_ARM else identity | _shipped(study, run)


def training_outputs_identity(study: Study, run: Run) -> dict[str, Any]:
    """What decides everything that a run's training writes: its checkpoint and information.csv."""
    identity = training_identity(study, run)
    if study.information is None:
        return identity
    return identity | {"instrument": dataclasses.asdict(study.instrument)}


def conversion_identity(study: Study, base: str) -> dict[str, Any]:
    """What decides the checkpoint of a base that comes from a file, apart from the file."""
    item = study.bases[base]
    assert item.checkpoint is not None
    return {
        "checkpoint": item.checkpoint.model_dump(mode="json"),
        "backbone": study.backbone,
        "method": dataclasses.asdict(item.method),
    }


def evaluation_identity(study: Study, run: Run, paradigm: str) -> dict[str, Any]:
    """What decides a result: how the checkpoint was made and how it is scored."""
    base = study.bases[run.base]
    identity: dict[str, Any] = {"training": _checkpoint_identity(study, run)}
    if paradigm in ("embeddings", "information"):
        # what a base was trained on is not in the identity of a converted one
        normalisation = base.normalisation or study.data.normalisation
        identity["views"] = [dataclasses.asdict(view) for view in base.views]
        identity["normalisation"] = dataclasses.asdict(normalisation)
    if paradigm == "embeddings":
        mapping = study.entropy_mapping(run.base)
        protocol: Any = {"batch_size": base.continued.batch_size, "mapping": mapping}
    elif paradigm == "information":
        protocol = dataclasses.asdict(study.instrument)
    else:
        known = study.paradigms.get(paradigm)
        protocol = None if known is None else known.model_dump(mode="json")
    identity["paradigm"] = protocol
    dataset = study.paradigms[paradigm].dataset if paradigm in study.paradigms else "images"
    return identity | study.data.evaluation_identity(dataset)


def training_code(study: Study, run: Run) -> Code:
    """The code that trains a run."""
    criteria = (_file(CRITERIA[name]) for name in study.criterion_names(run.arm))
    return Code("training", (_method_file(study, run.base), *criteria))


def evaluation_code(study: Study, run: Run) -> Code:
    """The code that scores a run."""
    return Code("evaluation", (_method_file(study, run.base),))


def conversion_code(study: Study, base: str) -> Code:
    """The code that converts the checkpoint of a base."""
    return Code("models", (_method_file(study, base),))


def _method_file(study: Study, base: str) -> str:
    return _file(METHODS[study.bases[base].method.name])


def _file(component: type) -> str:
    file = Path(inspect.getfile(component))
    return file.relative_to(PACKAGE).as_posix() if file.is_relative_to(PACKAGE) else str(file)


def _checkpoint_identity(study: Study, run: Run) -> dict[str, Any]:
    """What decides the checkpoint of a run: its training, or the file that a base comes from.

    Where config.yaml has a base with a file trained all the same, its new file tells the rules.
    """
    base = study.bases[run.base]
    if run.arm != BASE_ARM:
        return training_identity(study, run)
    if base.converted:
        return conversion_identity(study, run.base)
    trained = {} if base.pretraining is None else training_identity(study, run)
    return trained | _shipped(study, run)


def _shipped(study: Study, run: Run) -> dict[str, Any]:
    """The file of a shipped base, whose time tells the rules nothing."""
    checkpoint = study.bases[run.base].checkpoint
    if not isinstance(checkpoint, ShippedCheckpoint):
        return {}
    return {"shipped": checkpoint.sha256.get(run.base_seed)}


def reporting_identity(study: Study) -> dict[str, Any]:
    """What tables and figures read from the study besides the results.

    One for all of them: each takes seconds.
    """
    shown = {
        "title",
        "seeds",
        "separability",
        "tables",
        "reported_epoch",
        "sweep",
        "convergence",
        "stability",
    }
    content = study.model_dump(mode="json", include=shown)
    of_arms = {"label", "variant_of", "reference", "epochs"}
    # lists, because their order is that of rows and colours
    content["arms"] = [
        [name, arm.model_dump(mode="json", include=of_arms), study.criterion_names(name)]
        for name, arm in study.arms.items()
    ]
    content["bases"] = [
        {
            "name": name,
            "label": base.label,
            "published": base.published,
            "method": dataclasses.asdict(base.method),
            "batch_size": None if base.pretraining is None else base.pretraining.batch_size,
            "method_params": None if base.pretraining is None else base.pretraining.method_params,
            "epochs": base.continued.epochs,
        }
        for name, base in study.bases.items()
    ]
    of_paradigms = {"label", "kind", "dataset", "features"}
    content["paradigms"] = {
        name: paradigm.model_dump(mode="json", include=of_paradigms)
        for name, paradigm in study.paradigms.items()
    }
    content["information"] = None if study.information is None else study.information.bases
    return content
