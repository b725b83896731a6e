from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.results import collect
from e2mc.reporting.tables import build_table
from e2mc.study import load_study

with logged(snakemake.log[0]):
    results = collect([Path(path) for path in snakemake.input])
    table = build_table(load_study(snakemake.params.study), snakemake.wildcards.table, results)
    table.save(Path(snakemake.output.csv).with_suffix(""))
