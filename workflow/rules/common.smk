"""The study and the functions that turn it into files."""

import functools
import os
from types import SimpleNamespace
import snakemake.benchmark
from snakemake.exceptions import WorkflowError
from e2mc import steps
from e2mc.code_hash import Code
from e2mc.identity import (
    conversion_code,
    conversion_identity,
    evaluation_code,
    evaluation_identity,
    reporting_identity,
    training_code,
    training_outputs_identity,
)
from e2mc.cluster.launching import forward_signals, tidy
from e2mc.checkpoints.checkpoint import CheckpointError
from e2mc.state import fingerprint
from e2mc.study import (
    BASE_ARM,
    FineTune,
    OnDisk,
    ReleasedCheckpoint,
    Run,
    StudyError,
    load_config,
    load_study,
)

# reading the memory of every job twice a second would cost a twentieth of the default study
snakemake.benchmark.BENCHMARK_INTERVAL_SHORT = 5
# glibc gives freed tensors back to the system and faults them in again: a sixth of an evaluation
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1))

try:
    CONFIG = load_config(config)
    STUDY = load_study(CONFIG.study)
except StudyError as error:
    raise WorkflowError(str(error)) from None

ROOT = STUDY.root
ON_DISK = isinstance(STUDY.data, OnDisk)
FROZEN = STUDY.frozen_groups()
# a rule that submits its job itself is not to be submitted by an executor plugin
SUBMITS = CONFIG.launcher == "slurm"
FINE_TUNED = [name for name, item in STUDY.paradigms.items() if isinstance(item, FineTune)]
MEASUREMENTS = ["separability", "embeddings"]
DATASETS = {name: STUDY.dataset_path(name) for name in STUDY.data.names}
RUN = "{base}/{arm}/{seeds}"
# runs whose parts are wildcards, for the paths of a study
ANY_RUN = SimpleNamespace(base="{base}", arm="{arm}", seeds="{seeds}")
ANY_BASE = SimpleNamespace(base="{base}", arm=BASE_ARM, base_seed="{base_seed}")
CONVERTED = [name for name, base in STUDY.bases.items() if base.converted]
RELEASED = [
    name for name, base in STUDY.bases.items() if isinstance(base.checkpoint, ReleasedCheckpoint)
]
# what a job that goes through the images takes; on disk: decoding wants cores, a hundred epochs
# of random views take hours, and jobs one after the other share a GPU best
ON_IMAGES = (
    {"threads": 16, "mem_mb": 32000, "runtime": 2880}
    if ON_DISK and not SUBMITS
    else {"threads": 1, "mem_mb": 3000, "runtime": 600}
)
# figures of one job, by file name
DIAGNOSTICS = {
    "embeddings": "embeddings before and after",
    "spectrum": "spectrum of the embeddings",
    "cost": "cost of each row",
    **{
        f"training_{base}": f"training curves, {STUDY.bases[base].label}"
        for base in dict.fromkeys(run.base for run in STUDY.continued_runs())
    },
}


def run_of(wildcards):
    """The run that the wildcards {base}, {arm} and {seeds} name."""
    return Run.parse(wildcards.base, wildcards.arm, wildcards.seeds)


def base_run_of(wildcards):
    """The run whose training makes the base that {base} and {base_seed} name."""
    return Run(wildcards.base, BASE_ARM, int(wildcards.base_seed), None)


def only(names):
    """A wildcard constraint that some names meet, none if there are none."""
    return "|".join(names) or "(?!)"


def kept(kind, path):
    """A path as an output: temporary where config.yaml does not keep files of that kind."""
    return path if kind in CONFIG.keep else temp(path)


def original_checkpoint(base):
    """The file that is converted: one that was downloaded, or the user's."""
    if base in RELEASED:
        return STUDY.download_path(base)
    return STUDY.bases[base].checkpoint.path


