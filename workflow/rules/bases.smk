DOWNLOAD = once(lambda wildcards: download_task(STUDY, wildcards.base))
CONVERSION = once(lambda wildcards: conversion_task(STUDY, wildcards.base))
PRETRAINING = once(
    lambda wildcards: training_task(
        STUDY,
        base_run(wildcards.base, wildcards.base_seed),
        None,
        device=CONFIG.device,
        loggers=CONFIG.loggers,
    )
)


rule download_base:
    "a released checkpoint"
    output:
        original=kept("downloads", STUDY.download_path("{base}")),
    log:
        ROOT / "logs/bases/{base}/download.log",
    benchmark:
        ROOT / "benchmarks/bases/{base}/download.tsv"
    wildcard_constraints:
        base=only(RELEASED),
    conda:
        "../../envs/e2mc.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        **task_params(DOWNLOAD),
    message:
        "Downloading the checkpoint of {wildcards.base}"
    script:
        "../scripts/run.py"


rule convert_base:
    "a released checkpoint, or one of your own, in this package's format"
    input:
        unpack(task_inputs(CONVERSION)),
    output:
        checkpoint=STUDY.converted_path("{base}"),
    log:
        ROOT / "logs/bases/{base}/convert.log",
    benchmark:
        ROOT / "benchmarks/bases/{base}/convert.tsv"
    wildcard_constraints:
        base=only(CONVERTED),
    conda:
        "../../envs/e2mc.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        **task_params(CONVERSION),
    message:
        "Converting the checkpoint of {wildcards.base}"
    script:
        "../scripts/run.py"


rule pretrain_base:
    "a base from random weights"
    input:
        unpack(task_inputs(PRETRAINING)),
    output:
        **training_outputs(STUDY, ANY_BASE),
    log:
        ROOT / "logs/bases/{base}/base{base_seed}.log",
    benchmark:
        ROOT / "benchmarks/bases/{base}/base{base_seed}.tsv"
    wildcard_constraints:
        base=only(name for name, base in STUDY.bases.items() if base.pretraining is not None),
    localrule: SUBMITS
    conda:
        "../../envs/e2mc.yaml"
    threads: ON_IMAGES["threads"]
    resources:
        slurm_jobs=1,
        mem_mb=ON_IMAGES["mem_mb"],
        runtime=ON_IMAGES["runtime"],
    params:
        **task_params(PRETRAINING, "pretrain_base", distributed=True),
    message:
        "Pre-training {wildcards.base} from random weights, seed {wildcards.base_seed}"
    script:
        "../scripts/run.py"


rule bases:
    "every base: converted, or trained from random weights"
    input:
        [STUDY.converted_path(base) for base in CONVERTED],
        [
            STUDY.trained_path(base_run(base, seed))
            for base in STUDY.bases
            if base not in CONVERTED
            for seed in STUDY.seeds.base
        ],
