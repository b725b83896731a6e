from pathlib import Path

from e2mc.launching import logged, run
from e2mc.steps import train
from e2mc.study import BASE_ARM, Run, load_config, load_study

with logged(snakemake.log[0]):
    config = load_config(snakemake.params.config)
    run(
        train,
        load_study(snakemake.params.study),
        Run.parse(snakemake.wildcards.base, BASE_ARM, snakemake.params.seeds),
        None,
        Path(snakemake.input.images),
        Path(snakemake.output.checkpoint),
        config.device,
        config=config,
        folder=Path(snakemake.output.checkpoint).parent / "slurm",
    )
