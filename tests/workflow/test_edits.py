"""What an edit of the study or of the code reruns on the finished smoke study, and why."""

import json

from checkouts import count_jobs, reasons, values_of

from e2mc.steps.code import PACKAGE
from e2mc.study import Run, load_study

ROOT = "results/smoke"
EVERYTHING = ("all", "report")
COMPUTES = {
    "prepare_data",
    "pretrain_base",
    "continue_pretraining",
    "evaluate_frozen",
    "evaluate_fine_tuned_and_transfer",
    "measure",
    "measure_information",
}
# from every room, of which the smoke study uses each but the published formats
REMARKED = (
    "entropy.py",
    "criteria/vcreg.py",
    "data/voc2007.py",
    "models/small_resnet.py",
    "methods/vicreg.py",
    "checkpoints/download.py",
    "training/loop.py",
    "evaluation/linear.py",
    "reporting/gains.py",
    "steps/evaluation.py",
)


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new))


def scored(plan):
    """Runs that a plan scores, and runs that it trains."""
    jobs = reasons(plan)
    scores = {job.split(":")[0].removeprefix("Scoring ") for job in jobs if "Scoring" in job}
    return scores, {job.removeprefix("Continuing ") for job in jobs if "Continuing" in job}


# --- of the study ---


def test_one_coefficient_reruns_only_its_arm(copy_of_finished):
    arm = "vcreg: {label: + VCReg, criterion: vcreg, params: {variance_weight: "
    path = copy_of_finished.folder / "studies/fashion.yaml"
    edit(path, arm + "3.0", arm + "2.0")
    jobs = copy_of_finished.jobs("all")
    assert jobs["continue_pretraining"] == 2
    assert jobs["evaluate_frozen"] == 2
    assert jobs.keys() & COMPUTES == {"continue_pretraining", "evaluate_frozen"}
    assert jobs["table2"] == 1 and "table1" not in jobs


def test_reason_names_the_one_value_that_changed(copy_of_finished):
    path = copy_of_finished.folder / "studies/fashion.yaml"
    text = path.read_text(encoding="utf-8")
    arm = text[text.index("  e2mc:\n") : text.index("  vcreg: {")]
    edit(path, arm, arm.replace("vicreg: {entropy_weight: 35.0", "vicreg: {entropy_weight: 0.5"))
    plan = copy_of_finished.plan("all")
    why = reasons(plan)
    for seed in (0, 1):
        before, now = values_of(why[f"Continuing vicreg as e2mc, base0-cont{seed}"])
        assert before == ["criteria.0.params.entropy_weight: 35.0"]
        assert now == ["criteria.0.params.entropy_weight: 0.5"]
    assert {"swav_long as vcreg", "swav_long as e2mc", "vicreg as continued"}.isdisjoint(
        job.split(",")[0] for job in scored(plan)[1]
    )


def test_reason_of_a_protocol_names_its_paradigm(copy_of_finished):
    path = copy_of_finished.folder / "studies/smoke.yaml"
    edit(path, "linear_100: {protocol: {epochs: 2", "linear_100: {protocol: {epochs: 3")
    plan = copy_of_finished.plan("all")
    assert count_jobs(plan).keys() & COMPUTES == {"evaluate_frozen"}
    why = [reason for job, reason in reasons(plan).items() if job.startswith("Scoring")]
    for reason in why:
        before, now = values_of(reason)
        assert before == ["paradigms.linear_100.protocol.epochs: 2"]
        assert now == ["paradigms.linear_100.protocol.epochs: 3"]
    assert len(why) == count_jobs(plan)["evaluate_frozen"]
    assert all(job.endswith(": linear_100") for job in reasons(plan) if job.startswith("Scoring"))


def test_label_of_a_row_reruns_no_computation(copy_of_finished):
    path = copy_of_finished.folder / "studies/fashion.yaml"
    edit(path, "label: + VCReg,", "label: + VCReg (ours),")
    jobs = copy_of_finished.jobs("all")
    assert jobs["table2"] == jobs["gains"] == 1
    assert not jobs.keys() & COMPUTES


# --- of the code ---


def test_remarks_plan_nothing(copy_of_finished):
    package = copy_of_finished.with_package()
    for name in REMARKED:
        path = package / name
        docstring, rest = path.read_text().split("from __future__ import annotations\n", 1)
        assert docstring.startswith('"""')
        path.write_text(
            '"""Another docstring."""\n\n# and a remark\nfrom __future__ import annotations\n\n'
            f"{rest}\n\n# the end\n"
        )
    assert copy_of_finished.jobs(*EVERYTHING) == {}


