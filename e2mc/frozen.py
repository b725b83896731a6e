"""Paradigms with a frozen backbone: features of data sets, and what is learned from them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.code_hash import Code
from e2mc.data.images import Splits
from e2mc.data.subsets import stratified_subset
from e2mc.errors import InputError
from e2mc.evaluation.epochs import EpochState
from e2mc.evaluation.features import (
    CachedFeatures,
    Moments,
    ViewFeatures,
    extract_features,
    feature_batches,
    whiten,
    whitening,
)
from e2mc.evaluation.linear import HeldOut, Probe, linear_probe, train_probes
from e2mc.evaluation.metrics import rank_summary, summary_of_covariance
from e2mc.evaluation.svm import svm_probe
from e2mc.state import fingerprint, sha256
from e2mc.study import SVM, Labelled, Linear, Study

# the scores, and details of how they came about
ScoresAndDetails = tuple[list[dict[str, Any]], dict[str, Any]]


class FrozenBackbone:
    """One checkpoint's backbone; each data set's features are computed when first asked for.

    Args:
        study: whose data sets and paradigms.
        checkpoint: the model.
        datasets: name -> file.
        device: where to compute.
    """

    def __init__(
        self, study: Study, checkpoint: Path, datasets: Mapping[str, Path], device: str
    ) -> None:
        self.study, self.checkpoint, self.datasets = study, checkpoint, datasets
        self.device = device
        self.backbone = load_checkpoint(checkpoint).load_backbone()
        self.splits = functools.cache(self._splits)
        self.features = functools.cache(self._features)
        self.whitener = functools.cache(self._whitener)
        self.moments = functools.cache(self._moments)

    def _splits(self, dataset: str) -> Splits:
        return Splits.load(self.datasets[dataset])

    def _settings(self, dataset: str, spatial: bool) -> dict[str, Any]:
        return {
            "view": self.study.data.view(dataset),
            "normalisation": self.study.data.normalisation_of(dataset),
            "device": self.device,
            "spatial": spatial,
        }

    def _features(self, dataset: str, split: str, spatial: bool) -> tuple[Tensor, Tensor] | None:
        """Features and labels of one split, None where it has no images."""
        images = getattr(self.splits(dataset), split)
        if not len(images):
            return None
        return extract_features(
            self.backbone, images, **self._settings(dataset, spatial)
        ), images.labels

    def known(self, dataset: str, split: str, spatial: bool = False) -> tuple[Tensor, Tensor]:
        """Features and labels of a split that must have images."""
        found = self.features(dataset, split, spatial)
        if found is None:
            raise InputError(f"the {split} split of {dataset} has no images")
        return found

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

    # --- paradigms ---

    def svm(self, paradigm: SVM) -> ScoresAndDetails:
        """One linear SVM per class on spatial features."""
        features, labels = self.known(paradigm.dataset, "train", spatial=True)
        test_features, test_labels = self.known(paradigm.dataset, "test", spatial=True)
        return svm_probe(features, labels, test_features, test_labels, protocol=paradigm.protocol)

    def linear_cached(self, paradigm: Linear) -> ScoresAndDetails:
        """Linear heads on features that are computed once."""
        dataset = paradigm.dataset
        splits = self.splits(dataset)
        scores: list[dict] = []
        details: dict[str, Any] = {"rank": rank_summary(self.known(dataset, "train")[0])}
        for kind in paradigm.features:
            of_kind = partial(self._cached, dataset, kind)
            train, test = of_kind("train"), of_kind("test")
            assert train is not None and test is not None
            found, details[kind] = linear_probe(
                CachedFeatures(train[0]),
                splits.train.labels,
                label_subsets(paradigm, splits),
                HeldOut(test, of_kind("validation")),
                classes=len(splits.train.classes),
                protocol=paradigm.protocol,
                features=kind,
            )
            scores += found
        return scores, details

    def _cached(self, dataset: str, kind: str, split: str) -> tuple[Tensor, Tensor] | None:
        found = self.features(dataset, split, False)
        if found is None or kind == "raw":
            return found
        return whiten(found[0], *self.whitener(dataset)), found[1]

    def linear_streamed(
        self, paradigms: Mapping[str, Linear], state: Path
    ) -> dict[str, ScoresAndDetails]:
        """Linear heads on new random views in every epoch, all from the same passes.

        Args:
            paradigms: of one data set, with equal ``views`` and ``spatial``.
            state: where the state is kept after every epoch; to be deleted when the results are
                written.
        """
        first = next(iter(paradigms.values()))
        dataset, spatial = first.dataset, first.spatial
        assert first.views is not None
        splits = self.splits(dataset)
        labels = splits.train.labels.to(self.device)
        stream = ViewFeatures(
            self.backbone,
            splits.train,
            recipe=first.views,
            normalisation=self.study.data.normalisation_of(dataset),
            device=self.device,
            spatial=spatial,
        )
        probes = {
            (name, kind): Probe(
                stream.dim,
                labels,
                label_subsets(paradigm, splits),
                len(splits.train.classes),
                paradigm.protocol,
                kind,
                stream.positions,
            )
            for name, paradigm in paradigms.items()
            for kind in paradigm.features
        }
        kinds = {kind for _, kind in probes}
        held_out: dict[str, HeldOut] = {
            kind: self._held_out(dataset, spatial, kind) for kind in kinds
        }
        kept = EpochState(state, self._identity(paradigms))
        train_probes(stream, list(probes.values()), held_out, state=kept, what=", ".join(paradigms))
        shared: dict[str, Any] = {"trained_together": list(paradigms)}
        if "whitened" in kinds:
            shared["rank"] = summary_of_covariance(self.moments(dataset, spatial).covariance)
        results: dict[str, ScoresAndDetails] = {}
        for name, paradigm in paradigms.items():
            found = {kind: probes[name, kind].scores(held_out[kind]) for kind in paradigm.features}
            scores = list(itertools.chain.from_iterable(part for part, _ in found.values()))
            details = {kind: part for kind, (_, part) in found.items()}
            results[name] = scores, shared | details
        return results

    def _held_out(self, dataset: str, spatial: bool, kind: str) -> HeldOut:
        test = self.known(dataset, "test", spatial)
        validation = self.features(dataset, "validation", spatial)
        if kind == "raw":
            return HeldOut(test, validation)
        whitener = [part.to(self.device) for part in self.moments(dataset, spatial).whitening()]

        def transform(features: Tensor) -> Tensor:
            return whiten(features, *whitener)

        def transformed(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            values = [transform(piece.to(self.device)).cpu() for piece in part[0].split(8192)]
            return torch.cat(values), part[1]

        validation = None if validation is None else transformed(validation)
        return HeldOut(transformed(test), validation, transform)

    def _identity(self, paradigms: Mapping[str, Linear]) -> str:
        return fingerprint(
            {
                "checkpoint": sha256(self.checkpoint),
                "paradigms": {
                    name: paradigm.model_dump(mode="json") for name, paradigm in paradigms.items()
                },
                "data": {
                    name: self.study.data.evaluation_identity(paradigm.dataset)
                    for name, paradigm in paradigms.items()
                },
                "code": Code("evaluation").hash(),
            }
        )


def passes(paradigms: Mapping[str, Linear]) -> list[dict[str, Linear]]:
    """Which streamed paradigms are trained from the same passes over the images."""
    groups: dict[str, dict[str, Linear]] = {}
    for name, paradigm in paradigms.items():
        assert paradigm.views is not None
        views = asdict(paradigm.views) | {"spatial": paradigm.spatial, "set": paradigm.dataset}
        key = fingerprint(views) if paradigm.shared_pass else name
        groups.setdefault(key, {})[name] = paradigm
    return list(groups.values())


def label_subsets(paradigm: Labelled, splits: Splits) -> dict[int, Tensor]:
    """Probe seed -> the training images whose labels are used."""
    if paradigm.label_list is not None:
        return {seed: splits.lists[paradigm.label_list] for seed in paradigm.label_seeds}
    train = splits.train
    return {
        seed: stratified_subset(train.labels, paradigm.fraction, seed, train.classes)
        for seed in paradigm.label_seeds
    }
