"""A real SLURM on this machine. Without it the tests skip, or fail where E2MC_SLURM=required."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
# each worker of pytest-xdist has a cluster of its own; the first one that of .ci/run
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
FOLDER = Path("/tmp/e2mc-slurm" if WORKER == 0 else f"/tmp/e2mc-slurm-{WORKER}")
PORT = 17817 + 20 * WORKER


class Cluster:
    """The cluster of cluster.sh: its queue, its daemons, and steps run on it."""

    environment = os.environ | {
        "SLURM_CONF": str(FOLDER / "slurm.conf"),
        "E2MC_SLURM_FOLDER": str(FOLDER),
        "E2MC_SLURM_PORT": str(PORT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{REPOSITORY}:{HERE}",
        "OMP_NUM_THREADS": "1",
    }

    def command(self, *command, check=True):
        done = subprocess.run(
            [str(part) for part in command],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def script(self, *arguments):
        return self.command(HERE / "cluster.sh", *arguments)

    def queue(self):
        """Job id -> state of the jobs that have not ended."""
        lines = self.command("squeue", "-h", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def stop_slurmctld(self):
        pid = int((FOLDER / "slurmctld.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        self.wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the end of slurmctld")

    def drive(self, step, output, *arguments, cwd=None, resources=None, prefix=(), **options):
        """Starts a process that runs a step of steps.py as a job, in a session of its own."""
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        options |= {"arguments": arguments, "resources": resources or {}}
        return subprocess.Popen(
            [*prefix, sys.executable, HERE / "drive.py", step, str(output), json.dumps(options)],
            env=self.environment,
            cwd=cwd or Path(output).parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def running(self, output):
        """Waits until the task's job runs Python; returns its id."""
        found = {}

        def started():
            for path in output.parent.glob("slurm/*/job.json"):
                record = json.loads(path.read_text())
                log = path.parents[1] / record["submission"] / f"{record['job']}_0_log.out"
                if log.exists() and "step " in log.read_text():
                    found["job"] = record["job"]
            return found

        self.wait_for(started, f"a job that makes {output}")
        return found["job"]

    @staticmethod
    def wait_for(condition, what, seconds=90):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.2)

    @staticmethod
    def finish(process, status=0, seconds=120):
        """The output of a process that must end with a status."""
        output, _ = process.communicate(timeout=seconds)
        assert process.returncode == status, output
        return output


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("slurm")


@pytest.fixture(scope="session")
def running_cluster():
    """The cluster, for tests whose jobs are of several tests."""
    missing = "SLURM is not installed: apt-get install slurm-wlm munge"
    reason = missing if shutil.which("slurmctld") is None else None
    if reason is None and os.getuid() != 0:
        reason = "only root can start a SLURM of its own"
    if reason:
        if os.environ.get("E2MC_SLURM") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    cluster = Cluster()
    already = (FOLDER / "slurmctld.pid").exists()
    if not already:
        cluster.script("start")
    yield cluster
    if not already:
        cluster.script("stop")


@pytest.fixture
def cluster(running_cluster):
    """A cluster with an empty queue and idle nodes, and what a test leaves is cancelled."""
    yield running_cluster
    for job in running_cluster.queue():
        running_cluster.command("scancel", job)
    running_cluster.wait_for(lambda: not running_cluster.queue(), "an empty queue")
