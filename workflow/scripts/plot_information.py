from pathlib import Path

from e2mc.launching import logged
from e2mc.reporting.figures import save_figure
from e2mc.reporting.information import information_figure, read_curves
from e2mc.study import load_study

with logged(snakemake.log[0]):
    study = load_study(snakemake.params.study)
    figure = information_figure(study, read_curves(study))
    save_figure(figure, Path(snakemake.output.pdf).with_suffix(""))
