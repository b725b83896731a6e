from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.figures import gain_figure, save_figure
from e2mc.reporting.results import collect
from e2mc.study import load_study

with logged(snakemake.log[0]):
    results = collect([Path(path) for path in snakemake.input])
    figure = gain_figure(load_study(snakemake.params.study), results, snakemake.params.tables)
    save_figure(figure, Path(snakemake.output.pdf).with_suffix(""))
