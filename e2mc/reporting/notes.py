"""The footnotes of a table: how to read it, and what may be wrong with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from e2mc.reporting.entries import NOT_ASKED, Entry
from e2mc.reporting.layout import signed
from e2mc.study import Study
from e2mc.task import listed

SATURATED = 0.2  # points of linear accuracy that continued training may still change a base by
FITS = 0.1  # the paper's continued - base is -0.05 to +0.08 in each of its 12 cells


def notes(study: Study, entries: Sequence[Entry], results: pd.DataFrame) -> tuple[str, ...]:
    """The footnotes that a table with these entries needs, in their order."""
    return (
        *_how_to_read(study, entries),
        *_not_the_official_pass(study, entries),
        *_chosen_on_the_reported_images(study, entries),
        *_not_saturated(study, entries),
        *_recipe_fits(study, entries),
        *_beside_the_paper(entries),
        *_not_asked(entries),
        *_unfinished(study, entries),
        *_several_versions(results),
    )


def gap_text(study: Study, base: str, entries: Sequence[Entry]) -> str:
    """What continued training alone still changes, where the base was not trained to the end."""
    gaps = [
        entry.difference.mean
        for entry in entries
        if (entry.base, entry.arm, entry.features) == (base, "continued", "raw")
        and entry.difference
        and study.paradigms[entry.column].tells_saturation
        and study.paradigms[entry.column].dataset == "images"
    ]
    largest = max(gaps, key=abs, default=0.0)
    return f" (gap {signed(largest)})" if abs(largest) > SATURATED else ""


def _how_to_read(study: Study, entries: Sequence[Entry]) -> Iterable[str]:
    bases, evaluations = len(study.seeds.base), len(study.seeds.evaluation)
    runs = bases * len(study.seeds.continuation)
    own = ", each with an evaluation seed of its own" if evaluations > 1 else ""
    per_base = f"{bases} per base"
    if evaluations > 1:
        per_base = (
            f"{bases * evaluations} evaluations per base ({bases} pre-training × {evaluations} "
            "evaluation seeds)"
        )
    yield (
        "Percent: accuracy, or mean average precision for mAP. Mean ± standard deviation of "
        f"{runs} {'run' if runs == 1 else 'runs'} per arm ({bases} pre-training × "
        f"{len(study.seeds.continuation)} continuation seeds{own}) and {per_base}; each run is "
        "the mean over its label subsets. Bold: best of its group."
    )
    if evaluations > 1:
        yield _evaluation_seeds(study, entries)
    yield (
        "Rows that begin with − are paired differences, seed by seed, in points. ▲ above and ▼ "
        "below: the 95 % t interval excludes 0. ≈ within noise: it contains 0. ? one pair, no "
        "interval. The intervals are in the CSV."
    )
    if bases == 1:
        yield (
            "The intervals are over continuation seeds of one pre-training seed per base. They do "
            "not cover another pre-training, other test images or another data set, and they are "
            "not corrected for the number of comparisons: about 1 in 20 excludes 0 by chance."
        )
    else:
        yield (
            f"The intervals are over {bases} pre-training seeds, after averaging over continuation "
            "seeds. They do not cover other test images or another data set, and they are not "
            "corrected for the number of comparisons: about 1 in 20 excludes 0 by chance."
        )
    yield (
        "The paragraph follows from the numbers by rule. Chance means the number of intervals that "
        "would lie on one side of 0 without any effect, if comparisons were independent; those of "
        "one base share its runs, so it is a rough guide."
    )


def _evaluation_seeds(study: Study, entries: Sequence[Entry]) -> str:
    """What they decide, and which columns they leave as they are."""
    columns = dict.fromkeys(entry.column for entry in entries)
    paradigms = [study.paradigms[column] for column in columns]
    fixed = [paradigm.label for paradigm in paradigms if not paradigm.draws]
    order = "" if study.seeds.same_order else ", order of the images"
    alike = " The order is the same for all, as in the official code." * study.seeds.same_order
    nothing = f" {', '.join(fixed)}: nothing is drawn, one evaluation per run." if fixed else ""
    return f"An evaluation seed decides initial weights{order} and random views.{alike}{nothing}"


def _not_the_official_pass(study: Study, entries: Sequence[Entry]) -> Iterable[str]:
    """Of which columns features are not those of the official protocol, and what is different."""
    columns = [
        study.paradigms[column] for column in dict.fromkeys(entry.column for entry in entries)
    ]
    remarks: dict[str, list[str]] = {}
    for paradigm in columns:
        if paradigm.remark:
            remarks.setdefault(paradigm.remark, []).append(paradigm.label)
    for remark, labels in remarks.items():
        yield f"{', '.join(labels)}: {remark}."
    frozen = [paradigm.label for paradigm in columns if paradigm.frozen]
    if frozen and study.frozen_pass.precision != "float32":
        yield (
            f"{', '.join(frozen)}: images pass the frozen backbone in "
            f"{study.frozen_pass.precision}, in the official code in float32."
        )


def _chosen_on_the_reported_images(study: Study, entries: Sequence[Entry]) -> Iterable[str]:
    chosen = [
        paradigm.label
        for column in dict.fromkeys(entry.column for entry in entries)
        if (paradigm := study.paradigms[column]).selects_epochs
        and study.reported_epoch == "best"
        and study.data.counts(paradigm.dataset).validation == 0
    ]
    if chosen:
        yield (
            f"{', '.join(chosen)}: the score is that of the best epoch on the very images that are "
            "reported, as in the papers, and so too high by what the choice gains. The result "
            "files also hold the last epoch's."
        )


def _not_saturated(study: Study, entries: Sequence[Entry]) -> Iterable[str]:
    if any(gap_text(study, base, entries) for base in study.bases):
        yield (
            f"gap: a base that continued training alone changes by more than {SATURATED} points of "
            "linear accuracy (the largest of the linear columns), so it was not at its end."
        )


def _recipe_fits(study: Study, entries: Sequence[Entry]) -> Iterable[str]:
    """Whether continued training alone changes a base as little as it does in the paper."""
    for base in dict.fromkeys(entry.base for entry in entries):
        moved = {
            study.paradigms[entry.column].label: entry.difference.mean
            for entry in entries
            if (entry.base, entry.arm) == (base, "continued")
            and entry.published
            and entry.difference
        }
        if moved:
            column = max(moved, key=lambda label: abs(moved[label]))
            fits = abs(round(moved[column], 2)) <= FITS
            yield (
                f"{study.bases[base].label}: continued − base is {signed(moved[column])} where it "
                f"is largest ({column}), {'' if fits else 'not '}within ±{FITS:g}: recipe "
                f"{'fits' if fits else 'does not fit'} the published rows."
            )


def _beside_the_paper(entries: Sequence[Entry]) -> Iterable[str]:
    if any(entry.published for entry in entries):
        yield (
            "An empty cell of the paper's rows has no counterpart in the paper's table. Ours minus "
            "the paper's score says whether a number is reproduced only where the study has the "
            "paper's images and network; elsewhere compare the differences to the reference."
        )


def _not_asked(entries: Sequence[Entry]) -> Iterable[str]:
    if any(entry.missing == NOT_ASKED for entry in entries):
        yield (
            f"{NOT_ASKED}: the paper's table has no number there, and the study does not ask for "
            "ours; `extended: true` in its file does."
        )


def _unfinished(study: Study, entries: Sequence[Entry]) -> Iterable[str]:
    for entry in entries:
        if entry.features == "raw" and 0 < entry.n < entry.planned:
            yield (
                f"{study.bases[entry.base].label}, {study.arm_label(entry.arm)}, "
                f"{study.paradigms[entry.column].label}: {entry.n} of {entry.planned} runs so far."
            )


def _several_versions(results: pd.DataFrame) -> Iterable[str]:
    versions: dict[str, set[str]] = {}
    for code in results["code"].unique():
        for file, version in results.attrs["code"][code].items():
            versions.setdefault(file, set()).add(version)
    several = sorted(file for file, found in versions.items() if len(found) > 1)
    if several:
        yield (
            f"The results come from several versions of the code of {listed(several)}, so "
            "differences may be due to it: run them again."
        )
