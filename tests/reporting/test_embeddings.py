from __future__ import annotations

import pytest

from e2mc.reporting.embeddings import embedding_figure


def test_embeddings_have_a_row_of_marginals_per_arm(study, measured):
    figure = embedding_figure(study, measured)
    above, below = figure.subfigs
    assert len(above.axes) == 3 * 2
    assert [axes.get_ylabel() for axes in above.axes[::2]] == ["base", "continued", "+ E2MC"]
    assert [axes.texts[0].get_text() for axes in above.axes[::2]] == ["−0.30", "−0.30", "−0.10"]
    entropies, correlations = below.axes
    curves = [line for line in entropies.lines if len(line.get_xdata()) == 101]
    assert len(curves) == 3 and curves[2].get_ydata()[-1] == pytest.approx(-0.1)
    assert len(correlations.patches) == 3
    with pytest.raises(ValueError, match="no embeddings result of swav_long"):
        embedding_figure(study, [r for r in measured if r["paradigm"] == "separability"])
