"""Multi-label classification by one linear SVM per class, the VOC07 protocol."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from e2mc.data.files import usable_cores
from e2mc.errors import InputError
from e2mc.evaluation.metrics import score
from e2mc.evaluation.paradigm import Column, Counts, Found, Work
from e2mc.evaluation.subject import Subject

WORTH_A_PROCESS = 2**24  # numbers in the features: VOC07 has 5,011 x 8,192
VOC_COSTS = (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0)


@dataclass(frozen=True)
class SVMProtocol:
    """How the SVMs are trained; the defaults are those of VISSL for VOC07.

    Args:
        costs: grid of the cost C, rising; chosen per class by cross-validated average precision.
        folds: of the (stratified) cross-validation.
        positive_weight: of images with the class, relative to those without.
        tolerance, max_iterations: of the solver.
    """

    costs: tuple[float, ...] = VOC_COSTS
    folds: int = 3
    positive_weight: float = 2.0
    tolerance: float = 1e-4
    max_iterations: int = 2000

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not self.costs or min(self.costs) <= 0:
            raise InputError(f"costs must hold one or more positive numbers, found {self.costs}")
        if sorted(set(self.costs)) != list(self.costs):
            raise InputError(f"costs must rise, found {self.costs}")
        if self.folds < 2:
            raise InputError(f"folds must be at least 2, found {self.folds}")
        for name in ("positive_weight", "tolerance", "max_iterations"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class SVM(Column):
    """One linear SVM per class on spatial features of images with several labels."""

    job: ClassVar[str] = "evaluate_frozen"
    metric: ClassVar[str] = "map"
    stage: ClassVar[str] = "SVM"

    kind: Literal["svm"] = "svm"
    protocol: SVMProtocol

    def check(self, data: Counts) -> None:
        if not data.several_labels:
            raise InputError(
                f"dataset: the images of {self.dataset} have one label each, svm learns several: "
                "use kind linear, or another data set"
            )
        least = 2 * self.protocol.folds
        if data.train is not None and data.train < least:
            raise InputError(
                f"protocol.folds: {self.protocol.folds} folds need as many images with a class and "
                f"without it, {least} in all, but there are {data.train} training images: lower "
                "folds"
            )

    def sides(self, size: int) -> set[tuple[int, bool]]:
        return {(size, True)}

    def work(self, data: Counts) -> Work:
        splits = ["train", "test"] + (["validation"] if data.validation else [])
        return Work(features=frozenset((self.dataset, split, True) for split in splits))

    def score(self, subject: Subject, name: str) -> Found:
        features, labels = subject.known(self.dataset, "train", spatial=True)
        test_features, test_labels = subject.known(self.dataset, "test", spatial=True)
        return Found(*svm_probe(features, labels, test_features, test_labels, self.protocol))


def svm_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    protocol: SVMProtocol,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Mean average precision of one LinearSVC per class.

    Rows are l2-normalised in float64; squared hinge, l2 penalty, the bias is regularised. The cost
    is chosen per class by cross-validated average precision on the training images (the middle one
    of equals), then the SVM is trained on all of them. The solver is dual coordinate descent where
    there are fewer images than features, as on VOC07, and else Newton's method in the primal, which
    finds the same optimum in a tenth of the time.

    Args:
        train_features: (N, D).
        train_labels: (N, K) integers: 1 for a class in the image, anything else for not.
        test_features: (T, D).
        test_labels: (T, K) integers: 1 in the image, 0 not, -1 difficult: left out for that class.
        protocol: grid and numbers.

    Returns:
        Scores ("map" in percent, on test, and cross-validated on the training images as
        "validation"), and details: average precision, cost and whether it is at an edge of the
        grid per class, number of fits that stopped at the iteration limit.

    Raises:
        ValueError: when a class has too few images to cross-validate or none to test.

    Source: vissl/utils/svm_utils (Goyal et al. 2021).
    """
    from joblib import Parallel, delayed

    x, x_test = _unit_rows(train_features), _unit_rows(test_features)
    y, y_test = train_labels.numpy() == 1, test_labels.numpy()
    for label in range(y.shape[1]):
        found = min(int(y[:, label].sum()), int((~y[:, label]).sum()))
        if found < protocol.folds:
            raise InputError(
                f"class {label} has only {found} training images with it or without it: "
                f"{protocol.folds}-fold cross-validation needs {protocol.folds} of each"
            )
        if not (y_test[:, label] == 1).any():
            raise InputError(f"no test image has class {label}: its precision is undefined")
    # each fit takes seconds on VOC07; small ones take less than starting a process
    processes = usable_cores() if x.size >= WORTH_A_PROCESS else 1
    fits = Parallel(processes)(
        delayed(_SVM)(x, y[:, label], protocol) for label in range(y.shape[1])
    )
    precisions = []
    for label, fit in enumerate(fits):
        counted = y_test[:, label] != -1
        scores = fit.decision(x_test[counted])
        precisions.append(100 * precision_envelope_ap(scores, y_test[counted, label] == 1))
    edges = (protocol.costs[0], protocol.costs[-1])
    return [
        score("map", float(np.mean(precisions))),
        score("map", 100 * float(np.mean([fit.validation for fit in fits])), split="validation"),
    ], {
        "average_precision": [round(value, 3) for value in precisions],
        "cost": [fit.cost for fit in fits],
        "at_edge_of_grid": [
            label for label, fit in enumerate(fits) if len(protocol.costs) > 1 and fit.cost in edges
        ],
        "unconverged_fits": sum(fit.unconverged for fit in fits),
    }


