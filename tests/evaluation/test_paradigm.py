"""What every paradigm has, what studies may say of labels, and which share their passes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import pytest
import torch

from e2mc.data.images import Splits
from e2mc.data.subsets import stratified_subset
from e2mc.errors import InputError
from e2mc.evaluation import COLUMNS, PARADIGMS
from e2mc.evaluation.metrics import score
from e2mc.evaluation.paradigm import Column, Counts, Found, Labelled, Paradigm, Work, together

IMAGES = Counts(train=100, validation=0, test=20, lists={"1percent": 8})
OF_TEN_CLASSES = replace(IMAGES, classes=10)
NOTHING = Counts(train=None, validation=None, test=None, lists={})


@pytest.mark.parametrize("kind", PARADIGMS)
def test_every_paradigm_says_what_it_is(kind):
    paradigm = PARADIGMS[kind]
    told = {field.name: field.default for field in fields(paradigm)} | vars(paradigm)
    assert told["kind"] == kind
    assert paradigm.job in ("evaluate_frozen", "evaluate_fine_tuned", "measure")
    assert (paradigm in COLUMNS) == issubclass(paradigm, Column)
    if paradigm in COLUMNS:
        assert paradigm.stage and "metric" in dir(paradigm)
    assert paradigm.score is not Paradigm.score
    assert paradigm.__doc__ and paradigm.__doc__[0].isupper()


def test_columns_come_first_and_the_rest_is_measured_in_every_study():
    assert list(PARADIGMS)[: len(COLUMNS)] == [kind.kind for kind in COLUMNS]
    assert set(PARADIGMS) - {kind.kind for kind in COLUMNS} == {
        "separability",
        "embeddings",
        "information",
    }


@dataclass(frozen=True, kw_only=True)
class Guess(Labelled):
    """Scores nothing."""

    job: ClassVar[str] = "evaluate_frozen"
    metric: ClassVar[str] = "top1"

    kind: Literal["guess"] = "guess"
    group: str = ""

    def pass_key(self, name: str) -> Any:
        return self.group or name

    def score(self, subject, name):
        return Found([score("top1", float(len(name)))], {"name": name})


def test_paradigm_that_says_no_more_takes_nothing_and_is_scored_alone():
    guess = Guess(label="x")
    guess.check(NOTHING)
    assert guess.work(NOTHING) == Work() and guess.kinds_of_features == ("raw",)
    assert not guess.on_embeddings and not guess.selects_epochs and guess.stage == ""
    assert guess.values()["fraction"] == 1.0
    found = Guess.score_together({"ab": guess, "abc": guess}, subject=None)
    assert {name: f.scores[0]["value"] for name, f in found.items()} == {"ab": 2, "abc": 3}


def test_equal_keys_of_one_kind_share_their_passes():
    @dataclass(frozen=True, kw_only=True)
    class Other(Guess):
        kind: Literal["other"] = "other"

    one, two = Guess(label="1", group="g"), Guess(label="2", group="g")
    alone, elsewhere = Guess(label="3"), Guess(label="4", group="h")
    other = Other(label="5", group="g")
    found = together(
        {"one": one, "alone": alone, "two": two, "elsewhere": elsewhere, "other": other}
    )
    assert [list(group) for group in found] == [["one", "two"], ["alone"], ["elsewhere"], ["other"]]
    assert list(together({})) == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fraction": 0.0}, "fraction must be above 0 and at most 1, found 0"),
        ({"fraction": 1.5}, "fraction must be above 0 and at most 1, found 1.5"),
        ({"fraction": float("nan")}, "fraction must be above 0"),
        (
            {"fraction": 0.5, "label_list": "1percent"},
            "fraction 0.5 and label_list 1percent:",
        ),
        ({"fraction": 0.5, "labels_per_class": 4}, "fraction 0.5 and labels_per_class 4: leave"),
        ({"labels_per_class": 4, "label_list": "1percent"}, "labels_per_class 4 and label_list"),
        ({"labels_per_class": 0}, "labels_per_class must be a whole number of at least 1, found 0"),
        ({"labels_per_class": 2.5}, "labels_per_class must be a whole number"),
        ({"label_seeds": ()}, r"one or more seeds of at least 0, found \(\)"),
        ({"label_seeds": (0, -1)}, "one or more seeds of at least 0"),
    ],
)
def test_what_a_study_may_not_say_of_labels(params, message):
    with pytest.raises(InputError, match=message):
        Guess(label="x", **params)


def test_label_list_must_be_one_of_the_data_set():
    guess = Guess(label="x", label_list="10percent")
    with pytest.raises(
        InputError, match="^label_list: list '10percent' does not exist, .*1percent"
    ):
        guess.check(IMAGES)
    Guess(label="x", label_list="1percent").check(IMAGES)


def test_number_of_labels():
    assert Guess(label="x").labelled(IMAGES) == 100
    assert Guess(label="x", fraction=0.256).labelled(IMAGES) == 26
    assert Guess(label="x", label_list="1percent").labelled(IMAGES) == 8
    assert Guess(label="x", labels_per_class=4).labelled(OF_TEN_CLASSES) == 40


def test_every_class_must_have_so_many_images():
    Guess(label="x", labels_per_class=10).check(OF_TEN_CLASSES)
    with pytest.raises(
        InputError, match="^labels_per_class: 11 of each of 10 classes are 110, more than the 100"
    ):
        Guess(label="x", labels_per_class=11).check(OF_TEN_CLASSES)


def test_choices_are_made_on_validation_images_or_else_on_those_of_the_test():
    assert IMAGES.held_out == 20
    assert Counts(train=100, validation=10, test=20, lists={}).held_out == 10
    assert NOTHING.held_out is None


def test_labels_are_drawn_for_each_seed(splits):
    subsets = Guess(label="x", fraction=0.5, label_seeds=(0, 3)).subsets(splits)
    assert list(subsets) == [0, 3] and not torch.equal(subsets[0], subsets[3])
    for seed, subset in subsets.items():
        assert torch.equal(subset, stratified_subset(splits.train.labels, 0.5, seed))
        assert torch.bincount(splits.train.labels[subset]).tolist() == [5] * 6


def test_so_many_labels_of_every_class_are_drawn_for_each_seed(splits):
    subsets = Guess(label="x", labels_per_class=3, label_seeds=(0, 3)).subsets(splits)
    assert list(subsets) == [0, 3] and not torch.equal(subsets[0], subsets[3])
    for seed, subset in subsets.items():
        assert torch.bincount(splits.train.labels[subset]).tolist() == [3] * 6
        half = stratified_subset(splits.train.labels, 0.5, seed)
        assert set(subset.tolist()) <= set(half.tolist())


def test_published_list_is_the_same_for_every_seed(splits):
    listed = Splits(
        splits.train, splits.validation, splits.test, lists={"1percent": torch.tensor([3, 5, 7])}
    )
    subsets = Guess(label="x", label_list="1percent", label_seeds=(0, 1)).subsets(listed)
    assert all(subset.tolist() == [3, 5, 7] for subset in subsets.values())
