from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e2mc.data.images import ImageSet, Splits
from e2mc.evaluation.paradigm import Counts
from e2mc.evaluation.svm import SVM, SVMProtocol, precision_envelope_ap, svm_probe


def envelope_by_definition(scores, targets):
    """The sum over positives of the best precision at their recall or a higher one, over P."""
    thresholds = sorted(set(scores), reverse=True)
    points = [
        (targets[scores >= t].sum() / targets.sum(), targets[scores >= t].mean())
        for t in thresholds
    ]
    area, before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    return area


def test_known_average_precisions():
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    assert precision_envelope_ap(scores, np.array([1, 1, 0, 0])) == 1
    assert precision_envelope_ap(scores, np.array([0, 0, 0, 1])) == 0.25
    # precisions 1, 1/2, 2/3: the envelope at recall 1 is 2/3
    assert precision_envelope_ap(scores, np.array([1, 0, 1, 0])) == pytest.approx((1 + 2 / 3) / 2)
    # precisions at the positives 1/2 and 2/3: the envelope lifts the first
    assert precision_envelope_ap(scores, np.array([0, 1, 1, 0])) == pytest.approx(2 / 3)
    # equal scores share a threshold: the share of positives
    assert precision_envelope_ap(np.zeros(4), np.array([1, 0, 0, 0])) == 0.25
    with pytest.raises(ValueError, match="at least one positive"):
        precision_envelope_ap(scores, np.zeros(4))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30).filter(
        lambda rows: any(target for _, target in rows)
    )
)
def test_envelope_ap_follows_its_definition_and_bounds_sklearn(rows):
    from sklearn.metrics import average_precision_score

    scores = np.array([float(score) for score, _ in rows])
    targets = np.array([target for _, target in rows])
    found = precision_envelope_ap(scores, targets)
    assert found == pytest.approx(envelope_by_definition(scores, targets))
    assert average_precision_score(targets, scores) - 1e-12 <= found <= 1


def scenes(count: int, dim: int, seed: int, classes: int = 3):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, classes, generator=generator) < 0.4).to(torch.uint8)
    directions = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(count, dim, generator=generator)
    return labels.float() @ directions + 0.5 * noise, labels


@pytest.mark.parametrize("dim", [12, 150], ids=["primal", "dual"])
def test_probe_equals_the_protocol_written_out_with_sklearn(dim):
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import LinearSVC

    x, y = scenes(90, dim, 0)
    x_test, y_test = scenes(200, dim, 1)
    costs = (0.1, 1.0, 10.0)
    scores, details = svm_probe(x, y, x_test, y_test, SVMProtocol(costs=costs))
    unit = torch.nn.functional.normalize(x.double()).numpy()
    unit_test = torch.nn.functional.normalize(x_test.double()).numpy()
    for label in range(3):
        target = np.where(y[:, label] == 1, 1, -1)
        machines = [
            LinearSVC(
                C=c,
                class_weight={1: 2, -1: 1},
                dual=True,
                loss="squared_hinge",
                max_iter=20000,
                tol=1e-6,
            )
            for c in costs
        ]
        found = [
            cross_val_score(m, unit, target, cv=3, scoring="average_precision").mean()
            for m in machines
        ]
        chosen = costs.index(details["cost"][label])
        assert found[chosen] == pytest.approx(max(found), abs=2e-3)
        decision = machines[chosen].fit(unit, target).decision_function(unit_test)
        expected = 100 * precision_envelope_ap(decision, y_test[:, label].numpy() == 1)
        assert details["average_precision"][label] == pytest.approx(expected, abs=0.2)
    test_map, validation_map = scores
    assert test_map["value"] == pytest.approx(np.mean(details["average_precision"]), abs=1e-3)
    assert (test_map["split"], validation_map["split"]) == ("test", "validation")
    assert 50 < validation_map["value"] <= 100


