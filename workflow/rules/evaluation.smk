for job, paradigms in STUDY.evaluation_jobs().items():
    SCORING = scoring(paradigms)

    rule:
        name:
            job
        input:
            unpack(task_inputs(SCORING)),
        output:
            # a result that stands is left by the step when another of its job is made anew
            **{name: update(STUDY.result_path(ANY_RUN, name)) for name in paradigms},
        log:
            ROOT / "logs/evaluations" / RUN / f"{job}.log",
        benchmark:
            ROOT / "benchmarks/evaluations" / RUN / f"{job}.tsv"
        priority: priority_of(paradigms)
        localrule: SUBMITS
        conda:
            "../../envs/e2mc.yaml"
        threads: ON_IMAGES["threads"]
        resources:
            slurm_jobs=1,
            mem_mb=ON_IMAGES["mem_mb"],
            runtime=ON_IMAGES["runtime"],
        params:
            **task_params(SCORING, job),
            scored=scored(paradigms),
        message:
            "Scoring {wildcards.base} {wildcards.arm} {wildcards.seeds}: {params.scored}"
        script:
            "../scripts/run.py"

    workflow.get_rule(job).docstring = f"scores of a checkpoint: {', '.join(paradigms)}"
