"""`e2mc`: every step of the workflow by hand, with the same functions."""

from e2mc.cli.main import main, make_parser

__all__ = ["main", "make_parser"]
