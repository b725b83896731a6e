"""What a job asks of SLURM, and what SLURM says about jobs.

States come from slurmctld (squeue, scontrol), so clusters without accounting work; sacct is asked
where slurmctld has forgotten a job. All waiting processes of a user on a machine share one squeue
call per interval.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from e2mc.errors import InputError, MachineError

# a job in any other state is still to run, runs or is being requeued
END_STATES = {
    "BOOT_FAIL": "the node failed to boot",
    "CANCELLED": "it was cancelled",
    "COMPLETED": "it ended without writing its result",
    "DEADLINE": "its deadline passed",
    "FAILED": "it failed",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it ran out of memory: raise memory_gb",
    "PREEMPTED": "it was preempted and not requeued",
    "REVOKED": "it was revoked",
    "TIMEOUT": "it reached its time limit: raise time_minutes, or signal_seconds if it was saving",
}
# why a job does not start that will not go away by waiting; the names of squeue
NEVER_STARTS = {
    "AccountNotAllowed",
    "BadConstraints",
    "DependencyNeverSatisfied",
    "InvalidAccount",
    "InvalidQOS",
    "PartitionTimeLimit",
    "QOSNotAllowed",
    "launch failed requeued held",
}
OUT_OF_MEMORY = re.compile(r"exceeded memory limit|oom[-_ ]kill|out[- ]of[- ]memory handler", re.I)
# what sbatch and squeue say when slurmctld is away, busy or has enough jobs of this user for now,
# not when they refuse
UNREACHABLE = re.compile(
    r"unable to contact slurm controller|socket timed out|connection refused|zero bytes were "
    r"transmitted|standby mode|temporarily|communication connection failure|"
    r"unexpected message received|invalid job credential|MaxSubmitJob",
    re.I,
)
COMMAND_SECONDS = 60.0
# options of sbatch that the launcher sets, or that would make it something else than one job
OWN_OPTIONS = {
    "array",
    "clusters",
    "comment",
    "error",
    "job-name",
    "no-requeue",
    "open-mode",
    "output",
    "parsable",
    "requeue",
    "signal",
    "test-only",
    "wait",
}
# these change what the commands say, for example to the jobs of one partition
FILTERS = ("SQUEUE_", "SCANCEL_", "SACCT_", "SLURM_CLUSTERS")
_NO_ANSWER = "no answer: "
_WHOLE = "\n."  # the end of an answer whose writer was not killed meanwhile


class Unreachable(MachineError):
    """slurmctld does not answer now; it may later."""


@dataclass(frozen=True)
class Resources:
    """What a job of one rule gets, and how it is waited for.

    Args:
        partition, account, qos, constraint: as sbatch has them; None leaves them to the cluster.
        nodes: number of nodes.
        gpus_per_node: GPUs on each node; there is one task (process) per GPU.
        tasks_per_node: tasks on each node where there are no GPUs.
        cpus_per_task: processor cores of a task, its data workers included.
        memory_gb: memory on each node; None leaves it to the cluster.
        time_minutes: time limit of the job each time that it is started.
        signal_seconds: how long before its time limit a job is told to save its state.
        max_requeues: how many time limits a job may reach and go on; preemptions do not count.
        sbatch: further options of sbatch without the dashes, e.g. {"reservation": "r"}.
        setup: shell commands to run on the node before Python, e.g. "module load cuda".
        on_interrupt: what becomes of the job when the waiting process gets SIGINT or SIGTERM.
        poll_seconds: seconds between two looks at the queue.
        latency_seconds: how late the shared file system may show what a job wrote.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int | None = None
    cpus_per_task: int = 1
    memory_gb: float | None = 4.0
    time_minutes: int = 600
    signal_seconds: int = 120
    max_requeues: int = 20
    sbatch: dict[str, str | int | float | bool] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    on_interrupt: Literal["cancel", "leave"] = "cancel"
    poll_seconds: float = 15.0
    latency_seconds: float = 60.0

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        at_least = {"nodes": 1, "gpus_per_node": 0, "cpus_per_task": 1, "time_minutes": 1}
        for name, least in (at_least | {"signal_seconds": 1, "max_requeues": 0}).items():
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, found {getattr(self, name)}")
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise InputError(f"memory_gb must be above 0, found {self.memory_gb}")
        if not self.poll_seconds >= 1:
            raise InputError(f"poll_seconds must be at least 1, found {self.poll_seconds}")
        if self.tasks_per_node is not None:
            if self.gpus_per_node:
                raise InputError(
                    "tasks_per_node is for jobs without GPUs, with GPUs there is one task per GPU: "
                    "remove it or set gpus_per_node to 0"
                )
            if self.tasks_per_node < 1:
                raise InputError(f"tasks_per_node must be at least 1, found {self.tasks_per_node}")
        if self.signal_seconds >= 60 * self.time_minutes:
            raise InputError(
                f"signal_seconds is {self.signal_seconds}, a job of {self.time_minutes} minutes "
                "would be told to stop when it starts: lower it or raise time_minutes"
            )
        if not self.latency_seconds >= 0:
            raise InputError(f"latency_seconds must not be negative, found {self.latency_seconds}")
        for name, value in self.sbatch.items():
            if name.replace("_", "-") in OWN_OPTIONS:
                raise InputError(f"sbatch: {name} is up to the launcher: remove it")
            if value is False:
                raise InputError(f"sbatch: {name} is false: leave it out")

    def on_one_rank(self) -> Resources:
        """The same for a step that one process with at most one GPU does."""
        values = asdict(self) | {"nodes": 1, "gpus_per_node": min(self.gpus_per_node, 1)}
        return Resources(**(values | {"tasks_per_node": None}))

    def submission_parameters(self, name: str, comment: str) -> dict[str, Any]:
        """The parameters of submitit.SlurmExecutor for a job with this name and comment."""
        extra = {key.replace("-", "_"): value for key, value in self.sbatch.items()}
        return {
            "job_name": name,
            "comment": comment,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks_per_node or max(1, self.gpus_per_node),
            "gpus_per_node": self.gpus_per_node or None,
            "cpus_per_task": self.cpus_per_task,
            "mem": None if self.memory_gb is None else f"{round(1024 * self.memory_gb)}MB",
            "time": self.time_minutes,
            "signal_delay_s": self.signal_seconds,
            "setup": [f"export OMP_NUM_THREADS={self.cpus_per_task}", *self.setup],
            # srun does not take over sbatch's --cpus-per-task since SLURM 22.05; the other ranks
            # would wait for one that died
            "srun_args": [f"--cpus-per-task={self.cpus_per_task}", "--kill-on-bad-exit=1"],
            "stderr_to_stdout": True,
            "wckey": None,
            "additional_parameters": {"requeue": True} | extra,
        }


