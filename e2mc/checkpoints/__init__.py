"""Checkpoint files: our own format, released formats, files of one's own, and their download."""
