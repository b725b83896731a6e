"""Scoring as a task: what a result says of itself, and which results are made anew."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.data.images import ImageSet, Splits
from e2mc.progress import Interrupted
from e2mc.steps import evaluation
from e2mc.steps.evaluation import decided_by, evaluation_code, evaluation_task
from e2mc.steps.reporting import expect_results
from e2mc.study import Run, Study, load_study
from e2mc.task import plain

REPOSITORY = Path(__file__).parents[2]
BASE = Run("vicreg", "base", 0, None)
ARM = Run("vicreg", "e2mc", 0, 1)
SHIPPED = Path("checkpoints/fashion/vicreg-base0.pt")
NAMES = ("linear_1", "linear_100", "embeddings")


@pytest.fixture(autouse=True)
def in_copy(tmp_path, monkeypatch):
    """A folder with the studies and the shipped checkpoints, where nothing has been scored."""
    monkeypatch.chdir(tmp_path)
    for name in ("studies", "checkpoints"):
        (tmp_path / name).symlink_to(REPOSITORY / name)


@pytest.fixture
def study():
    """The smoke study with few images, of two shades and two stripes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (160, 1, 28, 28), generator=generator)
    labels = torch.arange(160) % 4
    images[labels % 2 == 0, :, ::3, :] += 100
    images[labels < 2] += 60
    part = ImageSet(images.to(torch.uint8), labels, tuple("abcd"))
    splits = Splits(part, part.subset(torch.arange(40)), part.subset(torch.arange(100)))
    found = load_study("smoke")
    splits.save(found.dataset_path("images"))
    return found


def with_shipped(study):
    """The study with the base that comes with the package."""
    content = study.model_dump(mode="json")
    shipped = load_study("fashion").bases["vicreg"].checkpoint
    content["bases"]["vicreg"]["checkpoint"] = shipped.model_dump(mode="json")
    return Study.model_validate(content)


def task_of(study, names=NAMES, run=BASE, checkpoint=SHIPPED):
    return evaluation_task(study, run, names, checkpoint, device="cpu")


def results(task):
    return {name: json.loads(Path(path).read_text()) for name, path in task.outputs.items()}


def times(task):
    """When each result that is there was written."""
    there = {name: Path(path) for name, path in task.outputs.items() if Path(path).exists()}
    return {name: os.stat(path).st_mtime_ns for name, path in there.items()}


def age(task):
    """Makes every result old; when that is."""
    for path in task.outputs.values():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return times(task)


def test_task_names_the_data_sets_that_are_read(study):
    task = task_of(study, ("linear_1", "digits_top1", "outfits_map"), ARM, Path("a.pt"))
    assert task.inputs == {
        "images": "results/smoke/data/images.pt",
        "digits": "results/smoke/data/digits.pt",
        "outfits": "results/smoke/data/outfits.pt",
        "checkpoint": "a.pt",
    }
    assert task.output("linear_1") == study.result_path(ARM, "linear_1")
    assert list(task.decides["paradigms"]) == ["linear_1", "digits_top1", "outfits_map"]
    assert {"evaluation/linear.py", "evaluation/svm.py"} <= task.code.keys()
    assert evaluation_task(study, ARM, ("linear_1",), Path("a.pt"), device="cuda").digest() == (
        task_of(study, ("linear_1",), ARM, Path("a.pt")).digest()
    )


def test_task_of_all_is_what_decides_each(study):
    task = task_of(study)
    for name in NAMES:
        alone = task_of(study, (name,))
        assert task.decides["paradigms"][name] == alone.decides["paradigms"][name]
        assert alone.code.items() <= task.code.items()
        assert alone.decides == decided_by(study, BASE, name)


def test_result_says_how_it_came_about(study):
    task = task_of(study)
    task.perform()
    for name, result in results(task).items():
        assert (result["study"], result["base"], result["arm"]) == ("smoke", "vicreg", "base")
        assert (result["base_seed"], result["continuation_seed"]) == (0, None)
        assert result["paradigm"] == name
        assert result["protocol"] == plain(study.paradigm(name, "vicreg").values())
        assert result["decided_by"] == decided_by(study, BASE, name)
        assert result["code"] == evaluation_code(study, BASE, name)
        assert result["device"] == "cpu" and result["wall_seconds"] >= 0
        assert result["peak_memory_mb"] > 10 and result["versions"]["torch"]
        assert all(score["value"] == score["value"] for score in result["scores"])
    assert not list(Path("results").rglob("*.state"))


