"""Every study's plan, and bad input: one sentence, a non-zero exit."""

from pathlib import Path

import pytest

from e2mc.reporting import parts
from e2mc.study import load_study

REPOSITORY = Path(__file__).parents[2]
STUDIES = sorted(path.stem for path in (REPOSITORY / "studies").glob("*.yaml"))


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("target", ["all", "ablations", "sweep", "bases"])
def test_dry_run(study, target, checkout):
    assert sum(checkout.jobs(target, study=study).values()) > 3


def test_default_study_has_the_papers_rows(checkout):
    jobs = checkout.jobs("all", study="fashion")
    # 4 bases x (continued, e2mc) x 3 seeds, and 3 rivals x 3 seeds on one of them
    assert jobs["continue_pretraining"] == 33
    assert jobs["evaluate_frozen"] == 37
    assert jobs["evaluate_fine_tuned_and_transfer"] == 28
    assert "pretrain_base" not in jobs


def test_glyphs_trains_its_bases_and_all_arms(checkout):
    jobs = checkout.jobs("all", study="glyphs")
    assert jobs["index_data"] == 1 and jobs["pretrain_base"] == 2 * 5
    assert jobs["continue_pretraining"] == 2 * 5 * 5
    assert jobs["evaluate_frozen"] == 2 * 5 * 6
    assert "evaluate_fine_tuned" not in jobs and "measure" not in jobs


def test_paper_is_planned_whole_on_a_machine_without_the_data(checkout):
    jobs = checkout.jobs("all", study="paper")
    # 4 bases x (continued, e2mc) x 3 seeds, and 3 rivals x 3 seeds on one of them
    assert jobs["download_base"] == jobs["convert_base"] == 4
    assert jobs["continue_pretraining"] == 33
    assert jobs["evaluate_frozen_linear_1"] == jobs["evaluate_frozen_linear_100"] == 33 + 4
    # bases and E2MC, as the paper; not SimSiam's semi-supervised ones
    assert jobs["evaluate_frozen_inat18_top1"] == jobs["evaluate_frozen_voc07"] == 4 + 12
    assert jobs["evaluate_fine_tuned"] == 3 + 9
    assert jobs["index_data"] == 3
    held_out = "evaluate_frozen_linear_1_held_out"
    assert held_out not in jobs and "pretrain_base" not in jobs
    # 4 bases x (base, 3 rates, 4 weights), and 6 candidates of the rivals
    assert checkout.jobs("sweep", study="paper")[held_out] == 4 * 8 + 6
    assert checkout.jobs("sweep_rates", study="paper")[held_out] == 4 * 4


def test_stages_of_the_paper_make_what_their_names_say(checkout):
    first = checkout.jobs(study="paper-first")
    assert first["first"] == 1 and "separability" not in first
    assert (first["continue_pretraining"], first["evaluate_frozen_linear_1"]) == (2, 3)
    assert not {"evaluate_frozen_linear_100", "evaluate_fine_tuned"} & first.keys()
    criteria = checkout.jobs(study="paper-criteria")
    assert criteria == checkout.jobs("criteria", study="paper") | {"all": 1}
    curves = checkout.jobs(study="paper-convergence")
    assert (curves["convergence"], curves["continue_pretraining"]) == (1, 6 * 3)
    er = checkout.jobs(study="paper-er")
    assert er["pretrain_base"] == er["evaluate_frozen_linear_100"] == 16
    assert er["information"] == er["stability"] == 1 and "continue_pretraining" not in er


@pytest.mark.parametrize(
    ("study", "target", "sentence"),
    [
        ("paper", "er", "study paper has no information: add the key to its file"),
        ("paper", "stability", "study paper has no stability: add the key to its file"),
        ("fashion", "criteria", "study fashion has no table criteria: add it under `tables`"),
        ("fashion", "sweep_rates", "study fashion has no rates in its sweep: add the key sweep."),
        ("er", "convergence", "study er has no convergence: add the key to its file"),
    ],
)
def test_a_target_that_a_study_has_not_is_one_sentence(study, target, sentence, checkout):
    done = checkout.snakemake("--dry-run", target, study=study)
    assert done.returncode == 1
    assert sentence in done.stdout and "Traceback" not in done.stdout


