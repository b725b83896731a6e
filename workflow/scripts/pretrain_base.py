from pathlib import Path

from e2mc.console import logged
from e2mc.launching import run
from e2mc.steps import train
from e2mc.study import BASE_ARM, Run, load_config, load_study

with logged(snakemake.log[0]):
    config = load_config(snakemake.config)
    run(
        train,
        load_study(snakemake.params.study),
        Run.parse(snakemake.wildcards.base, BASE_ARM, snakemake.params.seeds),
        None,
        Path(snakemake.input.images),
        Path(snakemake.output.checkpoint),
        config.device,
        config.loggers,
        outputs=[Path(path) for path in snakemake.output],
        spec=snakemake.params.spec,
        stage="training",
        resources=config.resources("pretrain_base"),
        distributed=True,
    )
