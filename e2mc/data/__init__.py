"""Data sets, label subsets and views."""
