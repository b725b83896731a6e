"""A checkpoint with its data sets on a device: what every paradigm scores."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.data.images import Splits
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.errors import InputError
from e2mc.evaluation.epochs import EpochState
from e2mc.evaluation.features import Moments, extract_features, feature_batches, whiten, whitening
from e2mc.evaluation.seeds import EvaluationSeed
from e2mc.methods import Method
from e2mc.models.backbone import Backbone

LabelledFeatures = tuple[Tensor, Tensor]  # (N, D) on the CPU, and labels


@dataclass(frozen=True)
class DataSet:
    """A prepared data set, and how its images are scored.

    Attributes:
        path: file of ``Splits``.
        view: how the images are resized.
        normalisation: mean and standard deviation per channel.
    """

    path: Path
    view: PlainView
    normalisation: Normalisation


class Subject:
    """A checkpoint's model; splits and features are computed once, when they are first asked for.

    Args:
        checkpoint: the model.
        datasets: name -> data set.
        device: where to compute.
        views: of the method's training, for what scores embeddings.
        normalisation: of these views.
        what: name in the progress display.
        states: folder in which long evaluations keep their state; None keeps none.
        identity: of the evaluation: a state that was kept with another one is not taken up.
    """

    def __init__(
        self,
        checkpoint: Path,
        datasets: Mapping[str, DataSet],
        device: str,
        *,
        views: tuple[ViewRecipe, ...] = (),
        normalisation: Normalisation | None = None,
        what: str = "",
        states: Path | None = None,
        identity: str = "",
    ) -> None:
        self.checkpoint, self.datasets, self.device = checkpoint, datasets, device
        self.views, self.normalisation = views, normalisation
        self.what, self._states, self._identity = what, states, identity
        self.seed = EvaluationSeed()
        self._kept: list[EpochState] = []
        self._backbone = functools.cache(self._load_backbone)
        self.splits = functools.cache(self._splits)
        self.features = functools.cache(self._features)
        self.whitener = functools.cache(self._whitener)
        self.moments = functools.cache(self._moments)

    def with_seed(self, seed: EvaluationSeed) -> Subject:
        """The same subject under another evaluation seed; what either computes both have."""
        other = copy.copy(self)
        other.seed = seed
        return other

    @property
    def backbone(self) -> Backbone:
        """In evaluation mode, and shared: who trains it takes a copy."""
        return self._backbone()

    def _load_backbone(self) -> Backbone:
        return load_checkpoint(self.checkpoint).load_backbone()

    def method(self) -> Method:
        """A new copy of the method with its heads on the device: measuring may change its state."""
        return load_checkpoint(self.checkpoint).load_method().to(self.device)

    def state(self, name: str) -> EpochState | None:
        """Where an evaluation of many epochs keeps its state, if states are kept."""
        if self._states is None:
            return None
        name = f"{name}-seed{self.seed.number}" if self.seed.number else name
        self._kept.append(EpochState(self._states / f"{name}.state", self._identity))
        return self._kept[-1]

    def forget_states(self) -> None:
        """When what they were kept for is written."""
        for state in self._kept:
            state.path.unlink(missing_ok=True)

    def _splits(self, dataset: str) -> Splits:
        return Splits.load(self.datasets[dataset].path)

    def _settings(self, dataset: str, spatial: bool) -> dict[str, Any]:
        found = self.datasets[dataset]
        return {
            "view": found.view,
            "normalisation": found.normalisation,
            "device": self.device,
            "spatial": spatial,
        }

    def _features(self, dataset: str, split: str, spatial: bool = False) -> LabelledFeatures | None:
        """Features and labels of one split, None where it has no images."""
        images = getattr(self.splits(dataset), split)
        if not len(images):
            return None
        settings = self._settings(dataset, spatial)
        return extract_features(self.backbone, images, **settings), images.labels

    def known(self, dataset: str, split: str, spatial: bool = False) -> LabelledFeatures:
        """Features and labels of a split that must have images."""
        found = self.features(dataset, split, spatial)
        if found is None:
            raise InputError(f"the {split} split of {dataset} has no images")
        return found

    def of_kind(self, kind: str, dataset: str, split: str) -> LabelledFeatures | None:
        """Features "raw" or "whitened" by the training features, None where there are no images."""
        found = self.features(dataset, split, False)
        if found is None or kind == "raw":
            return found
        return whiten(found[0], *self.whitener(dataset)), found[1]

    def _whitener(self, dataset: str) -> tuple[Tensor, Tensor]:
        return whitening(self.known(dataset, "train")[0])

    def _moments(self, dataset: str, spatial: bool) -> Moments:
        """Of the training features, which are not kept."""
        moments: Moments | None = None
        train = self.splits(dataset).train
        for batch in feature_batches(self.backbone, train, **self._settings(dataset, spatial)):
            moments = moments or Moments(batch.shape[1], batch.device)
            moments.add(batch)
        assert moments is not None, "features of no images"
        return moments
