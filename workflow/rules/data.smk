if ON_DISK:

    rule index_data:
        output:
            STUDY.dataset_path("{dataset}"),
        log:
            ROOT / "logs/index_data/{dataset}.log",
        benchmark:
            ROOT / "benchmarks/index_data/{dataset}.tsv"
        wildcard_constraints:
            dataset="|".join(DATASETS),
        conda:
            "../../envs/e2mc.yaml"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            study=CONFIG.study,
            folder=lambda wildcards: CONFIG.data_folders.get(
                STUDY.data.sets[wildcards.dataset].format
            ),
            downloads=ROOT / "data/downloads",
            spec=lambda wildcards: fingerprint(STUDY.data.evaluation_identity(wildcards.dataset)),
            code=version(Code("data")),
        message:
            "Counting and listing the images of {wildcards.dataset}"
        script:
            "../scripts/index_data.py"

else:

    rule prepare_data:
        output:
            **DATASETS,
        log:
            ROOT / "logs/prepare_data.log",
        benchmark:
            ROOT / "benchmarks/prepare_data.tsv"
        conda:
            "../../envs/e2mc.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            study=CONFIG.study,
            folder=CONFIG.data_folders.get("fashion-mnist"),
            downloads=ROOT / "data/downloads",
            spec=fingerprint(STUDY.data.model_dump(mode="json")),
            code=version(Code("data")),
        message:
            "Fetching, checking and splitting the images"
        script:
            "../scripts/prepare_data.py"


rule check_data:
    input:
        **DATASETS,
