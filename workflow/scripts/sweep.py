from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.results import collect
from e2mc.reporting.sweep import compare_candidates
from e2mc.state import write_text
from e2mc.study import load_study

with logged(snakemake.log[0]):
    results = collect([Path(path) for path in snakemake.input])
    table = compare_candidates(load_study(snakemake.params.study), results)
    write_text(table.to_csv(index=False, float_format="%.3f"), Path(snakemake.output.csv))
    write_text(table.to_markdown(index=False, floatfmt=".2f") + "\n", Path(snakemake.output.md))
