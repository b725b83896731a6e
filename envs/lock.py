"""Writes the versions and hashes that `make env` installs, see docs/environment.md.

Versions stay as they are where pyproject.toml still allows them; delete requirements.txt first to
have the newest of everything.
"""

import re
import subprocess
import sys
from pathlib import Path

ENVS = Path(__file__).parent
REQUIREMENTS = ENVS / "requirements.txt"  # of the extras workflow, dev and recipes
BUILD = ENVS / "build.txt"  # what builds packages that are published as source alone
CONDA = ENVS / "e2mc.yaml"
FOR_ALL = ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest"]


def main() -> None:
    """Writes the three files."""
    extras = ["--extra", "workflow", "--extra", "dev", "--extra", "recipes"]
    resolve(["pyproject.toml", *extras], REQUIREMENTS)
    versions = locked_versions(REQUIREMENTS.read_text())
    resolve(["-"], BUILD, asked=f"setuptools=={versions['setuptools']}")
    CONDA.write_text(pinned(CONDA.read_text(), versions))


def resolve(inputs: list[str], output: Path, asked: str | None = None) -> None:
    """Has uv write a file of exact versions with the SHA-256 of each of their files."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *inputs, *FOR_ALL]
    command += ["--generate-hashes", "--no-annotate", "--custom-compile-command", "make lock"]
    command += ["--quiet", "--output-file", str(output)]
    subprocess.run(command, input=asked, text=True, check=True, cwd=ENVS.parent)


def locked_versions(text: str) -> dict[str, str]:
    """Normalised name -> version of every package of a locked file."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    return {normalised(name): version for name, version in found}


def normalised(name: str) -> str:
    """The name of a distribution as package indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str, versions: dict[str, str]) -> str:
    """The conda file with the locked version of each package that pip installs."""

    def line(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]} =={versions[normalised(found[2])]}"

    head, pip, packages = text.partition("- pip:\n")
    return head + pip + re.sub(r"^( +- )([\w.-]+).*$", line, packages, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
