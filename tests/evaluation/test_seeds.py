"""Evaluation seeds: what they change, and that seed 0 is what there was without them."""

from __future__ import annotations

import torch

from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.evaluation.features import CachedFeatures, ViewFeatures, epoch_batches
from e2mc.evaluation.finetune import FineTuneProtocol, fine_tune
from e2mc.evaluation.heads import LinearProtocol
from e2mc.evaluation.probes import HeldOut, Probe, linear_probe
from e2mc.evaluation.seeds import EvaluationSeed
from e2mc.models import create_backbone

NORMALISATION = Normalisation((0.4,), (0.2,))


def test_seed_zero_changes_nothing_and_others_keep_the_labels_apart():
    none, first, second = (EvaluationSeed(number) for number in (0, 1, 2))
    for label_seed in (0, 1, 7, 1000):
        assert none.of(label_seed) == none.order_of(label_seed) == label_seed
    seeds = {seed.of(label) for seed in (none, first, second) for label in range(1000)}
    assert len(seeds) == 3000


def test_order_may_be_the_same_for_all_seeds():
    seed = EvaluationSeed(3, same_order=True)
    assert seed.order_of(5) == 5 != seed.of(5)
    images = torch.arange(40)
    plain = epoch_batches(images, 8, 0, 2)
    quirk = epoch_batches(images, 8, seed.of(0), 2, seed.order_of(0))
    other = epoch_batches(images, 8, seed.of(0), 2)
    for one, alike, apart in zip(plain, quirk, other, strict=True):
        assert torch.equal(one.indices, alike.indices)
        assert one.seed != alike.seed == apart.seed  # of the views
    assert not torch.equal(plain[0].indices, other[0].indices)


def blobs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(120) % 4
    return torch.randn(120, 6, generator=generator) + 0.5 * torch.eye(6)[labels], labels


def test_heads_begin_elsewhere_under_another_seed():
    _, labels = blobs()
    subsets = {0: torch.arange(120), 4: torch.arange(120)}
    made = [
        Probe(6, labels, subsets, 4, LinearProtocol(), seed=EvaluationSeed(number)).heads.weight
        for number in (0, 1)
    ]
    plain = Probe(6, labels, subsets, 4, LinearProtocol()).heads.weight
    assert torch.equal(made[0], plain)
    assert not any(torch.equal(one, other) for one in made[0] for other in made[1])


def test_probe_under_seed_zero_is_the_probe_without_one():
    features, labels = blobs()
    held_out = HeldOut(blobs(1), blobs(2))
    settings = {"classes": 4, "protocol": LinearProtocol(epochs=2, batch_size=16)}

    def scores(order, **options):
        stream = CachedFeatures(features, order)
        subsets = {0: torch.arange(120)}
        return linear_probe(stream, labels, subsets, held_out, **settings, **options)

    first, second = EvaluationSeed(0), EvaluationSeed(1)
    plain = scores(0)
    assert scores(first.order_of(0), seed=first) == plain
    assert scores(second.order_of(0), seed=second) != plain


def grey(count):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 2, ("a", "b"))


def test_views_of_another_seed_are_others_in_the_same_order():
    backbone, images = create_backbone("resnet-small", 1), grey(12)

    def epoch(seed):
        stream = ViewFeatures(
            backbone,
            images,
            recipe=ViewRecipe(28),
            normalisation=NORMALISATION,
            seed=seed.of(0),
            order_seed=seed.order_of(0),
        )
        return next(stream.epoch(0, torch.arange(12)))

    (plain, order), (views, same) = epoch(EvaluationSeed()), epoch(EvaluationSeed(1, True))
    assert torch.equal(order, same) and not torch.allclose(plain, views)


def test_fine_tuning_under_another_seed_keeps_its_labels():
    images = grey(16)

    def tuned(seed):
        scores, details = fine_tune(
            create_backbone("resnet-small", 1),
            images,
            torch.arange(8),
            images,
            images,
            protocol=FineTuneProtocol(epochs=1, batch_size=4),
            normalisation=NORMALISATION,
            view=PlainView(28),
            seed=2,
            evaluation_seed=seed,
        )
        return {score["probe_seed"] for score in scores}, details["training_loss"]

    torch.manual_seed(0)
    seeds, plain = tuned(EvaluationSeed())
    torch.manual_seed(0)
    assert tuned(EvaluationSeed(0)) == (seeds, plain)
    torch.manual_seed(0)
    others, losses = tuned(EvaluationSeed(1))
    assert seeds == others == {2} and losses != plain
