import pytest

from e2mc.cluster import launching, slurm
from e2mc.cluster.launching import tidy
from e2mc.cluster.slurm import Resources
from e2mc.code_hash import Code
from e2mc.state import write_json


def step(*_):
    raise AssertionError("not to be called here")


def task(tmp_path, *arguments, spec="a", outputs=("made.txt",)):
    paths = [tmp_path / name for name in outputs]
    return launching._Submission(
        step, (*arguments, *paths), paths, spec, Code("training"), Resources()
    )


def test_spec_holds_the_inputs_and_not_the_resources(tmp_path):
    source = tmp_path / "source"
    source.write_text("one")
    first = task(tmp_path, {"images": source})
    assert task(tmp_path, {"images": source}).spec == first.spec
    assert task(tmp_path, {"images": source}, spec="b").spec != first.spec
    source.write_text("three")
    changed = task(tmp_path, {"images": source})
    assert changed.spec != first.spec and changed.folder == first.folder


def test_jobs_write_beside_the_outputs_not_over_them(tmp_path):
    source, made = tmp_path / "source", tmp_path / "made.txt"
    source.write_text("one")
    found = task(tmp_path, source, {"linear": made})
    assert found.arguments == (
        source,
        {"linear": found.staged / "made.txt"},
        found.staged / made.name,
    )


def test_other_outputs_of_one_folder_are_another_task(tmp_path):
    one, both = task(tmp_path), task(tmp_path, outputs=("made.txt", "log.csv"))
    assert one.folder != both.folder and one.folder.parent == both.folder.parent
    with pytest.raises(ValueError, match="must lie in one folder"):
        task(tmp_path, outputs=("a/made.txt", "b/made.txt"))


def test_finished_task_is_collected_until_its_workflow_is_finished(tmp_path):
    found = task(tmp_path)
    found.staged.mkdir(parents=True)
    (found.staged / "made.txt").write_text("made")
    assert not found.is_done()
    write_json({"spec": found.spec}, found.done)
    assert found.is_done() and not task(tmp_path, spec="b").is_done()
    tidy(tmp_path)
    assert found.is_done(), "it is not collected yet"
    for _ in range(2):  # Snakemake may remove what it did not see finished, and ask again
        (tmp_path / "made.txt").unlink(missing_ok=True)
        found.collect()
        assert (tmp_path / "made.txt").read_text() == "made"
    (tmp_path / "made.txt").unlink()
    (tmp_path / "made.txt").write_text("an older one")
    tidy(tmp_path)
    assert found.is_done(), "another file lies in its place"
    found.collect()
    tidy(tmp_path)
    assert not found.is_done()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.txt", "slurm"]


def test_what_a_killed_job_was_writing_is_not_collected(tmp_path):
    found = task(tmp_path)
    found.staged.mkdir(parents=True)
    for name in ("made.txt", "made.txt.state", ".made.txt.0a1b.part"):
        (found.staged / name).write_text("made")
    found.collect()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"made.txt", "made.txt.state", "slurm"}


def test_job_that_an_unanswered_sbatch_left_is_found(tmp_path, monkeypatch):
    """sbatch gives up before slurmctld has taken the job, which the queue shows later."""
    commands = tmp_path / "commands"
    commands.mkdir()
    asked, submitted = commands / "asked", commands / "submitted"
    scripts = {
        "sbatch": f"""echo x >> {submitted}
            echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1""",
        "squeue": f"""[ -e {submitted} ] || exit 0
            echo x >> {asked}
            [ $(wc -l < {asked}) -lt 3 ] || cat {commands}/queue""",
    }
    for name, body in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{body}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setattr(slurm.tempfile, "gettempdir", lambda: str(commands))
    monkeypatch.setattr(launching, "pause", lambda _: None)
    found = task(tmp_path / "made")
    mark = slurm.comment_of

    def comment(*arguments):
        text = mark(*arguments)
        (commands / "queue").write_text(f"7|PENDING|Resources||e2mc-step|{text}\n")
        return text

    monkeypatch.setattr(slurm, "comment_of", comment)
    assert found.find_or_submit() == "7"
    assert submitted.read_text() == "x\n", "and no second job was submitted"


def test_submission_needs_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(slurm.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(RuntimeError, match="set launcher: local in config.yaml"):
        launching.run(
            step,
            tmp_path / "a",
            outputs=[tmp_path / "a"],
            spec="a",
            code=Code("training"),
            resources=Resources(),
        )
