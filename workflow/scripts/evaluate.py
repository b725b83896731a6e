from pathlib import Path

from e2mc import steps
from e2mc.cluster import launching
from e2mc.cluster.console import logged
from e2mc.identity import evaluation_code
from e2mc.study import Run, load_config, load_study

with logged(snakemake.log[0]):
    config = load_config(snakemake.config)
    study = load_study(snakemake.params.study)
    run = Run.parse(**snakemake.wildcards)
    launching.run(
        getattr(steps, snakemake.params.step),
        study,
        run,
        Path(snakemake.input.checkpoint),
        {name: Path(path) for name, path in snakemake.input.items() if name != "checkpoint"},
        {name: Path(path) for name, path in snakemake.output.items()},
        config.device,
        outputs=[Path(path) for path in snakemake.output],
        spec=snakemake.params.spec,
        code=evaluation_code(study, run),
        resources=config.resources(snakemake.params.step),
    )
