rule collect_results:
    input:
        main_table_results(),
        measurements(*MEASUREMENTS),
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
    params:
        code=version(Code("reporting")),
    message:
        "Collecting every score into one tidy file"
    script:
        "../scripts/collect_results.py"


rule make_table:
    input:
        lambda wildcards: STUDY.table_results(wildcards.table),
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
        spec=fingerprint(reporting_identity(STUDY)),
        code=version(Code("reporting")),
    message:
        "Making {wildcards.table}"
    script:
        "../scripts/make_table.py"


rule plot_separability:
    input:
        measurements("separability"),
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
        spec=fingerprint(reporting_identity(STUDY)),
        code=version(Code("reporting")),
    message:
        "Plotting the separability under each criterion"
    script:
        "../scripts/plot_separability.py"


rule plot_gains:
    input:
        main_table_results(),
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
        tables=STUDY.main_tables,
        spec=fingerprint(reporting_identity(STUDY)),
        code=version(Code("reporting")),
    message:
        "Plotting the gain over continued pre-training"
    script:
        "../scripts/plot_gains.py"


rule plot_diagnostics:
    input:
        measurements=measurements(*MEASUREMENTS),
        results=main_table_results(),
        logs=[STUDY.log_path(run) for run in STUDY.continued_runs()],
    output:
        pdf=[ROOT / f"figures/{name}.pdf" for name in DIAGNOSTICS],
        costs=ROOT / "costs.csv",
        png=[
            report(
                ROOT / f"figures/{name}.png",
                caption=f"../report/{name.split('_')[0]}.rst",
                category="Figures",
                labels={"figure": title},
            )
            for name, title in DIAGNOSTICS.items()
        ],
    log:
        ROOT / "logs/plot_diagnostics.log",
    benchmark:
        ROOT / "benchmarks/plot_diagnostics.tsv"
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=CONFIG.study,
        spec=fingerprint(reporting_identity(STUDY)),
        code=version(Code("reporting")),
    message:
        "Plotting embeddings, spectrum, training curves and cost"
    script:
        "../scripts/plot_diagnostics.py"


rule plot_convergence:
    input:
        lambda wildcards: convergence_results(),
    output:
        csv=ROOT / "convergence.csv",
        pdf=ROOT / "figures/convergence.pdf",
        png=report(
            ROOT / "figures/convergence.png",
            caption="../report/convergence.rst",
            category="Figures",
            labels={"figure": "accuracy against epochs"},
        ),
    log:
        ROOT / "logs/plot_convergence.log",
    benchmark:
        ROOT / "benchmarks/plot_convergence.tsv"
    conda:
        "../../envs/e2mc.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=CONFIG.study,
        spec=fingerprint(reporting_identity(STUDY)),
        code=version(Code("reporting")),
    message:
        "Plotting accuracy against epochs of continued pre-training"
    script:
        "../scripts/plot_convergence.py"


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
        targets=["all"],
        code=version(Code("reporting")),
    message:
        "Making the HTML report"
    script:
        "../scripts/make_report.py"


use rule make_report as make_full_report with:
    input:
        rules.all.input,
        *EXTRAS.values(),
    output:
        ROOT / "full_report.html",
    log:
        ROOT / "logs/make_full_report.log",
    params:
        study=CONFIG.study,
        targets=["all", *EXTRAS],
        code=version(Code("reporting")),
    message:
        "Making the HTML report with ablations and curves"


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
        spec=fingerprint(reporting_identity(STUDY)),
        code=version(Code("reporting")),
    message:
        "Comparing the candidates of the sweep on the validation split"
    script:
        "../scripts/sweep.py"


rule report:
    input:
        ROOT / "report.html",


rule full_report:
    input:
        ROOT / "full_report.html",


rule table1:
    input:
        table_files("table1"),


rule table2:
    input:
        table_files("table2"),


rule separability:
    input:
        figure_files("separability"),


rule convergence:
    input:
        figure_files("convergence"),


rule ablations:
    input:
        table_files("ablations"),