def test_constant_of_a_criterion_retrains_its_arms_and_no_other(copy_of_finished):
    package = copy_of_finished.with_package()
    edit(
        package / "criteria/vcreg.py", "variance_weight: float = 1.0", "variance_weight: float = 2"
    )
    plan = copy_of_finished.plan(*EVERYTHING)
    jobs, (scores, trained) = count_jobs(plan), scored(plan)
    assert trained == {f"swav_long as vcreg, base0-cont{seed}" for seed in (0, 1)}
    # its term is measured on all arms of the base, and nothing else of them is scored
    of_arm = {f"swav_long vcreg base0-cont{seed}" for seed in (0, 1)}
    assert of_arm < scores and all(run.startswith("swav_long ") for run in scores)
    for job in reasons(plan):
        if job.startswith("Scoring") and "swav_long vcreg" not in job:
            assert job.endswith(": embeddings")
    assert jobs.keys() & COMPUTES == {"continue_pretraining", "evaluate_frozen"}
    assert jobs["table2"] == 1
    for job, reason in reasons(plan).items():
        if job.startswith("Continuing"):
            (before,), (now,) = values_of(reason)
            assert before.startswith("code of criteria/: base.py ") and before != now
            versions = [dict(pair.split() for pair in text.split(": ")[1].split(", "))
                        for text in (before, now)]  # fmt: skip
            assert {file for file in versions[1] if versions[0][file] != versions[1][file]} == {
                "vcreg.py"
            }


def results(folder, run="vicreg/base/base0"):
    """Every result of a run to the last digit; times mean nothing, as Snakemake renews them."""
    paths = (folder / ROOT / "evaluations" / run).glob("*.json")
    return {path.stem: path.read_text() for path in paths}


def test_constant_of_knn_rescores_knn_alone(copy_of_finished):
    study = load_study(str(copy_of_finished.folder / "studies/smoke.yaml"))
    [name] = [name for name, paradigm in study.paradigms.items() if paradigm.kind == "knn"]
    package = copy_of_finished.with_package()
    edit(package / "evaluation/knn.py", "BANK_ROWS = 2**17", "BANK_ROWS = 2**16")
    plan = copy_of_finished.plan(*EVERYTHING)
    jobs = count_jobs(plan)
    assert jobs.keys() & COMPUTES == {"evaluate_frozen"}
    assert all(job.endswith(f": {name}") for job in reasons(plan) if job.startswith("Scoring"))
    before = results(copy_of_finished.folder)
    target = study.result_path(Run("vicreg", "base", 0, None), name)
    done = copy_of_finished.snakemake("--cores", "1", str(target))
    assert done.returncode == 0, done.stdout
    assert count_jobs(done.stdout) == {"evaluate_frozen": 1}
    after = results(copy_of_finished.folder)
    assert {key for key in before if after[key] != before[key]} == {name}
    scores = [json.loads(found[name])["scores"] for found in (before, after)]
    assert scores[0] == scores[1]  # smaller pieces, the same votes
    assert copy_of_finished.jobs(str(target)) == {}


def test_constant_of_a_figure_remakes_it_alone(copy_of_finished):
    package = copy_of_finished.with_package()
    edit(package / "reporting/gains.py", "lw=0.6, zorder=0", "lw=0.7, zorder=0")
    assert copy_of_finished.jobs(*EVERYTHING) == {"gains": 1, "all": 1, "report": 1}


def test_constant_of_all_figures_remakes_figures_and_nothing_else(copy_of_finished):
    package = copy_of_finished.with_package()
    add_constant(package / "reporting/style.py")
    jobs = copy_of_finished.jobs(*EVERYTHING)
    assert jobs["gains"] == jobs["spectrum"] == jobs["report"] == 1
    assert not jobs.keys() & (COMPUTES | {"table1", "table2", "results"})


def add_constant(path):
    path.write_text(path.read_text() + "\n\nADDED = 1\n")


def test_constant_of_a_download_plans_nothing(copy_of_finished):
    add_constant(copy_of_finished.with_package() / "checkpoints/download.py")
    assert copy_of_finished.jobs(*EVERYTHING) == {}


def test_constant_of_other_data_plans_no_training_and_no_evaluation(copy_of_finished):
    """Images are prepared again where code of the room has changed, and are the same."""
    add_constant(copy_of_finished.with_package() / "data/voc2007.py")
    jobs = copy_of_finished.jobs(*EVERYTHING)
    assert jobs.keys() & COMPUTES == {"prepare_data"}
    assert jobs == {"prepare_data": 1}


def test_copy_of_the_package_is_the_one_that_is_used(copy_of_finished):
    """Or the tests above would see no edit."""
    package = copy_of_finished.with_package()
    (package / "study/study.py").write_text("raise SystemExit('the copy')\n")
    assert "the copy" in copy_of_finished.snakemake("--dry-run", "all").stdout
    assert package != PACKAGE
