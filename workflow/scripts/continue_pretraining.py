from pathlib import Path

from e2mc.cluster import launching
from e2mc.cluster.console import logged
from e2mc.identity import training_code
from e2mc.steps import train
from e2mc.study import Run, load_config, load_study

with logged(snakemake.log[0]):
    config = load_config(snakemake.config)
    study = load_study(snakemake.params.study)
    run = Run.parse(**snakemake.wildcards)
    launching.run(
        train,
        study,
        run,
        Path(snakemake.input.checkpoint),
        Path(snakemake.input.images),
        Path(snakemake.output.checkpoint),
        config.device,
        config.loggers,
        outputs=[Path(path) for path in snakemake.output],
        spec=snakemake.params.spec,
        code=training_code(study, run),
        resources=config.resources("continue_pretraining"),
        distributed=True,
    )
