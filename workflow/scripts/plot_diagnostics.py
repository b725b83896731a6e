from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.cost import cost_figure, cost_per_row
from e2mc.reporting.embeddings import embedding_figure, spectrum_figure
from e2mc.reporting.figures import save_figure
from e2mc.reporting.results import collect, read_result
from e2mc.reporting.training import read_logs, training_figure
from e2mc.state import write_text
from e2mc.study import load_study

with logged(snakemake.log[0]):
    study = load_study(snakemake.params.study)
    records = [read_result(Path(path)) for path in snakemake.input.measurements]
    results = collect([Path(path) for path in snakemake.input.results])
    logs = read_logs({run: study.log_path(run) for run in study.continued_runs()})
    costs = cost_per_row(study, study.main_tables, results, logs)
    write_text(costs.to_csv(index=False, float_format="%.2f"), Path(snakemake.output.costs))
    figures = {
        "embeddings": embedding_figure(study, records),
        "spectrum": spectrum_figure(study, records),
        "cost": cost_figure(study, costs),
        **{f"training_{base}": training_figure(study, base, logs) for base in set(logs["base"])},
    }
    for path in snakemake.output.png:
        save_figure(figures[Path(path).stem], Path(path).with_suffix(""))
