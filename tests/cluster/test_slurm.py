"""What needs no scheduler: what is asked of one, and how its answers are read."""

import os
import stat

import pytest

from e2mc.cluster import slurm
from e2mc.cluster.slurm import Resources, Unreachable
from e2mc.study import StudyError, load_config


def config(**values):
    return load_config({"study": "smoke", "launcher": "slurm", "slurm": values})


def test_rules_change_the_defaults():
    made = config(
        defaults={"partition": "gpu", "gpus_per_node": 1, "sbatch": {"mail-type": "FAIL"}},
        rules={
            "continue_pretraining": {"nodes": 2, "gpus_per_node": 8, "sbatch": {"reservation": "r"}}
        },
    )
    assert made.resources("evaluate_frozen") == Resources(
        partition="gpu", gpus_per_node=1, sbatch={"mail-type": "FAIL"}
    )
    changed = made.resources("continue_pretraining")
    assert (changed.partition, changed.nodes, changed.gpus_per_node) == ("gpu", 2, 8)
    assert changed.sbatch == {"mail-type": "FAIL", "reservation": "r"}


def test_local_launcher_asks_for_nothing():
    assert load_config({"study": "smoke"}).resources("evaluate_frozen") is None


def test_config_survives_being_written_and_read():
    made = config(defaults={"partition": "gpu"}, rules={"evaluate_frozen": {"time_minutes": 9}})
    assert load_config(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"defaults": {"gpu_per_node": 1}}, "did you mean 'gpus_per_node'"),
        ({"defaults": {"nodes": 0}}, "nodes must be at least 1, found 0"),
        ({"defaults": {"time_minutes": "ten"}}, "slurm.defaults.time_minutes"),
        ({"defaults": {"memory_gb": 0}}, "memory_gb must be above 0"),
        ({"defaults": {"time_minutes": 2}}, "would be told to stop when it starts"),
        ({"defaults": {"gpus_per_node": 2, "tasks_per_node": 2}}, "one task per GPU"),
        ({"defaults": {"sbatch": {"open_mode": "truncate"}}}, "open_mode is up to the launcher"),
        ({"defaults": {"sbatch": {"array": "0-3"}}}, "array is up to the launcher"),
        ({"defaults": {"sbatch": {"exclusive": False}}}, "exclusive is false: leave it out"),
        ({"rules": {"make_table": {}}}, "make_table"),
        ({"rules": {"evaluate_frozen": {"nodes": -1}}}, "evaluate_frozen"),
        ({"defaults": {"on_interrupt": "ask"}}, "cancel"),
    ],
)
def test_wrong_resources_are_one_sentence(values, said):
    with pytest.raises(StudyError, match="^config.yaml: .*slurm") as error:
        config(**values)
    assert said in str(error.value)


def test_one_task_per_gpu():
    asked = Resources(nodes=2, gpus_per_node=4, cpus_per_task=6).submission_parameters("n", "c")
    assert (asked["nodes"], asked["ntasks_per_node"], asked["gpus_per_node"]) == (2, 4, 4)
    assert "--cpus-per-task=6" in asked["srun_args"]
    alone = Resources(nodes=2, gpus_per_node=4).on_one_rank()
    assert (alone.nodes, alone.gpus_per_node) == (1, 1)


def test_options_of_sbatch_can_be_changed(tmp_path):
    from submitit.slurm.slurm import _make_sbatch_string

    resources = Resources(
        gpus_per_node=2, sbatch={"gpus-per-node": "a100:2", "exclusive": True}, setup=("module x",)
    )
    text = _make_sbatch_string("run", tmp_path, **resources.submission_parameters("name", "it's"))
    lines = text.splitlines()
    assert "#SBATCH --gpus-per-node=a100:2" in lines and "#SBATCH --gpus-per-node=2" not in lines
    assert {"#SBATCH --exclusive", "#SBATCH --requeue", "#SBATCH --mem=4096MB"} <= set(lines)
    assert lines.index("module x") < lines.index(next(x for x in lines if x.startswith("srun")))
    assert "wckey" not in text


def test_comment_is_read_back(tmp_path):
    output = tmp_path / "a|b ü" / "out.json"
    comment = slurm.comment_of(output, "abc", "train-1/2")
    found = slurm.read_comment(comment)
    assert found == {"output": str(output), "spec": "abc", "submission": "train-1/2"}


@pytest.mark.parametrize("comment", ["", "(null)", "mine", "e2mc {", 'e2mc {"output": 1}'])
def test_other_comments_are_nobodys(comment):
    assert slurm.read_comment(comment) is None


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Puts commands of these names and shell bodies first on PATH."""
    monkeypatch.setattr(slurm.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(**bodies):
        for name, body in bodies.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return make


def test_processes_share_one_look_at_the_queue(commands, tmp_path):
    commands(squeue=f"echo x >> {tmp_path}/calls; echo '7|PENDING|Resources||name|a|b'")
    first = slurm.queue()
    assert [(job.id, job.state, job.comment) for job in first] == [("7", "PENDING", "a|b")]
    assert slurm.queue(max_age=60) == first
    assert (tmp_path / "calls").read_text().count("x") == 1
    slurm.queue(max_age=0)
    assert (tmp_path / "calls").read_text().count("x") == 2


def test_settings_of_the_user_do_not_filter_the_queue(commands, monkeypatch):
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    commands(
        squeue="""case "$*" in *-a*) all=yes ;; esac
            echo "7|PENDING|$all|$SQUEUE_PARTITION$SLURM_CLUSTERS|name|comment\""""
    )
    [job] = slurm.queue()
    assert (job.reason, job.nodes) == ("yes", "")


def test_answer_that_was_not_written_to_its_end_is_not_shared(commands, tmp_path):
    commands(squeue="echo '7|PENDING|Resources||name|a'")
    slurm.queue()
    [answer] = tmp_path.glob("e2mc-*/squeue-*")
    answer.write_text(answer.read_text().partition("\n")[0] + "\n")
    assert [job.id for job in slurm.queue(max_age=60)] == ["7"]


def test_slurmctld_that_is_away_is_not_an_empty_queue(commands):
    commands(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    for _ in range(2):  # the second time from the shared answer
        with pytest.raises(Unreachable, match="Unable to contact slurm controller"):
            slurm.queue(max_age=60)


def test_machine_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="squeue is not on this machine"):
        slurm.queue()


def test_accounting_is_asked_where_slurmctld_has_forgotten(commands):
    forgotten = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    commands(scontrol=forgotten, sacct="echo 'CANCELLED by 1000|0:15'")
    assert slurm.final_state("7") == ("CANCELLED", "exit code 0:15")
    commands(sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert slurm.final_state("7") is None


def test_accounting_that_never_heard_of_the_end_is_not_believed(commands):
    forgotten = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    commands(scontrol=forgotten, sacct="echo 'RUNNING|0:0'")
    assert slurm.final_state("7") is None


def test_scontrol_that_fails_is_not_a_forgotten_job(commands):
    commands(scontrol="echo 'Munge encode failed' >&2; exit 1")
    with pytest.raises(RuntimeError, match="Munge encode failed"):
        slurm.job_fields("7")


def test_enough_jobs_for_now_is_no_refusal():
    said = "sbatch: error: QOSMaxSubmitJobPerUserLimit ... Job violates accounting/QOS policy"
    assert slurm.UNREACHABLE.search(said)
    assert not slurm.UNREACHABLE.search("error: Invalid account or account/partition combination")
