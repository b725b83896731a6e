def part_rule(name):
    """Makes the task of a table or figure."""
    return once(lambda wildcards: part_task(STUDY, name))


def shown(part):
    """What a part writes, with a caption where the report shows it."""
    labels = part.labels(STUDY)
    return {
        name: (
            report(
                path,
                caption=f"../report/{part.caption}",
                category=part.category,
                labels={part.category.lower().removesuffix("s"): labels[path]},
            )
            if path in labels
            else path
        )
        for name, path in part.outputs(STUDY).items()
    }


def lacks(sentence):
    """The input of a target that the study does not have."""

    def stop(wildcards):
        raise WorkflowError(sentence)

    return stop


for part in PARTS.values():
    MISSING = part.lacking(STUDY)

    if MISSING:

        rule:
            name:
                part.name
            input:
                lacks(MISSING),

    else:

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
            conda:
                "../../envs/e2mc.yaml"
            resources:
                mem_mb=1000,
                runtime=10,
            params:
                **task_params(part_rule(part.name)),
            message:
                f"Making {part.name}"
            script:
                "../scripts/run.py"


for target, full in (("report", False), ("full_report", True)):
    REPORT = once(lambda wildcards, full=full: report_task(STUDY, full))

    rule:
        name:
            target
        input:
            rules.all.input,
            files_of(made(STUDY, full=full)),
        output:
            html=ROOT / f"{target}.html",
        log:
            ROOT / f"logs/{target}.log",
        conda:
            "../../envs/e2mc.yaml"
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            **task_params(REPORT),
        message:
            f"Making the HTML report of {' '.join(report_targets(STUDY, full=full))}"
        script:
            "../scripts/run.py"


rule er:
    input:
        files_of({name: PARTS[name] for name in ("information", "stability") if name in made(STUDY)}),
