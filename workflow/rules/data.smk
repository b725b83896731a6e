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
        code=code_hash("data"),
    message:
        "Fetching, checking and splitting the images"
    script:
        "../scripts/prepare_data.py"
