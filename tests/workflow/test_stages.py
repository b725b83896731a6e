"""Stages in one folder: what an earlier one has computed is planned by no later one, nor again."""

from __future__ import annotations

import pytest
import trees
import yaml

FIRST, WHOLE, LAST = "studies/first.yaml", "studies/whole.yaml", "studies/last.yaml"
RUNS = [{"base": "swav", "arms": ["base", "continued", "e2mc"]}]
STUDIES = {
    # the paper's table leaves semi-sup., iNat18 and VOC07 of `continued` blank
    WHOLE: {
        "extends": "on-disk",
        "name": "whole",
        "extended": False,
        "stages": ["first", "whole", "last"],
        "seeds": {"continuation": [0, 1]},
        "arms": {"e2mc-weak": {"label": "weak", "variant_of": "e2mc"}},
        # passes of their own, as in the paper's study
        "paradigms": {"linear_100": {"shared_pass": False}},
        "tables": {
            "ablations": {
                "title": "What matters",
                "rows": [{"base": "swav", "arms": ["continued", "e2mc", "e2mc-weak"]}],
                "columns": ["linear_1", "linear_10"],
            }
        },
    },
    FIRST: {
        "extends": "whole",
        "name": "first",
        "results": "whole",
        "targets": ["claim"],
        "seeds": {"continuation": [0]},
        "tables": {"claim": {"title": "Claim", "rows": RUNS, "columns": ["linear_1", "linear_10"]}},
    },
    LAST: {"extends": "whole", "name": "last", "results": "whole", "targets": ["ablations"]},
}


@pytest.fixture(scope="module")
def staged(tmp_path_factory, new_checkout):
    """A checkout in which the first stage has been run."""
    made = with_stages(new_checkout(tmp_path_factory.mktemp("stages")))
    run(made, FIRST)
    return made


def with_stages(checkout):
    trees.study_on_disk(checkout.folder)
    for path, content in STUDIES.items():
        (checkout.folder / path).write_text(yaml.safe_dump(content))
    return checkout


def run(checkout, study, *targets):
    done = checkout.snakemake("--cores", "1", *targets, study=study, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:]


def steps(jobs):
    """Jobs of a plan without those of reporting, which take no time."""
    return {name: count for name, count in jobs.items() if name not in ("all", "table1")}


@pytest.mark.slow
def test_a_later_stage_uses_what_an_earlier_one_has_computed(staged):
    assert staged.jobs(study=FIRST) == {}
    found = steps(staged.jobs("table1", study=WHOLE))
    # of seed 0 both models and their linear 1 and 10 % are there
    assert found == {
        "continue_pretraining": 2,
        "evaluate_frozen_linear_1": 2,
        "evaluate_frozen_linear_100": 5,
        "evaluate_fine_tuned": 3,
        "evaluate_frozen_inat18_top1": 3,
        "evaluate_frozen_voc07": 3,
        "index_data": 2,
    }
    found = staged.jobs(study=LAST)
    assert found == {
        "all": 1,
        "ablations": 1,
        "continue_pretraining": 4,
        "evaluate_frozen_linear_1": 4,
    }
    root = staged.folder / "results/whole"
    before = {path: path.stat().st_mtime_ns for path in root.rglob("evaluations/**/*.json")}
    assert before
    run(staged, WHOLE, "table1")
    run(staged, LAST)
    for study, targets in ((WHOLE, ["table1", "ablations"]), (LAST, []), (FIRST, [])):
        assert staged.jobs(*targets, study=study) == {}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert sorted(path.name for path in root.glob("tables/*.md")) == [
        "ablations.md",
        "claim.md",
        "table1.md",
    ]
    assert not (staged.folder / "results/first").exists()
    text = (root / "tables/table1.md").read_text()
    assert "not run" not in text and "*–*" in text
    assert "§ to base: the paper has no continued in this column." in text


def test_the_plan_of_a_stage_alone(checkout):
    with_stages(checkout)
    assert steps(checkout.jobs(study=FIRST)) == {
        "claim": 1,
        "index_data": 1,
        "pretrain_base": 1,
        "continue_pretraining": 2,
        "evaluate_frozen_linear_1": 3,
    }
