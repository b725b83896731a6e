for sentence in STUDY.left_out.values():
    logger.warning(sentence)

for part in present(PARTS).values():

    rule:
        name:
            part.name
        input:
            part.inputs(STUDY),
        output:
            **shown(part),
        log:
            ROOT / f"logs/{part.name}.log",
        benchmark:
            ROOT / f"benchmarks/{part.name}.tsv"
        priority: 2  # seconds, as soon as everything is there
        conda:
            "../../envs/e2mc.yaml"
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            **task_params(making(part.name)),
        message:
            f"Making {part.name}"
        script:
            "../scripts/run.py"

    workflow.get_rule(part.name).docstring = about(part)


for part in [part for part in PARTS.values() if part.lacking(STUDY)]:

    rule:
        name:
            part.name
        input:
            stop(part.lacking(STUDY)),

    workflow.get_rule(part.name).docstring = part.lacking(STUDY)


for target, full in {"report": False, "full_report": True}.items():

    rule:
        name:
            target
        input:
            rules.all.input,
            files_of(MADE[full]),
        output:
            html=report_path(STUDY, full),
        log:
            ROOT / f"logs/{target}.log",
        conda:
            "../../envs/e2mc.yaml"
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            **task_params(reporting(full)),
        message:
            f"Making the HTML {target.replace('_', ' ')}"
        script:
            "../scripts/run.py"

    workflow.get_rule(target).docstring = (
        f"one HTML file of {' '.join(report_targets(STUDY, full=full))}"
    )


rule er:
    "entropy and reconstruction during training, and how stable it is"
    input:
        files_of(present({name: PARTS[name] for name in ("information", "stability")}))
        or stop(PARTS["information"].lacking(STUDY)),