class _SVM:
    """The SVM of one class: (N, D) rows, bool (N,) targets."""

    def __init__(self, x: np.ndarray, y: np.ndarray, protocol: SVMProtocol) -> None:
        from sklearn.metrics import average_precision_score
        from sklearn.model_selection import StratifiedKFold

        self.protocol, self.unconverged = protocol, 0
        folds = list(StratifiedKFold(protocol.folds).split(x, y))
        found = np.zeros(len(protocol.costs))
        for i, cost in enumerate(protocol.costs):
            for rest, held_out in folds:
                decision = self._fit(x[rest], y[rest], cost).decision_function(x[held_out])
                found[i] += average_precision_score(y[held_out], decision) / len(folds)
        ties = np.flatnonzero(found == found.max())
        chosen = ties[len(ties) // 2]
        self.cost, self.validation = protocol.costs[chosen], float(found[chosen])
        self.decision = self._fit(x, y, self.cost).decision_function

    def _fit(self, x: np.ndarray, y: np.ndarray, cost: float) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        machine = LinearSVC(
            C=cost,
            class_weight={True: self.protocol.positive_weight, False: 1.0},
            dual=x.shape[0] < x.shape[1],
            tol=self.protocol.tolerance,
            max_iter=self.protocol.max_iterations,
            random_state=0,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            machine.fit(x, y)
        self.unconverged += any(issubclass(w.category, ConvergenceWarning) for w in caught)
        return machine


def precision_envelope_ap(scores: np.ndarray, targets: np.ndarray) -> float:
    """Area under the monotone envelope of the precision-recall curve.

    The envelope's precision at recall r is the highest precision at any recall of at least r; the
    area is the sum over all recall levels, not over eleven. Equal scores share one threshold.

    Args:
        scores: (N,), higher means more likely.
        targets: bool (N,), at least one true.

    Returns:
        Average precision in [0, 1].

    Source: Everingham et al. 2010, as computed since VOC 2010.
    """
    targets = np.asarray(targets, dtype=bool)
    if not targets.any():
        raise InputError("average precision needs at least one positive target")
    order = np.argsort(-np.asarray(scores), kind="stable")
    ends = np.append(np.diff(np.asarray(scores)[order]) != 0, True)  # last row of each threshold
    hits = np.cumsum(targets[order])[ends]
    precision = hits / (np.flatnonzero(ends) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    recall = hits / targets.sum()
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _unit_rows(features: Tensor) -> np.ndarray:
    rows = features.double().cpu().numpy()
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-5)
