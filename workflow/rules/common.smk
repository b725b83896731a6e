"""The study, and how a task becomes a rule: its files, its parameters, where it runs."""

import dataclasses
import functools
import os
from pathlib import Path
from types import SimpleNamespace
import snakemake.benchmark
from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from e2mc.cluster.caches import give_caches

give_caches()  # before what makes some is imported

from e2mc.cli.estimate import price
from e2mc.cluster.signals import forward_signals
from e2mc.cluster.staging import tidy
from e2mc.errors import ExpectedError, InputError
from e2mc.reporting import made, parts, report_targets
from e2mc.steps.checkpoints import base_checkpoint, conversion_task, download_task
from e2mc.steps.data import index_task, preparation_task
from e2mc.steps.evaluation import evaluation_task, to_score
from e2mc.steps.reporting import part_task, report_path, report_task
from e2mc.steps.training import training_outputs, training_task
from e2mc.study import (
    BASE_ARM,
    CountedData,
    ReleasedCheckpoint,
    Run,
    load_config,
    load_study,
)

# reading the memory of every job twice a second would cost a twentieth of the default study
snakemake.benchmark.BENCHMARK_INTERVAL_SHORT = 5
# glibc gives freed tensors back to the system and faults them in again: a sixth of an evaluation
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1))


def downstream(self, direction, *jobs, stop=lambda job: False, search=DAG.bfs):
    """``DAG.bfs``, which does not go on across inputs that need no more than to exist.

    Snakemake does not look at what lies downstream of a job that is to run, since it is to run as
    well. Across ancient inputs it is not, and would be left out although its outputs are missing.
    """
    if direction is not self.depending:
        yield from search(self, direction, *jobs, stop=stop)
        return
    seen, queue = set(jobs), list(jobs)
    for job in queue:
        if stop(job):
            continue
        yield job
        for after, files in direction[job].items():
            if after not in seen and not all(f.is_ancient and Path(f).exists() for f in files):
                seen.add(after)
                queue.append(after)


DAG.bfs = downstream

try:
    CONFIG = load_config(config)
    STUDY = load_study(CONFIG.study)
    PARTS = parts(STUDY)
    MADE = {full: made(STUDY, full=full) for full in (False, True)}
except InputError as error:
    raise WorkflowError(str(error)) from None

ROOT = STUDY.root
COUNTED = isinstance(STUDY.data, CountedData)
# a rule that submits its job itself is not to be submitted by an executor plugin
SUBMITS = CONFIG.launcher == "slurm"
DATASETS = {name: STUDY.dataset_path(name) for name in STUDY.data.names}
RUN = "{base}/{arm}/{seeds}"
# runs whose parts are wildcards, for the paths of a study
ANY_RUN = SimpleNamespace(base="{base}", arm="{arm}", seeds="{seeds}")
ANY_BASE = SimpleNamespace(base="{base}", arm=BASE_ARM, seeds="base{base_seed}")
CONVERTED = [name for name, base in STUDY.bases.items() if base.converted]
RELEASED = [
    name for name, base in STUDY.bases.items() if isinstance(base.checkpoint, ReleasedCheckpoint)
]
# what a job that goes through the images takes; where they are not quick, decoding wants cores, a
# hundred epochs of random views take hours, and jobs one after the other share a GPU best
ON_IMAGES = (
    {"threads": 1, "mem_mb": 3000, "runtime": 600}
    if STUDY.data.quick or SUBMITS
    else {"threads": 16, "mem_mb": 32000, "runtime": 2880}
)
MOST_VALUES = 250  # that Snakemake compares one by one
# what the smallest table of the study waits for
FIRST = min(
    ({*part.inputs(STUDY)} for name, part in MADE[False].items() if name in STUDY.tables),
    key=len,
    default=set(),
)


# of all jobs with `--software-deployment-method apptainer`; envs/e2mc.def makes it
container: "envs/e2mc.sif"


def run_of(wildcards):
    """The run that the wildcards {base}, {arm} and {seeds} name."""
    return Run.parse(wildcards.base, wildcards.arm, wildcards.seeds)


def base_run(base, base_seed):
    """The run that is a base itself."""
    return Run(base, BASE_ARM, int(base_seed), None)


@functools.cache
def base_file(base, base_seed):
    """The file that stands for a base, made by a rule or shipped."""
    policy = CONFIG.base_checkpoints
    return base_checkpoint(STUDY, base, base_seed, policy, logger.warning)


def checkpoint_of(run):
    """The model of a run: its base, or what continued pre-training made of it."""
    if run.arm == BASE_ARM:
        return base_file(run.base, run.base_seed)
    return STUDY.trained_path(run)


def only(names):
    """A wildcard constraint that some names meet, none if there are none."""
    return "|".join(names) or "(?!)"


def kept(kind, path):
    """A path as an output: temporary where config.yaml does not keep files of that kind."""
    return path if kind in CONFIG.keep else temp(path)


