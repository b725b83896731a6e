rule measure_information:
    input:
        checkpoint=checkpoint_of,
        images=DATASETS["images"],
    output:
        **result_outputs(["information"]),
    log:
        ROOT / "logs/evaluations" / RUN / "information.log",
    benchmark:
        ROOT / "benchmarks/evaluations" / RUN / "information.tsv"
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
        spec=evaluation_hash(["information"]),
        code=evaluation_version,
    message:
        "Measuring the entropy of {wildcards.base} {wildcards.arm} {wildcards.seeds}"
    script:
        "../scripts/evaluate.py"


rule plot_information:
    input:
        [STUDY.information_path(run) for run in STUDY.information_runs()],
    output:
        md=ROOT / "tables/information.md",
        pdf=ROOT / "figures/information.pdf",
        png=report(
            ROOT / "figures/information.png",
            caption="../report/information.rst",
            category="Figures",
            labels={"figure": "entropy and reconstruction"},
        ),
    log:
        ROOT / "logs/plot_information.log",
    benchmark:
        ROOT / "benchmarks/plot_information.tsv"
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=CONFIG.study,
        spec=fingerprint(reporting_identity(STUDY)),
        code=version(Code("reporting")),
    message:
        "Plotting entropy and reconstruction during training"
    script:
        "../scripts/plot_information.py"


rule show_stability:
    input:
        [STUDY.result_path(run, STUDY.stability.column) for run in STUDY.stability_runs()],
    output:
        csv=ROOT / "tables/stability.csv",
        md=ROOT / "tables/stability.md",
        pdf=ROOT / "figures/stability.pdf",
        png=report(
            ROOT / "figures/stability.png",
            caption="../report/stability.rst",
            category="Figures",
            labels={"figure": "batch size and EMA"},
        ),
    log:
        ROOT / "logs/show_stability.log",
    benchmark:
        ROOT / "benchmarks/show_stability.tsv"
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=CONFIG.study,
        spec=fingerprint(reporting_identity(STUDY)),
        code=version(Code("reporting")),
    message:
        "Comparing own objectives with ER over batch sizes and EMA coefficients"
    script:
        "../scripts/show_stability.py"


rule er:
    input:
        er_files(),
