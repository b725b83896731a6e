from pathlib import Path

from e2mc.launching import logged, run
from e2mc.steps import measure_separability
from e2mc.study import Run, load_config, load_study

with logged(snakemake.log[0]):
    config = load_config(snakemake.params.config)
    run(
        measure_separability,
        load_study(snakemake.params.study),
        Run.parse(**snakemake.wildcards),
        Path(snakemake.input.checkpoint),
        {"images": Path(snakemake.input.images)},
        Path(snakemake.output[0]),
        config.device,
        config=config,
        folder=Path(snakemake.output[0]).parent / "slurm",
    )
