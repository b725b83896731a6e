def making(name):
    """Makes the task of a table or figure."""
    return once(lambda wildcards: part_task(STUDY, name))


def reporting(full):
    """Makes the task of the report, or of the full one."""
    return once(lambda wildcards: report_task(STUDY, full))


def present(parts):
    """The parts that the study has."""
    return {name: part for name, part in parts.items() if not part.lacking(STUDY)}


def shown(part):
    """What a part writes, with its caption where the report shows it."""
    outputs, kind = part.outputs(STUDY), part.category.lower().removesuffix("s")
    for name, path in outputs.items():
        label = part.labels(STUDY).get(path)
        if label:
            caption = f"../report/{part.caption}"
            outputs[name] = report(
                path, caption=caption, category=part.category, labels={kind: label}
            )
    return outputs


def stop(sentence):
    """The input of a target that the study does not have."""

    def missing(wildcards):
        raise WorkflowError(sentence)

    return missing


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


for part in [part for part in PARTS.values() if part.lacking(STUDY)]:

    rule:
        name:
            part.name
        input:
            stop(part.lacking(STUDY)),


for target, full in {"report": False, "full_report": True}.items():

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
            **task_params(reporting(full)),
        message:
            f"Making the HTML {target.replace('_', ' ')}"
        script:
            "../scripts/run.py"


rule er:
    input:
        files_of(present({name: PARTS[name] for name in ("information", "stability")}))
        or stop(PARTS["information"].lacking(STUDY)),
