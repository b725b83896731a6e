"""Plans of Snakemake in forks of a process that imported what they need: a third of the time."""

import multiprocessing
import os
import subprocess
import sys
import tempfile

FORKS = multiprocessing.get_context("forkserver")
# what e2mc imports; its own modules are those of the checkout
FORKS.set_forkserver_preload(
    ["matplotlib.figure", "pandas", "pydantic", "scipy.special", "snakemake.cli", "torch"]
)


def run_forked(words, folder, environment):
    """Runs snakemake with these words, which start no job; the process with its whole output."""
    with tempfile.NamedTemporaryFile("w+") as log:
        process = FORKS.Process(target=_snakemake, args=(words, folder, environment, log.name))
        process.start()
        process.join()
        return subprocess.CompletedProcess(words, process.exitcode, log.read())


def _snakemake(words, folder, environment, log):
    with open(log, "a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(folder)
    os.environ.clear()  # of whoever started the process that forks
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    from snakemake.cli import main

    main(words)
