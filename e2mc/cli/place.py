"""Whether the workflow can run in a folder. The Makefile asks before there is any package.

Snakemake hands the path of Python to a shell without quotes and takes braces for wildcards, and an
environment cannot lie below a colon.
"""

import os
import re
import sys

UNUSABLE = re.compile(r"""[\s'"`$&;|<>()*?\[\]\\{}:]""")


def unusable(path: str) -> str:
    """A sentence that names the character of a path that stands in the way; "" if none does."""
    found = UNUSABLE.search(path)
    if found is None:
        return ""
    name = "a space" if found.group() == " " else repr(found.group())
    return f"there is {name} in the path {path!r}, which Snakemake cannot take: move the folder"


if __name__ == "__main__":
    problem = unusable(os.getcwd())
    sys.exit(f"error: {problem}" if problem else 0)
