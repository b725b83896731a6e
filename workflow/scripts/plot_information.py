from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.figures import save_figure
from e2mc.reporting.information import curve_endpoints, information_figure, read_curves
from e2mc.state import write_text
from e2mc.study import load_study

with logged(snakemake.log[0]):
    study = load_study(snakemake.params.study)
    curves = read_curves(study)
    write_text(curve_endpoints(study, curves), Path(snakemake.output.md))
    save_figure(information_figure(study, curves), Path(snakemake.output.pdf).with_suffix(""))
