from __future__ import annotations

import math

import pytest
import torch

from e2mc.checkpoints.checkpoint import Checkpoint, CheckpointError
from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.evaluation.embeddings import Embeddings, embedding_statistics, sample_embeddings
from e2mc.evaluation.metrics import (
    covariance_spectrum,
    effective_rank,
    power_law_exponent,
)
from e2mc.methods import create_method
from e2mc.models import create_backbone


def statistics(z, **options):
    scores, details = embedding_statistics([z], **options)
    return {score["metric"]: score["value"] for score in scores}, details


def normal(n=2000, d=16, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_independent_normal_coordinates_are_uniform_uncorrelated_and_of_full_rank():
    found, details = statistics(normal())
    assert found["marginal_entropy"] == pytest.approx(0, abs=0.03)
    assert found["correlation_rms"] == pytest.approx(1 / math.sqrt(2000), rel=0.2)
    assert found["embedding_rank"] == pytest.approx(16, rel=0.02)
    assert details["correlations"]["pairs"] == 16 * 15 // 2
    assert sum(details["spectrum"]["share"]) == pytest.approx(1, abs=1e-2)


def test_mixed_coordinates_are_correlated_and_of_lower_rank():
    z = normal(d=4) @ torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    found, details = statistics(z)
    assert found["embedding_rank"] < 4.01
    assert found["correlation_rms"] > 0.3
    assert details["spectrum"]["share"][4:] == pytest.approx([0] * 12, abs=1e-6)


def test_narrow_coordinates_have_less_entropy():
    # Phi(s x) is nearly s x / sqrt(2 pi) + 1/2; the estimate is a little below the entropy
    wide, narrow = (statistics(scale * normal())[0] for scale in (1.0, 0.1))
    expected = 0.5 * math.log(2 * math.pi * math.e * 0.01 / (2 * math.pi))
    assert narrow["marginal_entropy"] == pytest.approx(expected, abs=0.1)
    assert wide["marginal_entropy"] > narrow["marginal_entropy"] + 1


def test_the_map_is_the_one_asked_for():
    logistic = torch.rand(2000, 4, generator=torch.Generator().manual_seed(0)).logit()
    assert statistics(logistic, mapping="logistic")[0]["marginal_entropy"] > -0.03
    assert statistics(logistic, mapping="normal")[0]["marginal_entropy"] < -0.1


def test_densities_integrate_to_one():
    _, details = statistics(normal(d=9))
    marginals, correlations = details["marginals"], details["correlations"]
    assert marginals["coordinates"] == [0, 2, 5, 8]
    for density in marginals["densities"]:
        assert sum(density) / len(density) == pytest.approx(1, abs=1e-3)
    width = correlations["edges"][1] - correlations["edges"][0]
    assert sum(correlations["density"]) * width == pytest.approx(1, abs=1e-3)


def test_constant_coordinates_are_counted_and_do_no_harm():
    z = normal(d=6)
    z[:, 2] = 0.5
    found, details = statistics(z)
    assert details["correlations"]["constant_coordinates"] == 1
    assert details["correlations"]["pairs"] == 10
    assert all(math.isfinite(value) for value in found.values())
    collapsed, _ = statistics(torch.zeros(50, 4))
    assert (collapsed["correlation_rms"], collapsed["embedding_rank"]) == (0.0, 0.0)


@pytest.fixture
def images():
    pixels = torch.randint(256, (90, 1, 14, 14), generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels.to(torch.uint8), torch.arange(90) % 3, ("a", "b", "c"))


def checkpoint(**params):
    torch.manual_seed(0)
    method = create_method("swav", create_backbone("resnet-small", 1), **params)
    kept = {k: v for k, v in method.state_dict().items() if k not in method.run_state}
    return Checkpoint("resnet-small", 1, "swav", params, kept, epochs=1)


SWAV = {"hidden_dim": 16, "dim": 8, "prototypes": 4, "queue_length": 64}
OPTIONS = {"normalisation": Normalisation((0.3,), (0.3,)), "batch_size": 32, "count": 64}


MULTI_CROP = (ViewRecipe(14, count=2), ViewRecipe(8, count=3))


def test_embeddings_are_those_of_all_views(images):
    made = checkpoint(**SWAV).load_method()
    before = [parameter.clone() for parameter in made.backbone.parameters()]
    views = sample_embeddings(made, images, MULTI_CROP, **OPTIONS)
    assert [z.shape for z in views] == 5 * [(64, 8)] and views[0].dtype == torch.float32
    again = sample_embeddings(checkpoint(**SWAV).load_method(), images, MULTI_CROP, **OPTIONS)
    assert all(map(torch.equal, views, again))
    assert all(map(torch.equal, before, made.backbone.parameters()))
    other = sample_embeddings(made, images, MULTI_CROP, seed=1, **OPTIONS)
    assert not torch.equal(views[0], other[0])


def test_views_pass_the_head_together_as_in_training(images):
    together = checkpoint(**SWAV).load_method()
    z = sample_embeddings(together, images, MULTI_CROP, **OPTIONS)[0]
    alone = sample_embeddings(checkpoint(**SWAV).load_method(), images, MULTI_CROP[:1], **OPTIONS)
    assert not torch.allclose(z, alone[0], atol=1e-3)
    trained = checkpoint(**SWAV).load_method().train()
    views = [torch.rand(32, 1, side, side) for side in (14, 14, 8)]
    with torch.no_grad():
        seen = trained(views).embeddings
        found = checkpoint(**SWAV).load_method().train().embed_batch(views)
    assert all(map(torch.equal, seen, found))


def test_fewer_images_than_a_batch_are_one_batch(images):
    few = images.subset(torch.arange(10))
    views = sample_embeddings(checkpoint(**SWAV).load_method(), few, MULTI_CROP, **OPTIONS)
    assert len(views[0]) == 10


def test_a_missing_head_is_named():
    made = checkpoint(**SWAV)
    del made.model["prototypes.weight"]
    with pytest.raises(CheckpointError, match=r"method swav .*prototypes\.weight is missing"):
        made.load_method()


def test_paradigm_measures_embeddings_and_features_of_the_test_images(subject):
    paradigm = Embeddings(batch_size=12, mapping="logistic")
    found = paradigm.score(subject, "embeddings")
    test = subject.splits("images").test
    options = {"normalisation": subject.normalisation, "batch_size": 12}
    views = sample_embeddings(subject.method(), test, subject.views, **options)
    z = views[0]
    assert len(views) == 2 and z.shape == (36, 16)
    expected, details = embedding_statistics(views, "logistic")
    assert found.scores[: len(expected)] == expected and found.details == details
    assert details["mapping"] == "logistic"
    # effective ranks of both, as RankMe and alpha-ReQ have them
    names = ("rankme", "alpha_req")
    ranks = {(s["metric"], s["features"]): s["value"] for s in found.scores if s["metric"] in names}
    features, _ = subject.known("images", "test")
    assert ranks.keys() == {(name, f) for name in names for f in ("raw", "embeddings")}
    for kind, values in (("raw", features), ("embeddings", z)):
        spectrum = torch.linalg.svdvals((values - values.mean(dim=0)).double()).square()
        expected = effective_rank(spectrum.sqrt()), power_law_exponent(spectrum)
        assert (ranks["rankme", kind], ranks["alpha_req", kind]) == pytest.approx(
            expected, rel=1e-4
        )
        assert 1 < ranks["rankme", kind] < values.shape[1]


def test_rankme_is_that_of_the_centred_singular_values():
    features = normal(n=300, d=10) @ torch.randn(10, 10, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals((features - features.mean(dim=0)).double())
    p = values / values.sum()
    expected = float(torch.exp(-(p * p.log()).sum()))
    assert effective_rank(covariance_spectrum(features).sqrt()) == pytest.approx(expected)


def test_what_the_paradigm_says_of_itself():
    paradigm = Embeddings(batch_size=256)
    assert paradigm.values() == {"batch_size": 256, "mapping": "normal", "criteria": {}}
    assert paradigm.on_embeddings and paradigm.job == "measure" and paradigm.dataset == "images"
