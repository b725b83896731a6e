CONTINUATION = once(continued_task)
CONTINUED = training_outputs(STUDY, ANY_RUN)


rule continue_pretraining:
    "a base after some more epochs, with or without a criterion"
    input:
        unpack(task_inputs(CONTINUATION)),
    output:
        **CONTINUED | {"checkpoint": kept("continued", CONTINUED["checkpoint"])},
    log:
        ROOT / "logs/continued" / f"{RUN}.log",
    benchmark:
        ROOT / "benchmarks/continued" / f"{RUN}.tsv"
    wildcard_constraints:
        seeds=r"base\d+-cont\d+",
    priority: priority_of(STUDY.paradigms)
    localrule: SUBMITS
    conda:
        "../../envs/e2mc.yaml"
    threads: ON_IMAGES["threads"]
    resources:
        slurm_jobs=1,
        mem_mb=ON_IMAGES["mem_mb"],
        runtime=ON_IMAGES["runtime"],
    params:
        **task_params(CONTINUATION, "continue_pretraining", distributed=True),
    message:
        "Continuing {wildcards.base} as {wildcards.arm}, {wildcards.seeds}"
    script:
        "../scripts/run.py"
