"""Spectrum and effective rank of embeddings and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2mc.reporting.part import Inputs, Outputs, Part, figure_files, left_out
from e2mc.reporting.results import ByArm, measurement_results, read_result, records_by_arm, score_of
from e2mc.reporting.style import PALE, WIDTH, arm_handles, look, save_figure, style
from e2mc.study import Study


def spectrum_figure(study: Study, records: Sequence[dict[str, Any]]) -> Figure:
    """Spectrum of the embeddings' covariance, and effective ranks of embeddings and features.

    (a) Share of the variance along each principal direction, mean over seeds. (b) Effective rank,
    exp of the entropy of these shares (Roy and Vetterli 2007), one marker per seed: embeddings
    filled, the backbone's features open.

    Args:
        study: which arms, and how they are called.
        records: result files of the paradigms "embeddings" and "separability"; those of the second
            are not there where the study leaves it out, and then no rank of features is shown.

    Raises:
        ValueError: when no record belongs to the arms of ``study.separability``.
    """
    embeddings = records_by_arm(study, records, "embeddings")
    features: ByArm = {}
    if "separability" not in study.left_out:
        features = records_by_arm(study, records, "separability")
    with style():
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        title = f"{study.bases[study.separability.base].label}: spectrum"
        figure.suptitle(title, x=0.01, ha="left", weight="bold", size=9)
        curves, ranks = figure.subplots(2, 1, height_ratios=(1.6, 1))
        for arm, found in embeddings.items():
            spectra = [record["details"]["spectrum"] for record in found]
            shares = np.mean([spectrum["share"] for spectrum in spectra], axis=0)
            curves.plot(spectra[0]["rank"], shares, color=look(study, arm)[0])
        curves.set(
            title="(a) covariance of the embeddings",
            xlabel="principal direction",
            ylabel="share of the variance",
            xscale="log",
            yscale="log",
        )
        curves.legend(handles=arm_handles(study, embeddings), loc="lower left")
        _ranks(ranks, study, embeddings, features)
    return figure


def _ranks(axes: Axes, study: Study, embeddings: ByArm, features: ByArm) -> None:
    for i, arm in enumerate(embeddings):
        colour, marker = look(study, arm)
        axes.axhline(-i, color=PALE, lw=0.5, zorder=0)
        of_embeddings = [score_of(record, "embedding_rank") for record in embeddings[arm]]
        axes.plot(of_embeddings, [-i] * len(of_embeddings), marker, color=colour, mew=0)
        of_features = [r["details"]["rank"]["effective_rank"] for r in features.get(arm, ())]
        axes.plot(of_features, [-i] * len(of_features), marker, color=colour, mfc="white", mew=0.7)
    label = "filled: embeddings, open: features"
    if "separability" in study.left_out:
        label = "embeddings; too few test images for the rank of features"
    axes.set(title="(b) effective rank", xlabel=label)
    axes.set_yticks([-i for i in range(len(embeddings))], map(study.arm_label, embeddings))
    axes.set_ylim(0.6 - len(embeddings), 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    records = [read_result(path) for path in inputs["results"]]
    save_figure(spectrum_figure(study, records), outputs, "spectrum")


SPECTRUM = Part(
    name="spectrum",
    reads=lambda study: {"results": measurement_results(study, "separability", "embeddings")},
    writes=lambda study: figure_files("spectrum", "spectrum of the embeddings"),
    make=_make,
    caption="spectrum.rst",
    lacking=lambda study: left_out(study, "embeddings"),
)
