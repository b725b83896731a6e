"""A small study, and results for it with known numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from e2mc.study import Run, Study

RECIPE = {"optimizer": {"name": "adamw", "lr": 1e-3}, "epochs": 1, "batch_size": 64}
BASE = {
    "method": {"name": "swav", "params": {"hidden_dim": 16, "dim": 8, "prototypes": 4}},
    "views": [{"size": 28, "count": 2}],
    "pretraining": RECIPE,
    "continued": RECIPE,
}
FINE_TUNE = {"epochs": 1, "batch_size": 8, "trunk_lr": 0.01, "head_lr": 0.2}

Score = Callable[[Run, str, str], float | None]


@pytest.fixture
def study() -> Study:
    return Study.model_validate(
        {
            "name": "tiny",
            "title": "A tiny study",
            "data": {
                "dataset": "fashion-mnist",
                "image_size": 28,
                "normalisation": {"mean": [0.3], "std": [0.3]},
                "validation": 100,
                "outfits": [10, 10, 10],
            },
            "backbone": "resnet-small",
            "bases": {
                "swav_long": {**BASE, "label": "SwAV (long)", "published": "swav_800"},
                "simsiam": {**BASE, "label": "SimSiam", "published": "simsiam"},
            },
            "arms": {
                "continued": {"label": "continued"},
                "e2mc": {"label": "+ E2MC", "criterion": "e2mc"},
                "e2mc-half": {"label": "half", "variant_of": "e2mc"},
                "e2mc-long": {
                    "label": "long",
                    "variant_of": "e2mc",
                    "epochs": 2,
                    "reference": "continued-long",
                },
                "continued-long": {"label": "continued, 2 epochs", "epochs": 2},
            },
            "seeds": {"base": [0], "continuation": [0, 1, 2]},
            "paradigms": {
                "linear_1": {
                    "kind": "linear",
                    "label": "linear 1 %",
                    "label_seeds": [0, 1],
                    "protocol": {"epochs": 1},
                },
                "semisup_1": {
                    "kind": "finetune",
                    "label": "semi-sup. 1 %",
                    "fraction": 0.01,
                    "protocol": FINE_TUNE,
                },
                "outfits_map": {
                    "kind": "svm",
                    "label": "outfits mAP",
                    "dataset": "outfits",
                    "protocol": {},
                },
            },
            "separability": {"base": "swav_long", "arms": ["base", "continued", "e2mc"]},
            "tables": {
                "main": {
                    "title": "Main",
                    "published": 1,
                    "rows": [
                        {"base": base, "arms": ["base", "continued", "e2mc"]}
                        for base in ("swav_long", "simsiam")
                    ],
                    "columns": ["linear_1", "semisup_1", "outfits_map"],
                },
                "variants": {
                    "title": "Variants",
                    "rows": [
                        {
                            "base": "swav_long",
                            "arms": ["continued", "e2mc-half", "continued-long", "e2mc-long"],
                        }
                    ],
                    "columns": ["linear_1"],
                },
            },
            "sweep": {
                "rows": [{"base": "swav_long", "arms": ["continued", "e2mc-half", "e2mc"]}],
                "columns": ["linear_1", "outfits_map"],
                "seeds": [100],
            },
        }
    )


@pytest.fixture
def write_results(tmp_path: Path, study: Study) -> Callable[..., list[Path]]:
    """Writes result files whose headline scores are ``score(run, paradigm, features)``.

    Numbers that no table may show (best epoch, validation, top 5) are written with them.
    """

    def write(
        score: Score,
        runs: Iterable[Run] | None = None,
        columns: Iterable[str] | None = None,
        **changes: Any,
    ) -> list[Path]:
        paths = []
        for run in study.runs(study.tables["main"].rows) if runs is None else runs:
            for name in study.paradigms if columns is None else columns:
                record = {**result(study, run, name, score), **changes}
                path = tmp_path / study.result_path(run, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(record), encoding="utf-8")
                paths.append(path)
        return paths

    return write


def result(study: Study, run: Run, name: str, score: Score) -> dict[str, Any]:
    paradigm = study.paradigms[name]
    metric = "map" if paradigm.kind == "svm" else "top1"
    scores = []
    for features in ("raw", "whitened") if paradigm.kind == "linear" else ("raw",):
        value = score(run, name, features)
        for i, seed in enumerate(getattr(paradigm, "label_seeds", (0,)) if value else ()):
            where = {"features": features, "probe_seed": seed}
            shift = (-0.5, 0.5)[i] if len(getattr(paradigm, "label_seeds", (0,))) == 2 else 0
            for what, selection, split, offset in (
                (metric, "last", "test", 0),
                (metric, "best", "test", 7),
                (metric, "last", "validation", -7),
                ("top5", "last", "test", 11),
            ):
                scores.append(
                    {
                        "metric": what,
                        "value": value + shift + offset,
                        "selection": selection,
                        "split": split,
                        **where,
                    }
                )
    return {
        "study": study.name,
        "base": run.base,
        "arm": run.arm,
        "base_seed": run.base_seed,
        "continuation_seed": run.continuation_seed,
        "paradigm": name,
        "scores": scores,
        "protocol": {},
        "details": {},
        "spec_hash": "0" * 12,
        "code": {"evaluation": "a" * 12},
        "versions": {},
        "device": "cpu",
        "wall_seconds": 1.0,
        "peak_memory_mb": 100.0,
    }
