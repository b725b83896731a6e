if COUNTED:
    INDEX = once(
        lambda wildcards: index_task(STUDY, wildcards.dataset, dataset_folder(wildcards.dataset))
    )

    rule index_data:
        "the images of a data set, or their list where they stay on disk"
        output:
            # what depends on an index depends on what it lists: an equal one is left as it is
            index=update(STUDY.dataset_path("{dataset}")),
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
            # STL10 with its unlabelled images is 3 GB, held three times
            mem_mb=10000 if STUDY.data.dataset == "torchvision" else 4000,
            runtime=120,
        params:
            **task_params(INDEX),
        message:
            "Counting and listing the images of {wildcards.dataset}"
        script:
            "../scripts/run.py"

else:
    PREPARATION = once(
        lambda wildcards: preparation_task(STUDY, CONFIG.data_folders.get("fashion-mnist"))
    )

    rule prepare_data:
        "the images of the study in memory"
        output:
            **{name: update(path) for name, path in DATASETS.items()},
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
            **task_params(PREPARATION),
        message:
            "Fetching, checking and splitting the images"
        script:
            "../scripts/run.py"


rule check_data:
    "every data set, counted and checked"
    input:
        **DATASETS,
