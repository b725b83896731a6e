"""Every score and measurement of a study in one tidy file."""

from __future__ import annotations

from e2mc.reporting.cells import main_table_results
from e2mc.reporting.part import Inputs, Outputs, Part
from e2mc.reporting.results import collect, measurement_results
from e2mc.study import Study


def _reads(study: Study) -> Inputs:
    measured = measurement_results(study, "separability", "embeddings")
    return {"results": main_table_results(study) + measured}


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    text = collect(inputs["results"]).to_csv(index=False)
    outputs["results.csv"].write_text(text, encoding="utf-8")


RESULTS = Part(
    name="results",
    reads=_reads,
    writes=lambda study: {"results.csv": ""},
    make=_make,
)