def once(make):
    """``make(wildcards)``, which makes a task, once for all that a rule asks of it."""
    tasks = {}

    def task(wildcards):
        key = tuple(wildcards.items())
        if key not in tasks:
            try:
                tasks[key] = make(wildcards)
            except ExpectedError as error:
                raise WorkflowError(str(error)) from None
        return tasks[key]

    return task


def task_inputs(task):
    """The files that a task reads, for ``unpack``."""

    def inputs(wildcards):
        made = oldest([Path(path) for path in task(wildcards).outputs.values()])
        paths = task(wildcards).inputs.items()
        return {n: ancient(path) if stands(n, Path(path), made) else path for n, path in paths}

    return inputs


def oldest(paths):
    """When the oldest of some files was made; the beginning of time where one is missing."""
    return min((path.stat().st_mtime if path.exists() else 0.0 for path in paths), default=0.0)


def stands(name, path, made):
    """Whether an input need no more than exist: nothing was made of an earlier version of it.

    A clone gives a shipped checkpoint an arbitrary time, and its hash has just been checked. Images
    that are prepared or listed again keep their file's time where they are the same.
    """
    if name == "checkpoint":
        return not path.is_relative_to(ROOT)
    return path in DATASETS.values() and path.exists() and path.stat().st_mtime <= made


def nth_value(task, number):
    """A parameter of a task's rule: one of the values that decide it, at last all others."""

    def value(wildcards):
        lines = task(wildcards).lines
        return (
            "; ".join(lines[number:])
            if number == MOST_VALUES - 1
            else "".join(lines[number : number + 1])
        )

    return value


def task_params(task, rule=None, distributed=False):
    """Parameters of the rule of a task.

    Each value that decides its outputs is one: Snakemake compares them as a set, so that it names
    the one that has changed. A parameter that looks at the inputs is not compared.
    """

    resources = None if rule is None else CONFIG.resources(rule)
    launch = {
        "resources": resources and dataclasses.asdict(resources),
        "distributed": distributed,
    }
    return {f"value_{number}": nth_value(task, number) for number in range(MOST_VALUES)} | {
        "task": lambda wildcards, input: task(wildcards).as_values(),
        "launch": lambda wildcards, input: launch,
    }


def priority_of(paradigms):
    """Says that jobs on which the smallest table waits come first, so that it is there early."""

    def first(wildcards):
        run = run_of(wildcards)
        return int(any(STUDY.result_path(run, name) in FIRST for name in paradigms))

    return first


def files_of(parts):
    """Every file of some tables and figures."""
    return [path for part in parts.values() for path in part.outputs(STUDY).values()]


def continued_task(wildcards):
    """The task that goes on from the base of a run."""
    run = run_of(wildcards)
    start = base_file(run.base, run.base_seed)
    return training_task(STUDY, run, start, device=CONFIG.device, loggers=CONFIG.loggers)


def scoring(paradigms):
    """Makes the task that scores a run under some paradigms."""

    def task(wildcards):
        run = run_of(wildcards)
        return evaluation_task(
            STUDY, run, paradigms, checkpoint_of(run), device=CONFIG.device, keep=CONFIG.keep
        )

    return once(task)


def scored(paradigms):
    """Says which results of a job are made anew; the others stand."""
    return lambda wildcards, input: ", ".join(to_score(STUDY, run_of(wildcards), paradigms))


def dataset_folder(dataset):
    """Where the files of a data set are; None where nothing says so."""
    return CONFIG.folder(STUDY.data.every[dataset])


def making(name):
    """Makes the task of a table or figure."""
    return once(lambda wildcards: part_task(STUDY, name))


def reporting(full):
    """Makes the task of the report, or of the full one."""
    return once(lambda wildcards: report_task(STUDY, full))


def present(parts):
    """The parts that the study has."""
    return {name: part for name, part in parts.items() if not part.lacking(STUDY)}


def shown(part):
    """What a part writes, with its caption where the report shows it."""
    outputs, kind = part.outputs(STUDY), part.category.lower().removesuffix("s")
    for name, path in outputs.items():
        label = part.labels(STUDY).get(path)
        if label:
            caption = f"../report/{part.caption}"
            outputs[name] = report(
                path, caption=caption, category=part.category, labels={kind: label}
            )
    return outputs


def about(part):
    """What a part shows, for ``snakemake --list``."""
    if part.name in STUDY.tables:
        return STUDY.tables[part.name].title
    labels = dict.fromkeys(part.labels(STUDY).values())
    return ", ".join(labels) or ", ".join(str(path) for path in part.outputs(STUDY).values())


def stop(sentence):
    """The input of a target that the study does not have."""

    def missing(wildcards):
        # of an exception Snakemake would show the lines of these files too
        logger.error(sentence)
        raise SystemExit(1)

    return missing


onstart:
    if COUNTED:
        logger.info(price(STUDY, CONFIG.keep))
    if SUBMITS:
        forward_signals()


onsuccess:
    if SUBMITS:
        tidy(ROOT)
