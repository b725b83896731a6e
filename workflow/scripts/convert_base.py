from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.steps import convert_base
from e2mc.study import load_study

with logged(snakemake.log[0]):
    convert_base(
        load_study(snakemake.params.study),
        snakemake.wildcards.base,
        Path(snakemake.input[0]),
        Path(snakemake.output[0]),
    )
