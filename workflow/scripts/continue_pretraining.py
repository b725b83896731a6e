from pathlib import Path

from e2mc.console import logged
from e2mc.launching import run
from e2mc.steps import train
from e2mc.study import Run, load_config, load_study

with logged(snakemake.log[0]):
    config = load_config(snakemake.config)
    run(
        train,
        load_study(snakemake.params.study),
        Run.parse(**snakemake.wildcards),
        Path(snakemake.input.checkpoint),
        Path(snakemake.input.images),
        Path(snakemake.output.checkpoint),
        config.device,
        config.loggers,
        outputs=[Path(path) for path in snakemake.output],
        spec=snakemake.params.spec,
        stage="training",
        resources=config.resources("continue_pretraining"),
        distributed=True,
    )
