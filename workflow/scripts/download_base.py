from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.checkpoints.download import download

with logged(snakemake.log[0]):
    download(
        snakemake.params.url,
        Path(snakemake.output[0]),
        expected_sha256=snakemake.params.sha256,
    )
