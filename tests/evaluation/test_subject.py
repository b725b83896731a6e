"""A checkpoint with its data sets: computed once, however many paradigms ask."""

from __future__ import annotations

import pytest
import torch

from e2mc.data.images import Splits
from e2mc.data.views import PlainView
from e2mc.evaluation import subject as module
from e2mc.evaluation.features import extract_features, whiten, whitening


@pytest.fixture
def counted(monkeypatch):
    """How many images went through the backbone, call by call."""
    calls = []

    def noted(backbone, images, **options):
        calls.append((len(images), options["spatial"]))
        return extract_features(backbone, images, **options)

    monkeypatch.setattr(module, "extract_features", noted)
    return calls


def test_features_are_computed_once_for_each_split_and_kind(subject, counted):
    first, labels = subject.known("images", "train")
    again, _ = subject.known("images", "train")
    assert again is first and counted == [(60, False)]
    subject.of_kind("raw", "images", "train")
    subject.of_kind("whitened", "images", "train")
    subject.of_kind("whitened", "images", "test")
    assert counted == [(60, False), (36, False)]
    subject.known("images", "test", spatial=True)
    assert counted[-1] == (36, True)
    assert torch.equal(labels, subject.splits("images").train.labels)


def test_features_are_those_of_the_backbone_in_the_data_sets_view(subject):
    found, _ = subject.known("images", "test")
    data = subject.datasets["images"]
    images = subject.splits("images").test
    expected = extract_features(
        subject.backbone, images, view=data.view, normalisation=data.normalisation
    )
    assert torch.equal(found, expected) and data.view == PlainView(28)
    assert not subject.backbone.training


def test_whitening_is_that_of_the_training_features(subject):
    train, _ = subject.known("images", "train")
    test, labels = subject.known("images", "test")
    found, same_labels = subject.of_kind("whitened", "images", "test")
    assert torch.equal(found, whiten(test, *whitening(train)))
    assert torch.equal(labels, same_labels)


def test_each_data_set_has_its_own(splits, new_subject):
    other = Splits(splits.test, splits.validation, splits.train)
    subject = new_subject(splits, other=other)
    assert len(subject.known("images", "train")[0]) == 60
    assert len(subject.known("other", "train")[0]) == 36
    assert not torch.equal(subject.whitener("images")[0], subject.whitener("other")[0])


def test_moments_are_those_of_the_training_features(subject):
    train, _ = subject.known("images", "train")
    torch.testing.assert_close(
        subject.moments("images", False).covariance, torch.cov(train.double().T)
    )


def test_split_without_images(splits, new_subject):
    empty = splits.validation.subset(torch.arange(0))
    subject = new_subject(Splits(splits.train, empty, splits.test))
    assert subject.features("images", "validation") is None
    assert subject.of_kind("whitened", "images", "validation") is None
    with pytest.raises(ValueError, match="the validation split of images has no images"):
        subject.known("images", "validation")


def test_method_is_a_new_copy_each_time(subject):
    first, second = subject.method(), subject.method()
    assert first is not second and subject.backbone is subject.backbone
    with torch.no_grad():
        next(first.parameters()).add_(1)
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_states_are_files_of_one_identity_and_are_forgotten(splits, new_subject, tmp_path):
    folder = tmp_path / "states"
    ours, other = (new_subject(splits, folder, identity) for identity in ("ours", "other"))
    state = ours.state("linear_1")
    state.save({"epoch": 3})
    assert state.path == folder / "linear_1.state"
    assert ours.state("linear_1").load() == {"epoch": 3}
    assert other.state("linear_1").load() is None
    ours.forget_states()
    assert not list(folder.iterdir())
    ours.forget_states()  # nothing left to forget


def test_without_a_folder_no_state_is_kept(subject):
    assert subject.state("linear_1") is None
    subject.forget_states()
