for group, paradigms in FROZEN.items():

    rule:
        name:
            "evaluate_frozen" if group == "frozen" else f"evaluate_frozen_{group}"
        input:
            **datasets_of(paradigms),
            checkpoint=checkpoint_of,
        output:
            **result_outputs(paradigms),
        log:
            ROOT / "logs/evaluations" / RUN / f"{group}.log",
        benchmark:
            ROOT / "benchmarks/evaluations" / RUN / f"{group}.tsv"
        localrule: SUBMITS
        conda:
            "../../envs/e2mc.yaml"
        threads: ON_IMAGES["threads"]
        resources:
            slurm_jobs=1,
            mem_mb=ON_IMAGES["mem_mb"],
            runtime=ON_IMAGES["runtime"],
        params:
            step="evaluate_frozen",
            study=CONFIG.study,
            spec=evaluation_hash(paradigms),
            code=evaluation_version,
        message:
            "Evaluating {wildcards.base} {wildcards.arm} {wildcards.seeds}, frozen"
        script:
            "../scripts/evaluate.py"


if FINE_TUNED:

    rule evaluate_fine_tuned:
        input:
            **datasets_of(FINE_TUNED),
            checkpoint=checkpoint_of,
        output:
            **result_outputs(FINE_TUNED),
        log:
            ROOT / "logs/evaluations" / RUN / "fine_tuned.log",
        benchmark:
            ROOT / "benchmarks/evaluations" / RUN / "fine_tuned.tsv"
        localrule: SUBMITS
        conda:
            "../../envs/e2mc.yaml"
        threads: ON_IMAGES["threads"]
        resources:
            slurm_jobs=1,
            mem_mb=ON_IMAGES["mem_mb"],
            runtime=ON_IMAGES["runtime"],
        params:
            step="evaluate_fine_tuned",
            study=CONFIG.study,
            spec=evaluation_hash(FINE_TUNED),
            code=evaluation_version,
        message:
            "Fine-tuning {wildcards.base} {wildcards.arm} {wildcards.seeds}"
        script:
            "../scripts/evaluate.py"


rule measure:
    input:
        checkpoint=checkpoint_of,
        images=DATASETS["images"],
    output:
        **result_outputs(MEASUREMENTS),
    log:
        ROOT / "logs/evaluations" / RUN / "measurements.log",
    benchmark:
        ROOT / "benchmarks/evaluations" / RUN / "measurements.tsv"
    localrule: SUBMITS
    conda:
        "../../envs/e2mc.yaml"
    threads: ON_IMAGES["threads"]
    resources:
        slurm_jobs=1,
        mem_mb=ON_IMAGES["mem_mb"],
        runtime=ON_IMAGES["runtime"],
    params:
        step="measure",
        study=CONFIG.study,
        spec=evaluation_hash(MEASUREMENTS),
        code=evaluation_version,
    message:
        "Measuring {wildcards.base} {wildcards.arm} {wildcards.seeds}"
    script:
        "../scripts/evaluate.py"
