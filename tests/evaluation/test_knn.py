"""Weighted k-NN against its definition in float64, against lightly, and as a paradigm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from e2mc.data.images import Splits
from e2mc.errors import InputError
from e2mc.evaluation import knn as module
from e2mc.evaluation.knn import KNN, KNNProtocol, knn_accuracy
from e2mc.evaluation.paradigm import Counts

CLASSES, DIM = 7, 12


def blobs(count, seed, spread=1.2):
    """Features around one direction for each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    centres = torch.eye(DIM)[:CLASSES]
    scale = 0.1 + 5 * torch.rand(count, 1, generator=generator)  # lengths must not matter
    noise = spread * torch.randn(count, DIM, generator=generator) / DIM**0.5
    return scale * (centres[labels] + noise), labels


BANK, QUERIES = blobs(400, 0), blobs(150, 1)


def accuracy(k=(20,), temperature=0.07, bank=BANK, queries=QUERIES, classes=CLASSES):
    protocol = KNNProtocol(k=k, temperature=temperature)
    return knn_accuracy(*bank, *queries, classes=classes, protocol=protocol)


def votes_by_definition(k, temperature, bank=BANK, queries=QUERIES):
    """(M, classes) in float64, each neighbour's vote added one by one."""
    features, labels = bank[0].double().numpy(), bank[1].numpy()
    asked = queries[0].double().numpy()
    votes = np.zeros((len(asked), CLASSES))
    for row, query in enumerate(asked):
        cosine = [query @ one / (np.linalg.norm(query) * np.linalg.norm(one)) for one in features]
        for place in sorted(range(len(cosine)), key=lambda i: -cosine[i])[:k]:
            votes[row, labels[place]] += np.exp(cosine[place] / temperature)
    return votes


def share_right(votes, labels, top):
    best = np.argsort(-votes, axis=1)[:, :top]
    return 100 * np.mean([label in row for label, row in zip(labels.tolist(), best)])


@pytest.mark.parametrize("k", [1, 5, 20, 200])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_accuracy_is_that_of_the_definition(k, temperature):
    votes = votes_by_definition(k, temperature)
    found = accuracy(k=(k,), temperature=temperature)
    assert 50 < found[f"top1_k{k}"] < 100
    assert found[f"top1_k{k}"] == pytest.approx(share_right(votes, QUERIES[1], 1))
    if k >= 5 * CLASSES:  # fewer neighbours leave classes without a vote, whose order is open
        assert found[f"top5_k{k}"] == pytest.approx(share_right(votes, QUERIES[1], 5))


@pytest.mark.parametrize("k", [1, 10, 40])
def test_accuracy_is_that_of_sklearn(k):
    from sklearn.neighbors import KNeighborsClassifier

    def weights(distances):
        return np.exp((1 - distances) / 0.07)

    machine = KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute")
    machine.fit(BANK[0].double().numpy(), BANK[1].numpy())
    expected = 100 * machine.score(QUERIES[0].double().numpy(), QUERIES[1].numpy())
    assert accuracy(k=(k,))[f"top1_k{k}"] == pytest.approx(expected)


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.07), (200, 0.1), (10, 0.5)])
def test_accuracy_is_that_of_lightly(k, temperature):
    benchmarking = pytest.importorskip("lightly.utils.benchmarking")
    predicted = benchmarking.knn_predict(
        normalize(QUERIES[0]), normalize(BANK[0]).T, BANK[1], CLASSES, k, temperature
    )
    expected = 100 * float((predicted[:, 0] == QUERIES[1]).double().mean())
    assert accuracy(k=(k,), temperature=temperature)[f"top1_k{k}"] == pytest.approx(expected)


def test_every_k_comes_from_one_search():
    together = accuracy(k=(20, 1, 100))
    assert list(together) == [f"top{top}_k{k}" for k in (20, 1, 100) for top in (1, 5)]
    for k in (1, 20, 100):
        assert accuracy(k=(k,)).items() <= together.items()


