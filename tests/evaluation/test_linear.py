"""The linear paradigm: on features that are computed once, and on fresh views."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from e2mc.data.images import Splits
from e2mc.data.views import ViewRecipe
from e2mc.errors import InputError
from e2mc.evaluation.features import CachedFeatures
from e2mc.evaluation.heads import LinearProtocol
from e2mc.evaluation.linear import Linear
from e2mc.evaluation.metrics import rank_summary
from e2mc.evaluation.paradigm import Counts
from e2mc.evaluation.probes import HeldOut, linear_probe

ONE_RATE = LinearProtocol(epochs=3, batch_size=8, learning_rates=(0.3,))
TWO_RATES = LinearProtocol(epochs=3, batch_size=8, learning_rates=(0.1, 0.3))
VIEWS = ViewRecipe(28, crop_scale=(0.5, 1.0))
COUNTS = Counts(train=60, validation=24, test=36, lists={})


def linear(**changes):
    return Linear(**{"label": "linear", "protocol": ONE_RATE} | changes)


def values(found):
    keys = ("features", "selection", "split", "probe_seed", "metric")
    return {tuple(score[key] for key in keys): score["value"] for score in found.scores}


def test_scores_are_those_of_heads_on_cached_features(subject):
    paradigm = linear(fraction=0.5, label_seeds=(0, 2), protocol=TWO_RATES)
    found = paradigm.score(subject, "linear")
    splits, expected, details = subject.splits("images"), [], {}
    for kind in ("raw", "whitened"):
        train, validation, test = (
            subject.of_kind(kind, "images", split) for split in ("train", "validation", "test")
        )
        scores, details[kind] = linear_probe(
            CachedFeatures(train[0]),
            splits.train.labels,
            paradigm.subsets(splits),
            HeldOut(test, validation),
            classes=6,
            protocol=TWO_RATES,
            features=kind,
        )
        expected += scores
    assert found.scores == expected
    rank = rank_summary(subject.known("images", "train")[0])
    assert found.details == {"rank": rank, **details}
    assert details["raw"]["labels"] == 30
    metrics = {key[-1] for key in values(found)}
    assert metrics == {"top1", "top5"}


def test_one_kind_of_features_alone(subject):
    both, raw = (linear(features=f).score(subject, "x") for f in (("raw", "whitened"), ("raw",)))
    assert {score["features"] for score in raw.scores} == {"raw"}
    assert raw.scores == [score for score in both.scores if score["features"] == "raw"]
    assert linear(features=("raw",)).kinds_of_features == ("raw",)


def test_paradigms_with_equal_views_learn_from_the_same_passes(subject, monkeypatch):
    small = linear(views=VIEWS, fraction=0.5)
    pair = {"small": small, "whole": linear(views=VIEWS)}
    seen = []
    views = type(subject.splits("images").train).views

    def counted(images, batches, *rest):
        batches = list(batches)
        seen.append(sum(len(batch.indices) for batch in batches))
        return views(images, batches, *rest)

    monkeypatch.setattr(type(subject.splits("images").train), "views", counted)
    found = Linear.score_together(pair, subject)
    assert sum(seen) == 3 * 60  # epochs x images, for both
    for name, labels in (("small", 30), ("whole", 60)):
        assert found[name].details["trained_together"] == ["small", "whole"]
        assert found[name].details["raw"]["labels"] == labels
        assert found[name].details["rank"]["effective_rank"] > 1
        assert {score["features"] for score in found[name].scores} == {"raw", "whitened"}


def test_cached_paradigms_are_scored_one_by_one(subject):
    pair = {"half": linear(fraction=0.5), "whole": linear()}
    found = Linear.score_together(pair, subject)
    assert found["half"].scores == pair["half"].score(subject, "half").scores
    assert found["whole"].scores == pair["whole"].score(subject, "whole").scores


def test_streamed_heads_learn(splits, new_subject):
    protocol = LinearProtocol(epochs=20, batch_size=8, learning_rates=(0.3,))
    paradigm = linear(views=ViewRecipe(28, flip=0.0), features=("whitened",), protocol=protocol)
    found = Linear.score_together({"x": paradigm}, new_subject(splits))["x"]
    assert values(found)["whitened", "last", "test", 0, "top1"] > 60  # chance is 17


def test_spatial_features_of_views(subject):
    paradigm = linear(views=VIEWS, features=("raw",), spatial=True)
    found = Linear.score_together({"x": paradigm}, subject)["x"]
    assert "rank" not in found.details  # of whitened features alone
    assert values(found)["raw", "last", "test", 0, "top1"] >= 0


def test_without_validation_images_the_test_images_choose(splits, new_subject):
    empty = splits.validation.subset(torch.arange(0))
    found = linear().score(new_subject(Splits(splits.train, empty, splits.test)), "x")
    assert {score["split"] for score in found.scores} == {"test"}
    assert found.details["raw"]["best_epoch_chosen_on"] == "test"


def test_who_shares_a_pass():
    one = linear(views=VIEWS)
    assert one.pass_key("a") == linear(views=VIEWS, fraction=0.5, label="y").pass_key("b")
    for other in (
        linear(views=replace(VIEWS, flip=0.0)),
        linear(views=VIEWS, spatial=True),
        linear(views=VIEWS, dataset="other"),
        linear(views=VIEWS, shared_pass=False),
        linear(),
    ):
        assert other.pass_key("b") != one.pass_key("a")
    assert linear().pass_key("a") != linear().pass_key("b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial": True}, "spatial and batch_norm need views: give the recipe"),
        ({"protocol": replace(ONE_RATE, batch_norm=True)}, "spatial and batch_norm need views"),
        ({"views": ViewRecipe(28, count=2)}, r"views\.count must be 1, found 2"),
        ({"fraction": 2.0}, "fraction must be above 0"),
    ],
)
def test_what_a_study_may_not_say(changes, message):
    with pytest.raises(InputError, match=message):
        linear(**changes)


def test_rates_are_not_chosen_on_test_images():
    linear(protocol=TWO_RATES).check(COUNTS)
    linear().check(replace(COUNTS, validation=0))
    with pytest.raises(
        InputError, match=r"^protocol\.learning_rates: 2 rates .* data\.sets\.images"
    ):
        linear(protocol=TWO_RATES).check(replace(COUNTS, validation=0))
    # a study that does not say may have some
    linear(protocol=TWO_RATES).check(replace(COUNTS, validation=None))


def test_work_of_cached_features_and_of_views():
    cached = linear(fraction=0.5).work(COUNTS)
    assert cached.features == {("images", s, False) for s in ("train", "validation", "test")}
    assert (cached.streamed, cached.trained) == (0, 0)
    streamed = linear(views=VIEWS, fraction=0.5, features=("raw",), spatial=True).work(COUNTS)
    assert streamed.features == {("images", s, True) for s in ("validation", "test")}
    assert streamed.streamed == 3 * 30
    whitened = linear(views=VIEWS).work(replace(COUNTS, validation=0))
    assert whitened.features == {("images", s, False) for s in ("train", "test")}


def test_what_a_result_says_of_its_protocol():
    told = linear(views=VIEWS).values()
    assert told["protocol"]["learning_rates"] == (0.3,) and told["views"]["size"] == 28
    assert told["kind"] == "linear" and told["dataset"] == "images"
