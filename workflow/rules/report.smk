rule collect_results:
    input:
        main_results(),
    output:
        ROOT / "results.csv",
    log:
        ROOT / "logs/collect_results.log",
    benchmark:
        ROOT / "benchmarks/collect_results.tsv"
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    message:
        "Collecting every score into one tidy file"
    script:
        "../scripts/collect_results.py"


rule make_table:
    input:
        lambda wildcards: table_results(wildcards.table),
    output:
        csv=ROOT / "tables/{table}.csv",
        md=ROOT / "tables/{table}.md",
        tex=ROOT / "tables/{table}.tex",
        html=report(
            ROOT / "tables/{table}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        ROOT / "logs/make_table/{table}.log",
    benchmark:
        ROOT / "benchmarks/make_table/{table}.tsv"
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=CONFIG.study,
        spec=lambda wildcards: fingerprint(
            {
                "table": STUDY.tables[wildcards.table].model_dump(mode="json"),
                "labels": STUDY.labels(),
            }
        ),
        code=code_hash("reporting"),
    message:
        "Making {wildcards.table}"
    script:
        "../scripts/make_table.py"


rule plot_separability:
    input:
        separability_results(),
    output:
        pdf=ROOT / "figures/separability.pdf",
        png=report(
            ROOT / "figures/separability.png",
            caption="../report/separability.rst",
            category="Figures",
            labels={"figure": "separability"},
        ),
    log:
        ROOT / "logs/plot_separability.log",
    benchmark:
        ROOT / "benchmarks/plot_separability.tsv"
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=CONFIG.study,
        spec=fingerprint({"labels": STUDY.labels()}),
        code=code_hash("reporting"),
    message:
        "Plotting the separability under each criterion"
    script:
        "../scripts/plot_separability.py"


rule plot_gains:
    input:
        lambda wildcards: [path for name in MAIN_TABLES for path in table_results(name)],
    output:
        pdf=ROOT / "figures/gains.pdf",
        png=report(
            ROOT / "figures/gains.png",
            caption="../report/gains.rst",
            category="Figures",
            labels={"figure": "gain over continued"},
        ),
    log:
        ROOT / "logs/plot_gains.log",
    benchmark:
        ROOT / "benchmarks/plot_gains.tsv"
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=CONFIG.study,
        tables=MAIN_TABLES,
        spec=fingerprint({"labels": STUDY.labels()}),
        code=code_hash("reporting"),
    message:
        "Plotting the gain over continued pre-training"
    script:
        "../scripts/plot_gains.py"


rule make_report:
    input:
        rules.all.input,
    output:
        ROOT / "report.html",
    log:
        ROOT / "logs/make_report.log",
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=CONFIG.study,
    message:
        "Making the HTML report"
    shell:
        # this workflow holds the lock; the report only reads what is finished
        "snakemake --report {output} --config study={params.study} --nolock all > {log} 2>&1"


rule sweep:
    input:
        lambda wildcards: sweep_results(),
    output:
        csv=ROOT / "sweep.csv",
        md=ROOT / "sweep.md",
    log:
        ROOT / "logs/sweep.log",
    benchmark:
        ROOT / "benchmarks/sweep.tsv"
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=CONFIG.study,
        code=code_hash("reporting"),
    message:
        "Comparing the candidates of the sweep on the validation split"
    script:
        "../scripts/sweep.py"


rule report:
    input:
        ROOT / "report.html",


rule table1:
    input:
        table_files("table1"),


rule table2:
    input:
        table_files("table2"),


rule separability:
    input:
        figure_files("separability"),


rule ablations:
    input:
        table_files("ablations"),