def test_result_names_the_code_that_made_its_checkpoint(study):
    run = Run("vicreg", "continued", 0, 0)
    checkpoint = load_checkpoint(SHIPPED)
    checkpoint.provenance.clear()
    checkpoint.provenance["code"] = {"training/loop.py": "abc"}
    path = study.trained_path(run)
    checkpoint.save(path)
    task = task_of(study, ("linear_1",), run, path)
    task.perform()
    found = results(task)["linear_1"]["checkpoint"]
    assert found["code"] == {"training/loop.py": "abc"} and len(found["sha256"]) == 64
    # a shipped one was made elsewhere
    task = task_of(study, ("linear_1",))
    task.perform()
    assert "training/loop.py" not in results(task)["linear_1"]["checkpoint"]["code"]


def test_all_is_made_anew_when_everything_stands(study):
    task = task_of(study)
    task.perform()
    before, first = age(task), results(task)
    task.perform()
    assert all(times(task)[name] > before[name] for name in NAMES)
    assert {name: r["scores"] for name, r in results(task).items()} == {
        name: r["scores"] for name, r in first.items()
    }


def spoil(how, path):
    """Makes a result one that does not stand."""
    content = json.loads(path.read_text())
    if how == "code":
        content["code"]["evaluation/linear.py"] = "0" * 12
    elif how == "values":
        content["decided_by"]["paradigms"]["linear_1"]["protocol"]["epochs"] = 99
    elif how == "checkpoint":
        content["checkpoint"]["sha256"] = "0" * 64
    elif how == "former":
        del content["decided_by"]
    text = {"missing": None, "cut": "{", "list": "[]"}.get(how, json.dumps(content))
    path.unlink()
    if text is not None:
        path.write_text(text)


def watched(monkeypatch):
    """Which paradigms are scored from now on, with their evaluation seeds."""
    scored = []
    original = evaluation.score_with_seeds

    def watching(group, subject, seeds, there=None):
        scored.extend((name, seed.number) for name in group for seed in seeds)
        return original(group, subject, seeds, there)

    monkeypatch.setattr(evaluation, "score_with_seeds", watching)
    return scored


@pytest.mark.parametrize(
    "how", ["code", "values", "checkpoint", "former", "missing", "cut", "list"]
)
def test_only_what_does_not_stand_is_scored(how, study, monkeypatch):
    task = task_of(study)
    task.perform()
    first = results(task)
    age(task)
    spoil(how, task.output("linear_1"))
    before = times(task)
    scored = watched(monkeypatch)
    task.perform()
    assert scored == [("linear_1", 0)]
    for name in ("linear_100", "embeddings"):
        assert times(task)[name] == before[name]
    again = results(task)["linear_1"]
    assert again["scores"] == first["linear_1"]["scores"]
    assert again["decided_by"] == first["linear_1"]["decided_by"]


def change(old, new):
    """Changes the smoke study in this folder and reads it again."""
    path = Path("studies/smoke.yaml")
    text = path.read_text()
    assert old in text
    if Path("studies").is_symlink():
        Path("studies").unlink()
        shutil.copytree(REPOSITORY / "studies", "studies")
    path.write_text(text.replace(old, new))
    return load_study("smoke")


def test_another_value_rescores_its_paradigm_alone(study):
    task_of(study).perform()
    before = age(task_of(study))
    old = "linear_100: {protocol: {epochs: 2"
    task = task_of(change(old, old.replace("2", "1")))
    task.perform()
    after = times(task)
    assert {name for name in NAMES if after[name] != before[name]} == {"linear_100"}
    assert results(task)["linear_100"]["protocol"]["protocol"]["epochs"] == 1


def test_study_that_changed_since_is_not_scored(study):
    task = task_of(with_shipped(study))
    with pytest.raises(ValueError, match=r"planned there has changed: training\.shipped "):
        task.perform()
    assert not Path("results/smoke/evaluations").exists()


