"""What decides a checkpoint or a result, as plain values.

What differs in these is made again, what does not is kept.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from e2mc.study import BASE_ARM, Run, Study


def training_identity(study: Study, run: Run) -> dict[str, Any]:
    """What decides the checkpoint of a run, as plain values."""
    base = study.bases[run.base]
    if run.arm == BASE_ARM and base.converted:
        return conversion_identity(study, run.base)
    return {
        "spec": dataclasses.asdict(study.training_spec(run)),
        "images": study.training_images(run),
        "data": study.data.training_identity(),
    }


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
    if paradigm == "embeddings":
        recipe = study.bases[run.base].continued
        mapping = study.entropy_mapping(run.base)
        protocol: Any = {"batch_size": recipe.batch_size, "mapping": mapping}
    elif paradigm == "information":
        protocol = dataclasses.asdict(study.instrument)
    else:
        known = study.paradigms.get(paradigm)
        protocol = None if known is None else known.model_dump(mode="json")
    identity = {"training": training_identity(study, run), "paradigm": protocol}
    dataset = study.paradigms[paradigm].dataset if paradigm in study.paradigms else "images"
    return identity | study.data.evaluation_identity(dataset)
