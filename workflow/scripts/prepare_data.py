from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.steps import prepare_data
from e2mc.study import load_study

with logged(snakemake.log[0]):
    folder = snakemake.params.folder
    prepare_data(
        load_study(snakemake.params.study),
        None if folder is None else Path(folder),
        Path(snakemake.params.downloads),
        {name: Path(path) for name, path in snakemake.output.items()},
    )