def test_states_are_kept_under_interruption_and_removed_after(study, monkeypatch):
    old = "linear_100: {protocol: {epochs: 2"
    streamed = change(old, "linear_100: {views: {size: 28}, features: [raw], protocol: {epochs: 3")
    task = task_of(streamed, ("linear_100",))
    task.perform()
    whole = results(task)["linear_100"]
    task.output("linear_100").unlink()
    folder = task.output("linear_100").parent
    epochs = iter(range(1000))  # of one batch each

    def stop(what):
        if next(epochs) == 2:
            raise Interrupted(what)

    with monkeypatch.context() as patch:
        patch.setattr("e2mc.evaluation.probes.interruption_point", stop)
        with pytest.raises(Interrupted):
            task.perform()
    assert [path.name for path in folder.iterdir()] == ["linear_100.state"]
    task.perform()
    assert results(task)["linear_100"]["scores"] == whole["scores"]
    assert [path.name for path in folder.iterdir()] == ["linear_100.json"]


def test_results_that_are_written_stay_when_a_later_one_is_stopped(study, monkeypatch):
    task = task_of(study, ("linear_1", "semisup_10"))
    folder = task.output("linear_1").parent

    def stop(what):
        raise Interrupted(what)

    with monkeypatch.context() as patch:
        patch.setattr("e2mc.evaluation.finetune.interruption_point", stop)
        with pytest.raises(Interrupted):
            task.perform()
    assert [path.name for path in folder.glob("*.json")] == ["linear_1.json"]
    before = times(task)
    task.perform()
    assert times(task)["linear_1"] == before["linear_1"]
    assert not list(folder.glob("*.state"))


def test_base_is_evaluated_with_every_seed_into_one_file(study):
    content = study.model_dump(mode="json")
    content["seeds"] |= {"evaluation": [0, 1], "continuation": [0, 1]}
    seeded = Study.model_validate(content)
    names = ("linear_1", "knn")
    plain_values, values = (decided_by(made, BASE, "linear_1") for made in (study, seeded))
    assert plain_values["paradigms"]["linear_1"]["evaluation"] == {"seeds": [0]}
    assert values["paradigms"]["linear_1"]["evaluation"] == {"seeds": [0, 1], "same_order": False}
    # what draws nothing does not care
    assert decided_by(study, BASE, "knn") == decided_by(seeded, BASE, "knn")
    assert decided_by(study, ARM, "linear_1") != decided_by(seeded, ARM, "linear_1")
    assert study.result_path(BASE, names[0]) == seeded.result_path(BASE, names[0])


def under_seeds(*seeds, names=("linear_1", "embeddings")):
    """The task of the smoke study with these evaluation seeds."""
    text = Path("studies/smoke.yaml").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("seeds: ")]
    made = change(line, f"seeds: {{continuation: [0, 1], evaluation: {list(seeds)}}}")
    return task_of(made, names)


def test_more_evaluation_seeds_join_those_that_are_there(study, monkeypatch):
    under_seeds(0, 1).perform()
    whole = results(under_seeds(0, 1))["linear_1"]
    shutil.rmtree("results/smoke/evaluations")
    under_seeds(0).perform()
    few = results(under_seeds(0))
    scored = watched(monkeypatch)
    more = under_seeds(0, 1)
    more.perform()
    assert scored == [("linear_1", 1)]
    found = results(more)
    assert found["linear_1"]["scores"] == whole["scores"]
    assert found["linear_1"]["details"] == whole["details"]
    assert found["linear_1"]["decided_by"] == whole["decided_by"]
    assert found["linear_1"]["wall_seconds"] > few["linear_1"]["wall_seconds"]
    assert found["embeddings"] == few["embeddings"]
    # who asks for fewer again has them
    assert under_seeds(0).digest() == more.digest()
    expect_results(load_study("smoke"), map(Path, more.outputs.values()))
    # other values: nothing of it counts
    other = change("label_seeds: [0, 1]", "label_seeds: [3]")
    assert decided_by(other, BASE, "linear_1")["paradigms"]["linear_1"]["evaluation"] == {
        "seeds": [0]
    }
