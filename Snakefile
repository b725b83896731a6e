from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "workflow/rules/common.smk"


wildcard_constraints:
    base="|".join(STUDY.bases),
    arm="|".join([BASE_ARM, *STUDY.arms]),
    seeds=r"base\d+(-cont\d+)?",
    base_seed=r"\d+",
    table="|".join(STUDY.tables),


report: "workflow/report/workflow.rst"


localrules:
    all,
    table1,
    table2,
    ablations,
    bases,
    check_data,
    separability,
    convergence,
    full_report,
    report,
    er,


rule all:
    default_target: True
    input:
        [table_files(name) for name in STUDY.main_tables],
        figure_files("separability"),
        figure_files("gains"),
        [path for name in DIAGNOSTICS for path in figure_files(name)],
        f"{ROOT}/results.csv",
        er_files(),


include: "workflow/rules/data.smk"
include: "workflow/rules/bases.smk"
include: "workflow/rules/continued.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/er.smk"