def test_difficult_test_images_are_left_out():
    x, y = scenes(60, 8, 0)
    x_test, y_test = scenes(100, 8, 1)
    protocol = SVMProtocol(costs=(1.0,))
    kept = y_test.long().clone()
    kept[:40] = -1
    _, without = svm_probe(x, y, x_test, kept, protocol)
    _, alone = svm_probe(x, y, x_test[40:], y_test[40:], protocol)
    assert without["average_precision"] == alone["average_precision"]
    # in training a difficult image counts as one without the class
    _, as_negative = svm_probe(x, torch.where(y == 1, 1, -1), x_test, y_test, protocol)
    assert as_negative == svm_probe(x, y, x_test, y_test, protocol)[1]


def test_unconverged_fits_are_counted_and_not_shown(recwarn):
    x, y = scenes(60, 200, 0)
    protocol = SVMProtocol(costs=(1000.0,), max_iterations=1)
    _, details = svm_probe(x, y, x, y, protocol)
    assert details["unconverged_fits"] == 3 * 4
    assert not [w for w in recwarn if "onverge" in str(w.message)]


def test_classes_without_images_are_errors():
    x, y = scenes(60, 8, 0)
    few = y.clone()
    few[:, 1] = 0
    few[:2, 1] = 1
    with pytest.raises(ValueError, match="class 1 has only 2 training images"):
        svm_probe(x, few, x, y, SVMProtocol(costs=(1.0,)))
    none = y.clone()
    none[:, 2] = 0
    with pytest.raises(ValueError, match="no test image has class 2"):
        svm_probe(x, y, x, none, SVMProtocol(costs=(1.0,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"costs": ()}, "costs"),
        ({"costs": (1.0, 0.1)}, "costs must rise"),
        ({"folds": 1}, "folds"),
        ({"positive_weight": 0.0}, "positive_weight"),
    ],
)
def test_protocol_ranges(change, message):
    with pytest.raises(ValueError, match=message):
        SVMProtocol(**change)


def test_fits_in_processes_equal_fits_one_after_another(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 10, generator=generator)
    labels = (features[:, :3] + torch.randn(60, 3, generator=generator) > 0).long()
    data = (features[:40], labels[:40], features[40:], labels[40:])
    protocol = SVMProtocol(costs=(0.1, 1.0))
    expected = svm_probe(*data, protocol)
    monkeypatch.setattr("e2mc.evaluation.svm.WORTH_A_PROCESS", 1)
    monkeypatch.setattr("e2mc.evaluation.svm.usable_cores", lambda: 2)
    assert svm_probe(*data, protocol) == expected


def test_paradigm_is_scored_on_spatial_features_of_another_data_set(splits, new_subject):
    def scenes_of(images, seed):
        labels = torch.rand(len(images), 3, generator=torch.Generator().manual_seed(seed)) < 0.5
        return ImageSet(images.images, labels.to(torch.uint8), ("a", "b", "c"))

    train, validation, test = (
        scenes_of(part, seed)
        for seed, part in enumerate((splits.train, splits.validation, splits.test))
    )
    subject = new_subject(splits, scenes=Splits(train, validation, test))
    paradigm = SVM(label="x", dataset="scenes", protocol=SVMProtocol(costs=(0.1, 1.0)))
    found = paradigm.score(subject, "map")
    features, labels = subject.known("scenes", "train", spatial=True)
    assert features.shape == (60, 4 * subject.backbone.feature_dim)
    test_features, test_labels = subject.known("scenes", "test", spatial=True)
    expected = svm_probe(features, labels, test_features, test_labels, paradigm.protocol)
    assert (found.scores, found.details) == expected
    assert {score["metric"] for score in found.scores} == {paradigm.metric}


def test_work_is_spatial_features():
    counts = Counts(train=9, validation=0, test=4, lists={})
    work = SVM(label="x", dataset="voc07", protocol=SVMProtocol()).work(counts)
    assert work.features == {("voc07", "train", True), ("voc07", "test", True)}
