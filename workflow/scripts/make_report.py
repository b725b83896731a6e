from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.report import make_report

with logged(snakemake.log[0]):
    make_report(snakemake.params.study, Path(snakemake.output[0]), snakemake.params.targets)
