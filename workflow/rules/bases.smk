rule download_base:
    output:
        kept("downloads", STUDY.download_path("{base}")),
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
        url=lambda wildcards: STUDY.bases[wildcards.base].checkpoint.url,
        sha256=lambda wildcards: STUDY.bases[wildcards.base].checkpoint.sha256,
    message:
        "Downloading {params.url}"
    script:
        "../scripts/download_base.py"


rule convert_base:
    input:
        lambda wildcards: original_checkpoint(wildcards.base),
    output:
        STUDY.converted_path("{base}"),
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
        study=CONFIG.study,
        spec=lambda wildcards: fingerprint(conversion_identity(STUDY, wildcards.base)),
        code=lambda wildcards: version(conversion_code(STUDY, wildcards.base)),
    message:
        "Converting the checkpoint of {wildcards.base}"
    script:
        "../scripts/convert_base.py"


rule pretrain_base:
    input:
        images=DATASETS["images"],
    output:
        **information_output(ANY_BASE),
        checkpoint=STUDY.retrained_path("{base}", "{base_seed}"),
        log=STUDY.retrained_path("{base}", "{base_seed}").with_name("training.csv"),
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
        study=CONFIG.study,
        seeds="base{base_seed}",
        spec=lambda wildcards: training_hash(base_run_of(wildcards)),
        code=lambda wildcards: version(training_code(STUDY, base_run_of(wildcards))),
    message:
        "Pre-training {wildcards.base} from random weights, seed {wildcards.base_seed}"
    script:
        "../scripts/pretrain_base.py"


rule bases:
    input:
        [STUDY.converted_path(base) for base in CONVERTED],
        [
            STUDY.retrained_path(base, seed)
            for base in STUDY.bases
            if base not in CONVERTED
            for seed in STUDY.seeds.base
        ],
