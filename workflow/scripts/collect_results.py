from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.results import collect
from e2mc.state import write_text

with logged(snakemake.log[0]):
    results = collect([Path(path) for path in snakemake.input])
    write_text(results.to_csv(index=False), Path(snakemake.output[0]))
