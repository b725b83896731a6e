rule continue_pretraining:
    input:
        checkpoint=lambda wildcards: base_checkpoint(wildcards.base, run_of(wildcards).base_seed),
        images=DATASETS["images"],
    output:
        **information_output(ANY_RUN),
        checkpoint=kept("continued", STUDY.checkpoint_path(ANY_RUN)),
        log=STUDY.log_path(ANY_RUN),
    log:
        ROOT / "logs/continued" / f"{RUN}.log",
    benchmark:
        ROOT / "benchmarks/continued" / f"{RUN}.tsv"
    wildcard_constraints:
        seeds=r"base\d+-cont\d+",
    localrule: SUBMITS
    conda:
        "../../envs/e2mc.yaml"
    threads: ON_IMAGES["threads"]
    resources:
        slurm_jobs=1,
        mem_mb=ON_IMAGES["mem_mb"],
        runtime=ON_IMAGES["runtime"],
    params:
        study=CONFIG.study,
        spec=lambda wildcards: training_hash(run_of(wildcards)),
        code=lambda wildcards: version(training_code(STUDY, run_of(wildcards))),
    message:
        "Continuing {wildcards.base} as {wildcards.arm}, {wildcards.seeds}"
    script:
        "../scripts/continue_pretraining.py"
