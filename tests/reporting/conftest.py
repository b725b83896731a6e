"""A small study, and results for it with known numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from e2mc.reporting.action_scores import METRICS
from e2mc.reporting.results import run_of
from e2mc.reporting.training import read_logs
from e2mc.study import Run, Study

RECIPE = {"optimizer": {"name": "adamw", "lr": 1e-3}, "epochs": 1, "batch_size": 64}
BASE = {
    "method": {"name": "swav", "params": {"hidden_dim": 16, "dim": 8, "prototypes": 4}},
    "views": [{"size": 28, "count": 2}],
    "pretraining": RECIPE,
    "continued": RECIPE,
}
FINE_TUNE = {"epochs": 1, "batch_size": 8, "trunk_lr": 0.01, "head_lr": 0.2}

WHERE = ("features", "selection", "split", "probe_seed")

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

    def write_all(
        score: Score,
        runs: Iterable[Run] | None = None,
        columns: Iterable[str] | None = None,
        of: Study = study,
        **changes: Any,
    ) -> list[Path]:
        paths = []
        for run in of.runs(of.tables["main"].rows) if runs is None else runs:
            for name in of.paradigms if columns is None else columns:
                record = {**result(of, run, name, score), **changes}
                paths.append(tmp_path / of.result_path(run, name))
                write(paths[-1], json.dumps(record))
        return paths

    return write_all


@pytest.fixture
def measured(study: Study) -> list[dict[str, Any]]:
    """Measurements of three arms with shapes that are easy to see; E2MC's entropies are higher."""
    found = []
    compared = study.separability_runs()
    for run in study.runs(study.tables["main"].rows):
        if run.continuation_seed != 2:
            seed = run.continuation_seed or 0
            entropy = -0.1 if run.arm == "e2mc" else -0.3
            embedded = dict.fromkeys(METRICS, 1.0) | {"embedding_rank": 10.0 + seed}
            for name, scores, details in (
                ("separability", {"auc": 0.9, "class_r2": 0.3 + seed / 100}, separability()),
                ("embeddings", embedded | {"marginal_entropy": entropy}, embeddings(entropy)),
            ):
                if name == "separability" and run not in compared:
                    continue
                found.append(record_of(study, run, name) | {"details": details})
                found[-1]["scores"] = [
                    {"metric": metric, "value": value} | dict.fromkeys(WHERE, "")
                    for metric, value in scores.items()
                ]
    return found


def rates(
    accuracy: Callable[[str, float], float | None],
    learning_rates: tuple[float, ...] = (0.03, 0.3, 3.0),
    chosen: float | None = 0.3,
) -> dict[str, Any]:
    """What a result says of heads at several rates, on one label subset of seed 0."""
    features = {}
    for kind in ("raw", "standardised", "whitened"):
        features[kind] = {"test_top1": {"0": [accuracy(kind, rate) for rate in learning_rates]}}
        if chosen is not None:
            validation = [80.0 if rate == chosen else 75.0 for rate in learning_rates]
            features[kind]["validation_top1"] = {"0": validation}
    return {"learning_rates": list(learning_rates), "fixed": 0.3, "features": features}


def separability() -> dict[str, Any]:
    edges = np.linspace(-1, 1, 21)
    density = np.exp(-((edges[:-1] - 0.3) ** 2) / 0.05)
    return {
        "cosine": {
            "edges": edges.tolist(),
            "within": density.tolist(),
            "between": density[::-1].tolist(),
        },
        "labelings": {
            "n_over_d": [0.5, 1.0, 1.5, 2.0, 2.5],
            "share": [1, 1, 1, 0.5, 0],
            "share_with_margin": [1, 1, 0.4, 0, 0],
            "cover": [1, 1, 0.99, 0.5, 0.02],
            "margin": 0.1,
        },
        "rank": {"effective_rank": 5.0},
    }


def embeddings(entropy: float) -> dict[str, Any]:
    return {
        "marginals": {
            "edges": np.linspace(0, 1, 11).tolist(),
            "coordinates": [0, 7],
            "densities": [[1.0] * 10, [0.5, 1.5] * 5],
            "entropies": [entropy, entropy - 0.1],
        },
        "entropies": np.linspace(entropy - 0.2, entropy, 101).tolist(),
        "correlations": {
            "edges": np.linspace(-1, 1, 21).tolist(),
            "density": np.exp(-(np.linspace(-1, 1, 20) ** 2) * 20).tolist(),
        },
        "spectrum": {"rank": [1, 2, 4, 8], "share": [0.5, 0.2, 0.1, 0.01]},
        "terms": {"e2mc": {"term": "entropy", "value": entropy, "ideal": -0.01}},
    }


@pytest.fixture
def rates_record() -> Callable[..., dict[str, Any]]:
    """Makes a result with the details of ``rates``."""

    def make(study: Study, run: Run, name: str, *args: Any, **settings: Any) -> dict[str, Any]:
        return record_of(study, run, name) | {"details": {"rates": rates(*args, **settings)}}

    return make


