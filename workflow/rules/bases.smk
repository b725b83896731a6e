rule pretrain_base:
    input:
        images=DATASETS["images"],
    output:
        checkpoint=STUDY.retrained_path("{base}", "{base_seed}"),
        log=STUDY.retrained_path("{base}", "{base_seed}").with_name("training.csv"),
    log:
        ROOT / "logs/bases/{base}/base{base_seed}.log",
    benchmark:
        ROOT / "benchmarks/bases/{base}/base{base_seed}.tsv"
    conda:
        "../../envs/e2mc.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=600,
    params:
        study=CONFIG.study,
        seeds="base{base_seed}",
        config=CONFIG.model_dump(mode="json"),
        spec=lambda wildcards: fingerprint(
            training_identity(STUDY, Run(wildcards.base, BASE_ARM, int(wildcards.base_seed), None))
        ),
        code=code_hash("training"),
    message:
        "Pre-training {wildcards.base} from random weights, seed {wildcards.base_seed}"
    script:
        "../scripts/pretrain_base.py"


rule bases:
    input:
        [STUDY.retrained_path(base, seed) for base in STUDY.bases for seed in STUDY.seeds.base],
