"""Add-on criteria by name."""

from __future__ import annotations

from typing import Any

from e2mc.criteria.auh import AUH
from e2mc.criteria.base import Criterion, CriterionOutput
from e2mc.criteria.coding_rate import CodingRate
from e2mc.criteria.corinfomax import CorInfoMax
from e2mc.criteria.e2mc import E2MC
from e2mc.criteria.er import ER
from e2mc.criteria.koleo import KoLeo
from e2mc.criteria.mmcr import MMCR
from e2mc.criteria.random_direction import RandomDirection
from e2mc.criteria.rdmreg import RDMReg
from e2mc.criteria.sigreg import SIGReg
from e2mc.criteria.vcreg import VCReg
from e2mc.criteria.vicreg_covariance import VICRegCovariance
from e2mc.criteria.visreg import VISReg
from e2mc.errors import expect_known

CRITERIA: dict[str, type[Criterion]] = {
    "e2mc": E2MC,
    "vcreg": VCReg,
    "mmcr": MMCR,
    "auh": AUH,
    "corinfomax": CorInfoMax,
    "vicreg-covariance": VICRegCovariance,
    "er": ER,
    "sigreg": SIGReg,
    "visreg": VISReg,
    "rdmreg": RDMReg,
    "koleo": KoLeo,
    "coding-rate": CodingRate,
    "random-direction": RandomDirection,
}

__all__ = [
    "CRITERIA",
    "Criterion",
    "CriterionOutput",
    "create_criterion",
    *(kind.__name__ for kind in CRITERIA.values()),
]


def create_criterion(name: str, **params: Any) -> Criterion:
    """Make the criterion of this registry name, e.g. `create_criterion("e2mc", window=8)`."""
    expect_known(name, CRITERIA, "criterion")
    return CRITERIA[name](**params)