@pytest.mark.parametrize("rows", [3, 150, 399, 400])
@pytest.mark.parametrize("similarities", [1, 1000, 2**24])
def test_pieces_of_the_bank_and_of_the_queries_change_nothing(rows, similarities, monkeypatch):
    ks = (20, 1, 200)
    whole = accuracy(k=ks)
    expected = module._nearest(BANK[0], QUERIES[0], 200, "cpu")
    monkeypatch.setattr(module, "BANK_ROWS", rows)
    monkeypatch.setattr(module, "IN_CACHE", similarities)
    values, places = module._nearest(BANK[0], QUERIES[0], 200, "cpu")
    torch.testing.assert_close(values, expected[0], rtol=0, atol=1e-6)
    assert (values.diff(dim=1) <= 0).all()
    # rounding may swap neighbours that are as good as equally near
    assert torch.equal(places.sort(dim=1).values, expected[1].sort(dim=1).values)
    assert accuracy(k=ks) == whole


def test_other_devices_than_cpu_and_cuda():
    values, places = module._nearest(BANK[0], QUERIES[0], 20, "meta")
    assert values.shape == places.shape == (len(QUERIES[0]), 20)


def test_never_more_of_the_bank_on_the_device_than_a_piece(monkeypatch):
    monkeypatch.setattr(module, "BANK_ROWS", 64)
    sizes = []
    topk = torch.Tensor.topk

    def noted(values, *args, **options):
        sizes.append(values.shape)
        return topk(values, *args, **options)

    monkeypatch.setattr(torch.Tensor, "topk", noted)
    module._nearest(BANK[0], QUERIES[0], 20, "cpu")
    assert max(columns for _, columns in sizes) <= 64 + 20


def test_low_temperature_is_the_nearest_neighbour():
    """exp(1 / T) alone is beyond float32 below T = 0.0113."""
    assert accuracy(k=(50,), temperature=1e-4)["top1_k50"] == accuracy(k=(1,))["top1_k1"]
    votes = votes_by_definition(50, 0.005)
    assert accuracy(k=(50,), temperature=0.005)["top1_k50"] == share_right(votes, QUERIES[1], 1)


def test_length_of_features_does_not_matter():
    scaled = (BANK[0] * 7, BANK[1]), (QUERIES[0] / 3, QUERIES[1])
    assert accuracy(bank=scaled[0], queries=scaled[1]) == accuracy()


def test_image_that_is_in_the_bank_is_its_own_neighbour():
    assert accuracy(k=(1,), queries=BANK)["top1_k1"] == 100


def test_no_top5_with_few_classes():
    bank, queries = ((f, labels % 3) for f, labels in (BANK, QUERIES))
    assert list(accuracy(bank=bank, queries=queries, classes=3)) == ["top1_k20"]


def test_more_neighbours_than_features():
    few = BANK[0][:15], BANK[1][:15]
    with pytest.raises(InputError, match="k is 20, but the bank has only 15 features: lower k"):
        accuracy(bank=few)
    assert accuracy(k=(15,), bank=few)["top1_k15"] > 20


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": ()}, r"k must hold different numbers of at least 1, found \(\)"),
        ({"k": (20, 0)}, "k must hold different numbers of at least 1"),
        ({"k": (20, 20)}, "k must hold different numbers"),
        ({"temperature": 0.0}, "temperature must be positive, found 0"),
        ({"temperature": float("nan")}, "temperature must be positive, found nan"),
    ],
)
def test_protocol_ranges(params, message):
    with pytest.raises(InputError, match=message):
        KNNProtocol(**params)


# --- as a paradigm ---


def knn(k=(5, 1), **changes):
    return KNN(label="k-NN", protocol=KNNProtocol(k=k), **changes)


def by_key(found):
    keys = ("metric", "features", "split", "probe_seed")
    return {tuple(score[key] for key in keys): score["value"] for score in found.scores}


