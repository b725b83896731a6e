"""Tables and figures: pure functions of the result files and the study."""

from e2mc.errors import InputError, expect_known
from e2mc.reporting.action import ACTION
from e2mc.reporting.collection import RESULTS
from e2mc.reporting.convergence import CONVERGENCE
from e2mc.reporting.cost import COST
from e2mc.reporting.embeddings import EMBEDDINGS
from e2mc.reporting.estimators import ESTIMATORS
from e2mc.reporting.gains import GAINS
from e2mc.reporting.information import INFORMATION
from e2mc.reporting.part import Part
from e2mc.reporting.rates import RATES
from e2mc.reporting.separability import SEPARABILITY
from e2mc.reporting.spectrum import SPECTRUM
from e2mc.reporting.stability import STABILITY
from e2mc.reporting.sweep import SWEEP, SWEEP_RATES
from e2mc.reporting.tables import TARGETS, table_part
from e2mc.reporting.training import TRAINING
from e2mc.reporting.views_bank import VIEWS_BANK
from e2mc.study import Study

PARTS = (
    ACTION,
    SEPARABILITY,
    GAINS,
    RATES,
    EMBEDDINGS,
    SPECTRUM,
    COST,
    TRAINING,
    CONVERGENCE,
    INFORMATION,
    STABILITY,
    SWEEP_RATES,
    SWEEP,
    VIEWS_BANK,
    ESTIMATORS,
    RESULTS,
)


def parts(study: Study) -> dict[str, Part]:
    """Every table and figure by its name, in the order of the report.

    Those that the study has not are there too: they say what it lacks.

    Raises:
        ValueError: when a table of the study bears the name of another part.
    """
    tables = [table_part(study, name) for name in dict.fromkeys((*study.tables, *TARGETS))]
    for part in PARTS:
        if part.name in study.tables:
            raise InputError(
                f"tables.{part.name}: {part.name} is a target already, give the table another name"
            )
    return {part.name: part for part in (*tables, *PARTS)}


def made(study: Study, *, full: bool = False) -> dict[str, Part]:
    """The parts that `all` makes and the report has, or those of the full report.

    Raises:
        ValueError: when the study's ``targets`` name a part that there is not.
    """
    known = parts(study)
    for name in study.targets or ():
        expect_known(name, known, "targets: table or figure")
        if lacking := known[name].lacking(study):
            raise InputError(f"targets: {lacking}")
    if study.targets is not None:
        return {name: known[name] for name in study.targets}
    return {
        name: part
        for name, part in known.items()
        if not part.lacking(study) and (part.in_full_report if full else part.in_all)
    }


def report_targets(study: Study, *, full: bool) -> list[str]:
    """What is to be finished before the report, or the full report, can be made."""
    return ["all", *(name for name in made(study, full=full) if name not in made(study))]