@pytest.fixture
def logs(study: Study, tmp_path: Path) -> pd.DataFrame:
    """Training logs of two arms with two seeds each; E2MC has a term of its own."""
    paths: dict[Run, Path] = {}
    for arm in ("continued", "e2mc"):
        for seed in (0, 1):
            run = Run("swav_long", arm, 0, seed)
            frame = pd.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.0 + seed]})
            if arm == "e2mc":
                frame["e2mc/entropy"] = [-0.3, -0.2, -0.1]
            frame = frame.assign(lr=0.1, seconds=[1.0, 2.0, 30.0 + seed])
            paths[run] = tmp_path / study.log_path(run)
            paths[run].parent.mkdir(parents=True)
            frame.to_csv(paths[run], index=False)
    return read_logs([*paths], [*paths.values()])


@pytest.fixture
def seventh(study: Study) -> Study:
    """A study with a paradigm of a kind that no code of reporting knows."""
    paradigm = SimpleNamespace(
        kind="seventh",
        label="a seventh",
        dataset="images",
        metric="agreement",
        stage="seventh of its kind",
        selects_epochs=False,
        tells_saturation=False,
        draws=False,
        frozen=True,
        remark="",
        kinds_of_features=("raw", "whitened"),
    )
    table = study.tables["main"].model_copy(update={"columns": ("outfits_map", "other")})
    paradigms = study.paradigms | {"other": paradigm}
    return study.model_copy(
        update={"paradigms": paradigms, "tables": study.tables | {"main": table}}
    )


@pytest.fixture
def finished(
    study: Study,
    measured: list[dict[str, Any]],
    write_results: Callable[..., list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Study:
    """A study with every table and figure, and in this folder all that they are made from."""
    content = study.model_dump(mode="json")
    tables = content["tables"]
    content["tables"] = {
        "table1": tables["main"],
        "table2": tables["main"] | {"published": 2},
        "ablations": tables["variants"],
    }
    content["seeds"]["continuation"] = [0, 1]
    bases = ["swav_long", "simsiam"]
    content["information"] = {"bases": bases}
    content["stability"] = {"column": "linear_1", "batch_size": bases, "ema": []}
    curves = [["continued", "continued-long"], ["e2mc", "e2mc-long"]]
    content["convergence"] = {"base": "swav_long", "curves": curves, "columns": ["linear_1"]}
    columns = [["linear_1", "semisup_1"]]
    pairs = [{"base": base, "arms": ["continued", "e2mc"]} for base in bases]
    content["rates"] = {"rows": pairs, "columns": ["linear_1"]}
    content["views_bank"] = {"base": "swav_long", "arm": "e2mc", "columns": columns}
    made = Study.model_validate(content)
    rows = [row for table in made.tables.values() for row in table.rows]
    rows += [*made.sweep.rows, *made.convergence_rows()] if made.sweep else []
    runs = made.runs(rows) + made.runs(rows, seeds=(100,))

    def score(run: Run, paradigm: str, features: str) -> float:
        return 70.0 + 0.1 * (run.continuation_seed or 0) + (run.arm == "e2mc")

    write_results(score, runs=runs, of=made, details={"rates": rates(lambda kind, rate: 70.0)})
    for record in measured:
        write(tmp_path / made.result_path(run_of(record), record["paradigm"]), json.dumps(record))
    for run in made.continued_runs():
        log = "step,loss,lr,seconds\n1,3.0,0.1,1.0\n2,2.0,0.1,2.0\n"
        write(tmp_path / made.log_path(run), log)
    for run in made.information_runs():
        curve = "epoch,entropy,reconstruction,bound,marginal_entropy,uniform\n"
        curve += "0,-9,-8,-1,-3,-10\n1,-7,-9,2,-2,-10\n"
        write(tmp_path / made.information_path(run), curve)
    monkeypatch.chdir(tmp_path)
    return made


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def result(study: Study, run: Run, name: str, score: Score) -> dict[str, Any]:
    paradigm = study.paradigms[name]
    scores = []
    for features in paradigm.kinds_of_features:
        value = score(run, name, features)
        for i, seed in enumerate(getattr(paradigm, "label_seeds", (0,)) if value else ()):
            where = {"features": features, "probe_seed": seed}
            shift = (-0.5, 0.5)[i] if len(getattr(paradigm, "label_seeds", (0,))) == 2 else 0
            for what, selection, split, offset in (
                (paradigm.metric, "last", "test", 0),
                (paradigm.metric, "best", "test", 7),
                (paradigm.metric, "last", "validation", -7),
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
    return record_of(study, run, name) | {"scores": scores}


def record_of(study: Study, run: Run, name: str) -> dict[str, Any]:
    """A result without scores."""
    return {
        "study": study.name,
        "base": run.base,
        "arm": run.arm,
        "base_seed": run.base_seed,
        "continuation_seed": run.continuation_seed,
        "paradigm": name,
        "scores": [],
        "protocol": {},
        "details": {},
        "decided_by": {},
        "code": {"evaluation/heads.py": "a" * 12},
        "versions": {},
        "device": "cpu",
        "wall_seconds": 1.0,
        "peak_memory_mb": 100.0,
    }
