import os

import pytest

from e2mc.cluster import staging
from e2mc.cluster.staging import JobFolder, tidy
from e2mc.errors import InputError, MachineError
from e2mc.state import write_json
from e2mc.task import Task


def folder_of(place, *inputs, spec="a", outputs=("made.txt",), **arguments):
    return JobFolder(
        Task.of(
            "steps:step",
            arguments,
            {path.name: path for path in inputs},
            {name: place / name for name in outputs},
            {"spec": spec},
            {},
        )
    )


def stage(folder, **files):
    folder.staged.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder.staged / f"{name}.txt").write_text(text)


def leftovers(place):
    return [path.name for path in place.rglob("*.part")]


def test_spec_holds_the_inputs_and_what_decides(tmp_path):
    source = tmp_path / "source"
    source.write_text("one")
    first = folder_of(tmp_path, source)
    assert folder_of(tmp_path, source, device="cuda", loggers=("wandb",)).spec == first.spec
    assert folder_of(tmp_path, source, spec="b").spec != first.spec
    source.write_text("three")
    changed = folder_of(tmp_path, source)
    assert changed.spec != first.spec and changed.path == first.path
    os.utime(source, ns=(0, 0))
    assert folder_of(tmp_path, source).spec != changed.spec


def test_spec_holds_the_code(tmp_path):
    one, other = (
        JobFolder(Task("steps:step", {}, {}, {"a": str(tmp_path / "a")}, {}, {"a.py": version}))
        for version in ("0", "1")
    )
    assert one.spec != other.spec and one.path == other.path


def test_jobs_write_beside_the_outputs_not_over_them(tmp_path):
    source = tmp_path / "source"
    source.write_text("one")
    folder = folder_of(tmp_path, source)
    assert folder.task.input("source") == source
    assert folder.task.output("made.txt") == folder.staged / "made.txt"
    assert folder.staged.is_relative_to(tmp_path / "slurm")


def test_other_outputs_of_one_folder_are_another_task(tmp_path):
    one, both = folder_of(tmp_path), folder_of(tmp_path, outputs=("made.txt", "log.csv"))
    assert one.path != both.path and one.path.parent == both.path.parent
    with pytest.raises(InputError, match="must lie in one folder"):
        folder_of(tmp_path, outputs=("a/made.txt", "b/made.txt"))


def test_outputs_in_their_place_are_where_the_job_writes(tmp_path):
    """A step may update results."""
    folder = folder_of(tmp_path, outputs=("one.txt", "two.txt"))
    (tmp_path / "one.txt").write_text("old")
    folder.prepare()
    assert [path.name for path in folder.staged.iterdir()] == ["one.txt"]
    assert (folder.staged / "one.txt").samefile(tmp_path / "one.txt")
    folder.prepare()
    assert (folder.staged / "one.txt").read_text() == "old" and not leftovers(tmp_path)


def test_outputs_are_copied_where_there_are_no_links(tmp_path, monkeypatch):
    def link(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(staging.os, "link", link)
    folder = folder_of(tmp_path)
    (tmp_path / "made.txt").write_text("old")
    folder.prepare()
    assert (folder.staged / "made.txt").read_text() == "old"
    (folder.staged / "made.txt").write_text("new")
    assert (tmp_path / "made.txt").read_text() == "old"
    folder.collect()
    assert (tmp_path / "made.txt").read_text() == "new" and not leftovers(tmp_path)


def test_what_a_job_of_this_spec_left_is_kept(tmp_path):
    """Also where Snakemake put back what the failed rule was updating, with the time of now."""
    folder = folder_of(tmp_path)
    stage(folder, made="updated", state="half way")
    folder.write_record("7", "now")
    (tmp_path / "made.txt").write_text("old")
    folder.prepare()
    assert (folder.staged / "made.txt").read_text() == "updated"
    assert (folder.staged / "state.txt").exists()


def test_what_a_job_of_another_spec_left_is_not_gone_on_with(tmp_path):
    before = folder_of(tmp_path)
    stage(before, made="updated", state="half way")
    before.write_record("7", "now")
    write_json({"spec": before.spec}, before.done)
    (tmp_path / "made.txt").write_text("old")
    folder_of(tmp_path, spec="b").prepare()
    assert (before.staged / "made.txt").read_text() == "old"
    assert not (before.staged / "state.txt").exists() and not before.is_done()


def test_finished_task_is_collected_until_its_workflow_is_finished(tmp_path):
    folder = folder_of(tmp_path)
    stage(folder, made="made")
    assert not folder.is_done()
    write_json({"spec": folder.spec}, folder.done)
    assert folder.is_done() and not folder_of(tmp_path, spec="b").is_done()
    tidy(tmp_path)
    assert folder.is_done(), "it is not collected yet"
    for _ in range(2):  # Snakemake may remove what it did not see finished, and ask again
        (tmp_path / "made.txt").unlink(missing_ok=True)
        folder.collect()
        assert (tmp_path / "made.txt").read_text() == "made"
    folder.collect()
    (tmp_path / "made.txt").unlink()
    (tmp_path / "made.txt").write_text("an older one")
    tidy(tmp_path)
    assert folder.is_done(), "another file lies in its place"
    folder.collect()
    tidy(tmp_path)
    assert not folder.is_done()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.txt", "slurm"]


def test_what_a_killed_job_was_writing_is_not_collected(tmp_path):
    folder = folder_of(tmp_path)
    folder.staged.mkdir(parents=True)
    for name in ("made.txt", "made.txt.state", ".made.txt.0a1b.part"):
        (folder.staged / name).write_text("made")
    folder.collect()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"made.txt", "made.txt.state", "slurm"}


def test_job_that_wrote_too_little_is_not_done(tmp_path):
    folder = folder_of(tmp_path)
    write_json({"spec": folder.spec}, folder.done)
    with pytest.raises(MachineError, match=r"did not write made\.txt in .*: run the same again"):
        folder.collect()
    assert not folder.is_done()
