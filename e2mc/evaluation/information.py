"""The instrument: entropy and reconstruction of a model's embeddings, which it does not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.data.source import Batch, ImageSource, recipe_of_each_view
from e2mc.data.subsets import evenly_spaced
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.entropy import mapped_entropy
from e2mc.errors import InputError
from e2mc.evaluation.metrics import score
from e2mc.evaluation.paradigm import Found, Paradigm
from e2mc.evaluation.subject import Subject
from e2mc.methods import Method
from e2mc.sphere import estimate, log_normaliser, reconstruction, surprisals

SEED = 0  # of the views: every model is measured on the same ones


@dataclass(frozen=True, kw_only=True)
class Information(Paradigm):
    """Entropy, reconstruction error and marginal entropy of the embeddings of training images.

    Args:
        images: how many of the training images, evenly spaced, at least 2; estimates at different
            numbers do not compare.
        kappa: > 0, concentration of the von Mises-Fisher kernels.
    """

    kind = "information"
    label = "information"
    dataset = "images"
    job: ClassVar[str] = "measure"
    on_embeddings: ClassVar[bool] = True

    images: int = 512
    kappa: float = 10.0

    def __post_init__(self) -> None:
        if self.images < 2:
            raise InputError(f"images must be at least 2, found {self.images}")
        if not self.kappa > 0:
            raise InputError(f"kappa must be positive, found {self.kappa}")

    def score(self, subject: Subject, name: str) -> Found:
        assert subject.normalisation is not None, "the subject does not say how views are drawn"
        images = subject.splits(self.dataset).train
        values = self.measure(
            subject.method(), images, subject.views, subject.normalisation, subject.device
        )
        return Found(
            [score(key, v, split="train", features="embeddings") for key, v in values.items()], {}
        )

    @torch.no_grad()
    def measure(
        self,
        method: Method,
        images: ImageSource,
        recipes: Sequence[ViewRecipe],
        normalisation: Normalisation,
        device: str = "cpu",
    ) -> dict[str, float]:
        """`information` of a method's embeddings of two global views of some images.

        Always the same views, in evaluation mode: nothing of the method changes, its training goes
        on as if it had not been measured.

        Args:
            method: on the device.
            images: of which evenly spaced ones are taken, so that sorted classes all take part; all
                of them if there are fewer.
            recipes: the method's views; the first two are taken.
            normalisation: of the views.
            device: where to compute.
        """
        flat = recipe_of_each_view(recipes)[:2]
        pair = [replace(recipe, count=1) for recipe in flat]
        indices = evenly_spaced(len(images), self.images)
        parts = [Batch(part, SEED + k) for k, part in enumerate(indices.split(256))]
        training = method.training
        method.eval()
        views = images.views(parts, pair, normalisation, device)
        embeddings = [method.embed(both) for both in views]
        method.train(training)
        z1, z2 = (torch.cat(parts) for parts in zip(*embeddings, strict=True))
        return information(z1, z2, self.kappa)


def information(z1: Tensor, z2: Tensor, kappa: float) -> dict[str, float]:
    """Entropy, reconstruction error and marginal entropy of the embeddings of two views.

    Args:
        z1, z2: (N, D), not normalised.
        kappa: > 0.

    Returns:
        "entropy", the plug-in estimate on the unit sphere, mean over the views;
        "reconstruction", the error; "bound", entropy less error, a lower bound on the views'
        mutual information up to the bias of the estimate; "marginal_entropy", the mean m-spacings
        entropy of the coordinates mapped by the normal distribution function, as in E2MC; and
        "uniform", the entropy of the uniform law on the sphere, which is the highest there is. All
        in nats.
    """
    e1, e2 = normalize(z1), normalize(z2)
    # not `entropy`: that would join the samples of all ranks
    entropies = [estimate(surprisals(e, e, kappa)) for e in (e1, e2)]
    entropy = float(sum(entropies)) / 2
    error = float(reconstruction(e1, e2, kappa))
    marginal = float(sum(mapped_entropy(z, "normal").mean() for z in (z1, z2))) / 2
    return {
        "entropy": entropy,
        "reconstruction": error,
        "bound": entropy - error,
        "marginal_entropy": marginal,
        "uniform": float(log_normaliser(0.0, z1.shape[1])),
    }
