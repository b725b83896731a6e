from __future__ import annotations

import numpy as np

from e2mc.reporting.spectrum import spectrum_figure


def test_spectrum_shows_embeddings_and_features(study, measured):
    curves, ranks = spectrum_figure(study, measured).axes
    assert len(curves.lines) == 3
    filled = [line for line in ranks.lines if 10.0 in np.atleast_1d(line.get_xdata())]
    features = [line for line in ranks.lines if 5.0 in np.atleast_1d(line.get_xdata())]
    assert len(filled) == len(features) == 3