def base_checkpoint(base, base_seed):
    """The file that stands for a base, made by a rule or shipped."""
    policy = CONFIG.base_checkpoints
    try:
        path = steps.base_checkpoint(STUDY, base, base_seed, policy, logger.warning)
    except CheckpointError as error:
        raise WorkflowError(str(error)) from None
    made = path in (STUDY.retrained_path(base, base_seed), STUDY.converted_path(base))
    # a clone gives a shipped file an arbitrary time; its hash has just been checked
    return path if made else ancient(path)


def checkpoint_of(wildcards):
    """The model of a run: its base, or what continued pre-training made of it."""
    run = run_of(wildcards)
    if run.arm == BASE_ARM:
        return base_checkpoint(run.base, run.base_seed)
    return STUDY.checkpoint_path(run)


def datasets_of(paradigms):
    """The data sets that some paradigms need."""
    names = {STUDY.paradigms[name].dataset for name in paradigms}
    return {name: path for name, path in DATASETS.items() if name in names}


def training_hash(run):
    """What the files that the training of a run writes depend on."""
    return fingerprint(training_outputs_identity(STUDY, run))


def evaluation_hash(paradigms):
    """What the results of some paradigms depend on."""
    return lambda wildcards: fingerprint(
        {name: evaluation_identity(STUDY, run_of(wildcards), name) for name in paradigms}
    )


@functools.cache
def version(code):
    """The hash of some code, once for all jobs."""
    return code.hash()


def evaluation_version(wildcards):
    """The version of the code that scores a run."""
    return version(evaluation_code(STUDY, run_of(wildcards)))


def result_files(rows, columns, seeds=None):
    """One JSON per run of the rows and paradigm of the columns."""
    return [STUDY.result_path(run, column) for run in STUDY.runs(rows, seeds) for column in columns]


def measurements(*names):
    """Result files of these names for the arms that the study compares."""
    return [STUDY.result_path(run, name) for run in STUDY.separability_runs() for name in names]


def convergence_results():
    """What the curves show; an error where the study has none."""
    if STUDY.convergence is None:
        raise WorkflowError(
            f"study {STUDY.name} has no convergence: add it to its file in studies/"
        )
    return result_files(STUDY.convergence_rows(), STUDY.convergence.columns)


def main_table_results():
    """Every score of the tables in `all`, each file once."""
    found = [path for name in STUDY.main_tables for path in STUDY.table_results(name)]
    return list(dict.fromkeys(found))


def table_files(name):
    return [ROOT / "tables" / f"{name}.{kind}" for kind in ("csv", "md", "tex", "html")]


def figure_files(name):
    return [ROOT / "figures" / f"{name}.{kind}" for kind in ("pdf", "png")]


def sweep_results():
    """The candidates of the sweep; an error where the study has none."""
    if STUDY.sweep is None:
        raise WorkflowError(f"study {STUDY.name} has no sweep: add one to its file in studies/")
    return result_files(STUDY.sweep.rows, STUDY.sweep.columns, STUDY.sweep.seeds)


def information_output(run):
    """What the instrument writes along a run, in a study that has one."""
    return {} if STUDY.information is None else {"information": STUDY.information_path(run)}


def result_outputs(paradigms):
    """The result of a run under each of some paradigms, by name."""
    return {name: STUDY.result_path(ANY_RUN, name) for name in paradigms}


def er_files():
    """What `all` makes of entropy and reconstruction, where the study has them."""
    found = []
    if STUDY.information is not None:
        found += [*figure_files("information"), ROOT / "tables/information.md"]
    if STUDY.stability is not None:
        found += figure_files("stability")
        found += [ROOT / "tables" / f"stability.{kind}" for kind in ("csv", "md")]
    return found


# targets that only the full report has, and their files
EXTRAS = {"ablations": table_files("ablations")} if "ablations" in STUDY.tables else {}
if STUDY.convergence is not None:
    EXTRAS["convergence"] = figure_files("convergence")


onstart:
    if SUBMITS:
        forward_signals()


onsuccess:
    if SUBMITS:
        tidy(ROOT)