def test_defaults_are_those_of_dino():
    paradigm = KNN(label="k-NN")
    assert paradigm.protocol == KNNProtocol(k=(20, 10, 100, 200), temperature=0.07)
    assert paradigm.metric == "top1_k20" and knn().metric == "top1_k5"
    assert paradigm.kinds_of_features == ("raw",) and not paradigm.selects_epochs


def test_training_features_are_the_bank(subject):
    found = knn().score(subject, "knn")
    bank, test = subject.known("images", "train"), subject.known("images", "test")
    expected = knn_accuracy(*bank, *test, classes=6, protocol=KNNProtocol(k=(5, 1)))
    values = by_key(found)
    for metric, value in expected.items():
        assert values[metric, "raw", "test", 0] == value
    assert found.details == {"labels": 60}
    assert len(values) == len(found.scores) == 2 * 2 * 2  # k, top1 and top5, splits


def test_validation_split_is_scored_too_where_there_is_one(subject, splits, new_subject):
    validation = subject.known("images", "validation")
    bank = subject.known("images", "train")
    expected = knn_accuracy(*bank, *validation, classes=6, protocol=KNNProtocol(k=(5, 1)))
    values = by_key(knn().score(subject, "knn"))
    assert values["top1_k5", "raw", "validation", 0] == expected["top1_k5"]
    empty = splits.validation.subset(torch.arange(0))
    without = knn().score(new_subject(Splits(splits.train, empty, splits.test)), "knn")
    assert {score["split"] for score in without.scores} == {"test"}


def test_validation_images_are_left_alone_where_there_is_one_k(subject):
    found = knn(k=(5,)).score(subject, "knn")
    assert {score["split"] for score in found.scores} == {"test"}
    assert ("images", "validation", False) not in knn(k=(5,)).work(COUNTS).features


def test_labelled_images_alone_are_in_the_bank(subject):
    paradigm = knn(fraction=0.5, label_seeds=(0, 3))
    found = paradigm.score(subject, "knn")
    assert found.details == {"labels": 30}
    features, labels = subject.known("images", "train")
    test = subject.known("images", "test")
    for seed, subset in paradigm.subsets(subject.splits("images")).items():
        expected = knn_accuracy(
            features[subset], labels[subset], *test, classes=6, protocol=KNNProtocol(k=(5, 1))
        )
        assert by_key(found)["top1_k5", "raw", "test", seed] == expected["top1_k5"]


def test_whitened_features(subject):
    found = by_key(knn(features=("raw", "whitened")).score(subject, "knn"))
    bank, test = (subject.of_kind("whitened", "images", split) for split in ("train", "test"))
    expected = knn_accuracy(*bank, *test, classes=6, protocol=KNNProtocol(k=(5, 1)))
    assert found["top1_k5", "whitened", "test", 0] == expected["top1_k5"]
    raw = by_key(knn().score(subject, "knn"))
    assert raw.items() <= found.items()
    assert knn(features=("whitened",)).kinds_of_features == ("whitened",)


COUNTS = Counts(train=100, validation=10, test=20, lists={"1percent": 8})


def test_more_neighbours_than_labelled_images_is_said_before_anything_runs():
    knn(k=(100,)).check(COUNTS)
    for paradigm, found in (
        (knn(k=(101,)), 100),
        (knn(k=(5, 51), fraction=0.5), 50),
        (knn(k=(9,), label_list="1percent"), 8),
    ):
        message = rf"^protocol\.k: {max(paradigm.protocol.k)} neighbours .* only {found} training"
        with pytest.raises(InputError, match=message):
            paradigm.check(COUNTS)
    knn(k=(1000,)).check(replace(COUNTS, train=None))  # a study that does not say
    with pytest.raises(InputError, match="label_list: list '10percent' does not exist"):
        knn(label_list="10percent").check(COUNTS)


def test_work_is_features_that_other_paradigms_share():
    work = knn().work(COUNTS)
    assert work.features == {("images", s, False) for s in ("train", "validation", "test")}
    assert (work.streamed, work.trained) == (0, 0)
    assert ("images", "validation", False) not in knn().work(replace(COUNTS, validation=0)).features
