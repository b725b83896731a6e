"""An extension of griffe, which reads the docstrings for the site: formulas become MathML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from griffe import Extension, Object

sys.path.insert(0, str(Path(__file__).parent))
from formulas import with_formulas


class Formulas(Extension):
    """Sets the formulas of every docstring."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_formulas(obj.docstring.value)