def test_targets_that_there_are_not(checkout):
    path = checkout.folder / "studies/paper-first.yaml"
    path.write_text(path.read_text().replace("[first]", "[frist]"))
    done = checkout.snakemake("--dry-run", study="paper-first")
    assert done.returncode == 1
    assert "targets: table or figure 'frist' does not exist, expected one of" in done.stdout
    assert "Traceback" not in done.stdout


BAD_STUDIES = [
    ("epochs: 1\n", "epochs: -1\n", "bases.vicreg.continued: epochs must be at least 1, found -1"),
    ("batch_size: 256", "batch_sise: 256", "did you mean 'batch_size'"),
    ("criterion: auh", "criterion: auhh", "auhh"),
    ("params: {window: 64}", "params: {window: 300}", "window of 300 needs batches of at least"),
    ("{base: swav_long, arms: [base", "{base: swav_longer, arms: [base", "swav_longer"),
    ("{weight: 0.09}", "{wait: 0.09}", "parameter 'wait' does not exist, expected one of"),
    ("backbone: resnet-small", "backbone: resnet-smal", "resnet-smal"),
]


@pytest.mark.parametrize(("old", "new", "expected"), BAD_STUDIES)
def test_bad_study(old, new, expected, checkout):
    path = checkout.folder / "studies/fashion.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = checkout.snakemake("--dry-run", study="fashion")
    assert done.returncode != 0
    assert "studies/fashion.yaml: " in done.stdout and expected in done.stdout
    assert "Traceback" not in done.stdout


def test_study_that_does_not_exist(checkout):
    done = checkout.snakemake("--dry-run", study="fashoin")
    assert done.returncode != 0
    assert (
        "study file studies/fashoin.yaml does not exist: choose one of cifar100, er, "
        in done.stdout
    )


def test_misspelt_key_in_config(checkout):
    path = checkout.folder / "config.yaml"
    path.write_text(path.read_text().replace("launcher: local", "lancher: local"))
    done = checkout.snakemake("--dry-run")
    assert done.returncode != 0
    assert "config.yaml: unknown key lancher, did you mean 'launcher'" in done.stdout


def test_shipped_checkpoint_that_changed_stops_the_workflow(checkout):
    path = next((checkout.folder / "checkpoints").rglob("*.pt"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = checkout.snakemake("--dry-run", study="fashion")
    assert done.returncode != 0
    assert f"{path.name} has SHA-256" in done.stdout.replace("\n", "")


def test_missing_shipped_checkpoint_is_retrained_if_config_says_so(checkout):
    next((checkout.folder / "checkpoints").rglob("*.pt")).unlink()
    path = checkout.folder / "config.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("base_checkpoints: shipped", "base_checkpoints: shipped-or-retrain")
    )
    assert checkout.jobs("all", study="fashion")["pretrain_base"] == 1


def test_data_folder_without_the_files(checkout):
    path = checkout.folder / "config.yaml"
    path.write_text(path.read_text().replace("fashion-mnist: null", "fashion-mnist: studies"))
    done = checkout.snakemake("--cores", "1", "results/smoke/data/images.pt")
    assert done.returncode != 0
    assert "error: cannot read studies/train-images-idx3-ubyte.gz" in done.stdout


@pytest.mark.parametrize("study", STUDIES)
def test_rules_bear_the_names_of_what_they_make(study, checkout):
    """Every table and figure is a target of its name, and every job of evaluation has its rule."""
    listed = checkout.snakemake("--list", study=study)
    assert listed.returncode == 0, listed.stdout
    rules = {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
    known = load_study(str(REPOSITORY / f"studies/{study}.yaml"))
    kept = {"pretrain_base", "continue_pretraining", "convert_base", "download_base"}
    images = "prepare_data" if known.data.dataset == "fashion-mnist" else "index_data"
    targets = {"all", "bases", "check_data", "report", "full_report", "er", images}
    assert {*parts(known), *known.evaluation_jobs(), *kept, *targets} <= rules
