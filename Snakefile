from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "workflow/rules/common.smk"


wildcard_constraints:
    base="|".join(STUDY.bases),
    arm="|".join([BASE_ARM, *STUDY.arms]),
    seeds=r"base\d+(-cont\d+)?",
    base_seed=r"\d+",


report: "workflow/report/workflow.rst"


rule all:
    "every table and figure of the study"
    default_target: True
    input:
        files_of(MADE[False]),


include: "workflow/rules/data.smk"
include: "workflow/rules/bases.smk"
include: "workflow/rules/continued.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"
