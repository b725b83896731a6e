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
from e2mc.data.images import Splits, read_digest
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.errors import InputError
from e2mc.evaluation.bank import views_bank
from e2mc.evaluation.epochs import EpochState
from e2mc.evaluation.features import Moments, extract_features, feature_batches, whiten, whitening
from e2mc.evaluation.frozen import AS_IT_IS, FrozenPass
from e2mc.evaluation.seeds import FIRST, EvaluationSeed
from e2mc.methods import Method
from e2mc.models.backbone import Backbone
from e2mc.state import fingerprint

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
        origin: of the features: the same for a bank of views that another evaluation can take up.
        frozen_pass: how images pass the backbone where it does not learn.
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
        origin: str = "",
        frozen_pass: FrozenPass = AS_IT_IS,
    ) -> None:
        self.checkpoint, self.datasets, self.device = checkpoint, datasets, device
        self.views, self.normalisation = views, normalisation
        self.what, self._states, self._identity = what, states, identity
        self._origin, self.frozen_pass = origin, frozen_pass
        self.seed = FIRST
        self._kept: list[EpochState] = []
        self._banks: dict[str, Tensor] = {}
        self._bank_files: list[Path] = []
        self._backbone = functools.cache(self._load_backbone)
        self._frozen = functools.cache(lambda: frozen_pass.of(self.backbone))
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

    @property
    def frozen_backbone(self) -> Backbone:
        """The backbone as images pass it where it does not learn."""
        return self._frozen()

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

    def bank(
        self,
        name: str,
        dataset: str,
        indices: Tensor,
        recipe: ViewRecipe,
        views: int,
        spatial: bool,
    ) -> Tensor:
        """Features of random views of some training images, the same for every evaluation seed.

        Args:
            name: of the bank's file.
            dataset: whose training images.
            indices: int64 (M,), which of them.
            recipe: of the views.
            views: how many of each image.
            spatial: features pooled to 2 x 2 places.

        Returns:
            bfloat16 (views, M, D), see ``views_bank``.
        """
        if name not in self._banks:
            path, state = None, None
            if self._states is not None:
                path = self._states / f"{name}.bank"
                found = self.datasets[dataset]
                values: list[Any] = [
                    read_digest(found.path),
                    str(found.normalisation),
                    indices.tolist(),
                ]
                values += [str(recipe), views, spatial, str(self.frozen_pass), self._origin]
                identity = fingerprint({"bank": values})
                state = EpochState(path.with_suffix(".bank.state"), identity)
                self._bank_files += [path, state.path]
            self._banks[name] = views_bank(
                self.frozen_backbone,
                self.splits(dataset).train,
                indices,
                views=views,
                recipe=recipe,
                normalisation=self.datasets[dataset].normalisation,
                device=self.device,
                spatial=spatial,
                path=path,
                state=state,
                what=f"{self.what} bank of {name}",
            )
        return self._banks[name]

    def forget_states(self, *, keep_banks: bool = False) -> None:
        """When what they were kept for is written; banks of views may stay for another time."""
        for path in [state.path for state in self._kept] + self._bank_files * (not keep_banks):
            path.unlink(missing_ok=True)

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
        return extract_features(self.frozen_backbone, images, **settings), images.labels

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
        for batch in feature_batches(
            self.frozen_backbone, train, **self._settings(dataset, spatial)
        ):
            moments = moments or Moments(batch.shape[1], batch.device)
            moments.add(batch)
        assert moments is not None, "features of no images"
        return moments
