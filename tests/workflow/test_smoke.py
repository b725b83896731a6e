"""The smoke study, run for real from images to report, and what it has made."""

import csv
import json
import shutil

ROOT = "results/smoke"


def test_everything_is_there(finished):
    root = finished.folder / ROOT
    for table in ("table1", "table2"):
        for kind in ("csv", "md", "tex", "html"):
            assert (root / "tables" / f"{table}.{kind}").stat().st_size > 200
    diagnostics = ("embeddings", "spectrum", "cost", "training_vicreg", "training_swav_long")
    for figure in ("separability", "gains", "information", "stability", *diagnostics):
        assert (root / "figures" / f"{figure}.png").read_bytes()[:4] == b"\x89PNG"
        assert (root / "figures" / f"{figure}.pdf").read_bytes()[:4] == b"%PDF"
    report = (root / "report.html").read_text()
    assert "Class separation" in report or "separability" in report


def test_the_smallest_table_is_there_before_the_others_are_measured(finished):
    made = (finished.folder / ROOT / "tables/table2.csv").stat().st_mtime
    results = (finished.folder / ROOT / "evaluations").rglob("*.json")
    assert sum(path.stat().st_mtime > made for path in results) > 20


def test_results_explain_themselves(finished):
    path = finished.folder / ROOT / "evaluations/swav_long/e2mc/base0-cont1/linear_1.json"
    result = json.loads(path.read_text())
    assert (result["base"], result["arm"]) == ("swav_long", "e2mc")
    assert (result["base_seed"], result["continuation_seed"]) == (0, 1)
    assert {score["probe_seed"] for score in result["scores"]} == {0, 1}
    assert {score["features"] for score in result["scores"]} == {"raw", "whitened"}
    assert all(0 <= score["value"] <= 100 for score in result["scores"])
    for key in ("protocol", "decided_by", "code", "versions", "device", "wall_seconds", "images"):
        assert result[key]


def test_results_are_tidy(finished):
    with (finished.folder / ROOT / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = ("base", "arm", "base_seed", "continuation_seed", "paradigm", "metric")
    keys += ("features", "selection", "split", "probe_seed")
    names = [tuple(row[key] for key in keys) for row in rows]
    assert len(set(names)) == len(names) > 300


def test_every_loss_term_was_logged(finished):
    path = finished.folder / ROOT / "continued/vicreg/e2mc/base0-cont0/training.csv"
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 4
    assert {"vicreg_invariance", "e2mc/entropy", "e2mc/covariance"} <= rows[0].keys()


def test_nothing_is_left_to_do(finished):
    assert finished.jobs("all", "report") == {}


def test_table_from_nothing_but_the_results(finished, checkout):
    source = finished.folder / ROOT / "evaluations"
    shutil.copytree(source, checkout.folder / ROOT / "evaluations", copy_function=shutil.copy)
    assert checkout.jobs("table1") == {"table1": 1}
    done = checkout.snakemake("--cores", "1", "table1")
    assert done.returncode == 0, done.stdout
    made, first = (
        (folder / ROOT / "tables/table1.md").read_text()
        for folder in (checkout.folder, finished.folder)
    )
    assert made == first
    assert not (checkout.folder / ROOT / "data").exists()


def test_single_result_is_a_target(copy_of_finished):
    target = f"{ROOT}/evaluations/swav_long/e2mc-entropy-only/base0-cont0/linear_1.json"
    jobs = copy_of_finished.jobs(target)
    assert jobs == {"continue_pretraining": 1, "evaluate_frozen": 1}


def test_half_written_file_is_not_taken_for_a_finished_one(copy_of_finished):
    root = copy_of_finished.folder / ROOT
    checkpoint = root / "continued/vicreg/e2mc/base0-cont0/checkpoint.pt"
    checkpoint.rename(checkpoint.with_name(".checkpoint.pt.abc.part"))
    target = "evaluations/vicreg/e2mc/base0-cont0/linear_1.json"
    (root / target).unlink()
    jobs = copy_of_finished.jobs(f"{ROOT}/{target}")
    assert jobs == {"continue_pretraining": 1, "evaluate_frozen": 1}


def test_home_that_cannot_be_written(copy_of_finished, monkeypatch):
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/none")
    figure = copy_of_finished.folder / ROOT / "figures/gains.png"
    figure.unlink()
    done = copy_of_finished.snakemake("--cores", "1", "gains")
    assert done.returncode == 0 and figure.exists(), done.stdout
    log = (copy_of_finished.folder / ROOT / "logs/gains.log").read_text()
    assert "/proc/none" not in done.stdout + log
