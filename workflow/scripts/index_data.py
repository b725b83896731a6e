from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.steps import index_data
from e2mc.study import load_study

with logged(snakemake.log[0]):
    folder = snakemake.params.folder
    index_data(
        load_study(snakemake.params.study),
        snakemake.wildcards.dataset,
        None if folder is None else Path(folder),
        Path(snakemake.params.downloads),
        Path(snakemake.output[0]),
    )
