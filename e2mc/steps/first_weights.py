"""First weights of E2MC for an arm of a study, before anything is run."""

from __future__ import annotations

from pathlib import Path

from e2mc.data.source import ImageSource
from e2mc.steps.checkpoints import converted_base
from e2mc.steps.device import resolve_device
from e2mc.study import OwnCheckpoint, Run, Study
from e2mc.training.first_weights import first_weights


def suggested_weights(
    study: Study, base: str, arm: str, images: ImageSource, device: str = "auto"
) -> dict[str, float]:
    """What `E2MC.suggest_weights` says on the first batches of an arm's first run.

    Args:
        study: whose arm it is; its base comes from a file of one's own.
        base, arm: of the run; one of the arm's criteria is "e2mc".
        images: those that the run is trained on.
        device: where to compute.
    """
    checkpoint = study.bases[base].checkpoint
    assert isinstance(checkpoint, OwnCheckpoint)
    return first_weights(
        study.training_spec(Run(base, arm, study.seeds.base[0], study.seeds.continuation[0])),
        images,
        converted_base(study, base, Path(checkpoint.path)),
        device=resolve_device(device),
    )