@dataclass(frozen=True)
class QueuedJob:
    """A line of squeue."""

    id: str
    state: str
    reason: str
    nodes: str
    name: str
    comment: str

    @property
    def ended(self) -> bool:
        return self.state in END_STATES


def queue(max_age: float = 0.0, since: float = 0.0) -> list[QueuedJob]:
    """This user's jobs in the queue, and those that ended a short while ago.

    Args:
        max_age: seconds that the answer may be older than this call; another process asked then.
        since: the answer must be of this time (seconds since the epoch) or later.

    Raises:
        Unreachable: when slurmctld does not answer.
    """
    # before the lock: who waited for another one's answer takes it
    oldest = max(time.time() - max_age, since)
    with _shared_answer() as file:
        text = file.read()
        asked, _, lines = text.removesuffix(_WHOLE).partition("\n")
        now = time.time()
        # an answer from the future: the clock was set back
        if not text.endswith(_WHOLE) or not oldest <= float(asked) <= now:
            # all: also in partitions that are hidden from this user
            command = ["squeue", "-h", "-a", "-t", "all", "-u", str(os.getuid())]
            try:
                lines = _run([*command, "-o", "%i|%T|%r|%N|%j|%k"])
            except Unreachable as error:
                lines = f"{_NO_ANSWER}{error}"
            file.seek(0)
            file.truncate()
            file.write(f"{now}\n{lines}{_WHOLE}")
    if lines.startswith(_NO_ANSWER):
        raise Unreachable(lines.removeprefix(_NO_ANSWER))
    return [QueuedJob(*line.split("|", 5)) for line in lines.splitlines() if line.count("|") >= 5]


@contextlib.contextmanager
def _shared_answer() -> Iterator[Any]:
    """The file with the last answer of squeue, locked; one per user, machine and cluster."""
    folder = Path(tempfile.gettempdir()) / f"e2mc-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise MachineError(f"{folder} belongs to somebody else: set TMPDIR to a folder of your own")
    cluster = hashlib.sha256(os.environ.get("SLURM_CONF", "").encode()).hexdigest()[:8]
    with (folder / f"squeue-{cluster}").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def final_state(job_id: str) -> tuple[str, str] | None:
    """State and detail of a job that is not in the queue; None when SLURM has forgotten it."""
    shown = job_fields(job_id)
    if shown:
        return shown["JobState"], f"exit code {shown['ExitCode']}, reason {shown['Reason']}"
    with contextlib.suppress(MachineError):
        command = ["sacct", "-n", "-X", "-P", "-j", job_id, "-o", "State,ExitCode"]
        first = _run(command).partition("\n")[0]
        state, _, code = first.partition("|")
        state = state.partition(" ")[0]
        # accounting may say for ever that a job runs which slurmctld does not know
        if state in END_STATES:
            return state, f"exit code {code}"
    return None


def job_fields(job_id: str) -> dict[str, str]:
    """The fields of `scontrol show job`; empty when slurmctld does not know the job."""
    try:
        text = _run(["scontrol", "show", "job", "-o", job_id])
    except MachineError as error:
        if "Invalid job id" in str(error):
            return {}
        raise
    return dict(re.findall(r"(\S+?)=(\S*)", text))


def requeue(job_id: str) -> None:
    """Puts a running job back into the queue, with the same id."""
    _run(["scontrol", "requeue", job_id])


def cancel(job_id: str) -> None:
    _run(["scancel", job_id])


def _run(command: list[str]) -> str:
    """The output of one of SLURM's commands; an error is one sentence with what it says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(FILTERS)}
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise MachineError(
            f"{command[0]} is not on this machine: use the launcher slurm where sbatch works, or "
            "set launcher: local in config.yaml"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{command[0]} did not answer within {COMMAND_SECONDS:g} s") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        # a signal to the terminal's processes ends squeue, too
        away = done.returncode < 0 or UNREACHABLE.search(said)
        raise (Unreachable if away else MachineError)(f"{command[0]}: {said}")
    return done.stdout


def comment_of(output: Path, spec: str, submission: str) -> str:
    """What marks a job in the queue: what it makes, of what spec, and where its files are."""
    return "e2mc " + json.dumps({"output": str(output), "spec": spec, "submission": submission})


def read_comment(comment: str) -> dict[str, str] | None:
    """The values of ``comment_of``; None for another comment."""
    if not comment.startswith("e2mc {"):
        return None
    try:
        found = json.loads(comment.removeprefix("e2mc "))
    except ValueError:
        return None
    return found if {"output", "spec", "submission"} <= found.keys() else None
