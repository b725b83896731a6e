"""Plans of Snakemake in forks of a process that imported what they need: a third of the time."""

import multiprocessing
import os
import subprocess
import sys

FORKS = multiprocessing.get_context("forkserver")
# what workflow/rules/common.smk imports
FORKS.set_forkserver_preload(
    [
        "snakemake.cli",
        "e2mc.cli.estimate",
        "e2mc.steps.checkpoints",
        "e2mc.steps.data",
        "e2mc.steps.evaluation",
        "e2mc.steps.reporting",
        "e2mc.steps.training",
    ]
)


def plan(words, folder, environment):
    """Runs snakemake with these words, which start no job; the process with its whole output."""
    with (folder / "plan.log").open("w+") as log:
        process = FORKS.Process(target=_snakemake, args=(words, folder, environment, log.name))
        process.start()
        process.join()
        return subprocess.CompletedProcess(words, process.exitcode, log.read())


def _snakemake(words, folder, environment, log):
    with open(log, "a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(folder)
    os.environ.update(environment)
    from snakemake.cli import main

    main(words)
