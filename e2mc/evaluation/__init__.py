"""Paradigms by name: each scores a checkpoint in its own way."""

from __future__ import annotations

from e2mc.evaluation.embeddings import Embeddings
from e2mc.evaluation.finetune import FineTune
from e2mc.evaluation.information import Information
from e2mc.evaluation.knn import KNN
from e2mc.evaluation.linear import Linear
from e2mc.evaluation.paradigm import Column, Paradigm
from e2mc.evaluation.separability import Separability
from e2mc.evaluation.svm import SVM

PARADIGMS: dict[str, type[Paradigm]] = {
    "linear": Linear,
    "knn": KNN,
    "finetune": FineTune,
    "svm": SVM,
    "separability": Separability,
    "embeddings": Embeddings,
    "information": Information,
}
# those that a study lists and tables show; the others are measured in every study
COLUMNS = tuple(kind for kind in PARADIGMS.values() if issubclass(kind, Column))

__all__ = ["COLUMNS", "PARADIGMS", "Column", "Paradigm"]
