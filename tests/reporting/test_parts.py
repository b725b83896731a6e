"""The registry, and what every part of it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2mc.reporting import PARTS, estimators, made, parts, report_targets
from e2mc.study import load_study

REPOSITORY = Path(__file__).parents[2]
TABLES = ("table1", "table2", "ablations")
NAMES = (*TABLES, *(part.name for part in PARTS if part.name != "sweep_rates"))


def test_a_study_has_its_tables_and_every_part_of_the_registry(study, finished):
    assert list(parts(finished)) == [*TABLES, "criteria", *(part.name for part in PARTS)]
    # tables that have targets of their own are known to a study without them
    assert list(parts(study))[:6] == ["main", "variants", *TABLES, "criteria"]


@pytest.mark.parametrize("name", NAMES)
def test_a_part_makes_the_files_that_it_names_from_those_that_it_names(finished, name, monkeypatch):
    monkeypatch.setattr(estimators, "POINTS", (16,))  # else it takes a minute
    monkeypatch.setattr(estimators, "DIMENSIONS", (1, 2))
    part = parts(finished)[name]
    assert not part.lacking(finished)
    needed = {path.resolve() for path in part.inputs(finished)}
    assert bool(needed) == (name != "estimators")  # which draws its own samples
    for path in Path("results").resolve().rglob("*.*"):
        if path not in needed:
            path.unlink()
    files = part.outputs(finished)
    part.show(finished, files)
    for path in files.values():
        start = {".pdf": b"%PDF", ".png": b"\x89PNG"}.get(path.suffix, b"")
        assert path.read_bytes().startswith(start) and path.stat().st_size
        assert path.is_relative_to(finished.root)
    there = {path for path in finished.root.rglob("*.*")}
    assert there == {*part.inputs(finished), *files.values()}


def test_every_shown_file_has_a_caption_and_a_label_of_its_own(finished):
    labels = []
    for part in parts(finished).values():
        shown = part.labels(finished)
        assert bool(shown) == bool(part.caption)
        assert {path.suffix for path in shown} <= {".html", ".png"}
        assert shown.keys() <= {*part.outputs(finished).values()}
        labels += shown.values()
        if part.caption:
            assert (REPOSITORY / "workflow/report" / part.caption).stat().st_size > 100
    assert len(set(labels)) == len(labels) >= len(NAMES) - 3  # three have files alone


def test_files_are_where_people_look_for_them(finished):
    found = [path for part in parts(finished).values() for path in part.outputs(finished).values()]
    assert len(set(found)) == len(found)
    tables = [f"tables/{name}.{kind}" for name in TABLES for kind in ("csv", "md", "tex", "html")]
    figures = "separability gains embeddings spectrum cost training_swav_long training_simsiam "
    figures += "convergence information stability"
    expected = tables + [f"figures/{n}.{kind}" for n in figures.split() for kind in ("pdf", "png")]
    expected += ["costs.csv", "convergence.csv", "sweep.csv", "sweep.md", "results.csv"]
    expected += ["tables/information.md", "tables/stability.csv", "tables/stability.md"]
    expected += [f"tables/rates.{kind}" for kind in ("csv", "md", "tex", "html")]
    expected += ["figures/rates.png", "figures/rates.pdf"]
    expected += ["figures/estimators.png", "figures/estimators.pdf", "tables/estimators.csv"]
    expected += ["tables/views_bank.csv", "tables/views_bank.md"]
    assert {str(path.relative_to(finished.root)) for path in found} >= {*expected}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("convergence", "study tiny has no convergence: add the key to its file"),
        ("rates", "study tiny has no rates: add the key to its file"),
        ("information", "study tiny has no information: add the key to its file"),
        ("stability", "study tiny has no stability: add the key to its file"),
        ("views_bank", "study tiny has no views_bank: add the key to its file"),
        ("table1", "study tiny has no table table1: add it under `tables` in its file"),
        ("gains", "study tiny has neither table1 nor table2: add one under `tables` in its file"),
        ("cost", "study tiny has neither table1 nor table2: add one under `tables` in its file"),
        ("training", "study tiny continues no base in table1 or table2: add an arm to their rows"),
    ],
)
def test_a_study_says_what_it_lacks(study, name, sentence):
    assert parts(study)[name].lacking(study) == sentence
    assert name not in made(study) and name not in made(study, full=True)


def test_a_sweep_is_lacking_where_the_key_is(study):
    without = study.model_copy(update={"sweep": None})
    assert not parts(study)["sweep"].lacking(study)
    assert parts(without)["sweep"].lacking(without).startswith("study tiny has no sweep:")


def test_all_and_the_full_report(finished, monkeypatch):
    extra = {"ablations", "convergence"}
    asked_for = {"sweep", "views_bank", "estimators"}
    assert {*NAMES} - made(finished).keys() == extra | asked_for
    assert {*NAMES} - made(finished, full=True).keys() == asked_for
    assert report_targets(finished, full=False) == ["all"]
    assert report_targets(finished, full=True) == ["all", "ablations", "convergence"]
    monkeypatch.chdir(REPOSITORY)
    full = report_targets(load_study("paper"), full=True)
    assert full == ["all", "ablations", "convergence"]


def test_a_study_says_what_all_makes(finished):
    chosen = finished.model_copy(update={"targets": ("ablations", "convergence")})
    assert list(made(chosen)) == list(made(chosen, full=True)) == ["ablations", "convergence"]
    assert report_targets(chosen, full=True) == ["all"]
    assert chosen.main_tables == ["ablations"]
    unknown = finished.model_copy(update={"targets": ("table9",)})
    with pytest.raises(ValueError, match="targets: table or figure 'table9' does not exist"):
        made(unknown)
    without = finished.model_copy(update={"targets": ("convergence",), "convergence": None})
    with pytest.raises(ValueError, match="targets: study tiny has no convergence"):
        made(without)


def test_a_table_cannot_be_called_as_a_figure_is(study):
    tables = study.tables | {"gains": study.tables["main"]}
    with pytest.raises(ValueError, match=re.escape("tables.gains: gains is a target already")):
        parts(study.model_copy(update={"tables": tables}))


def test_nobody_but_the_registry_and_the_parts_lists_them():
    """A part is imported by the registry; what several share has a module without a part."""
    folder = REPOSITORY / "e2mc/reporting"
    owners = {path.stem for path in folder.glob("*.py") if re.search(r"\bPart\(", path.read_text())}
    owners -= {"part", "training"}  # the logs are read for the costs, too
    for path in folder.glob("*.py"):
        if path.stem != "__init__":
            imported = set(re.findall(r"from e2mc\.reporting\.(\w+) import", path.read_text()))
            assert not imported & owners, path.name
