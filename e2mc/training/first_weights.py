"""First weights of E2MC for a run, from its first batches."""

from __future__ import annotations

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.criteria import create_criterion
from e2mc.criteria.e2mc import E2MC
from e2mc.data.source import ImageSource
from e2mc.methods.base import trainable
from e2mc.training.loop import first_outputs
from e2mc.training.spec import TrainingSpec

BATCHES = 4


def first_weights(
    spec: TrainingSpec, images: ImageSource, start: Checkpoint, *, device: str = "cpu"
) -> dict[str, float]:
    """What `E2MC.suggest_weights` says, the mean over the first batches of a run.

    Args:
        spec: the run; one of its criteria is "e2mc", whose mapping and window count.
        images, start, device: as for ``pretrain``.

    Returns:
        "entropy_weight" and "covariance_weight".
    """
    params = next(c.params for c in spec.criteria if c.name == "e2mc")
    criterion = create_criterion("e2mc", **params).to(device)
    assert isinstance(criterion, E2MC)
    found = [
        criterion.suggest_weights(
            *output.embeddings[: method.global_views],
            loss=output.loss,
            parameters=trainable(method),
        )
        for method, output in first_outputs(spec, images, start, batches=BATCHES, device=device)
    ]
    return {name: sum(one[name] for one in found) / len(found) for name in found[0]}
