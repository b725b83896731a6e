"""What MkDocs does not do by itself: pages from outside of docs/, pages made from the code.

The pages are plain Markdown whose links are those of a repository host, relative to the file. Here
README.md and its like become pages too, links to files of the repository lead to a page that shows
them, and each criterion and each package gets a page.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs"
# files outside of docs/ that are pages, and where they are
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
}
# whose __all__ are the public names
PACKAGES = {
    "e2mc": "The criteria and what they are made of, as a training loop needs them.",
    "e2mc.criteria": "Criteria by name, and what each of them is.",
    "e2mc.methods": "Base methods: a loss, and the embeddings that a criterion sees.",
    "e2mc.models": "Backbones.",
    "e2mc.evaluation": "Paradigms: how a checkpoint is scored.",
    "e2mc.study": "The study as a Python object, as the workflow reads it.",
}
LANGUAGES = {".smk": "python", ".py": "python", ".yaml": "yaml", ".toml": "toml", ".csv": "text"}
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^ *```.*?^ *```[ \t]*$", re.DOTALL | re.MULTILINE)
log = logging.getLogger("mkdocs.hooks.e2mc")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not files of docs/, and lists them in the navigation."""
    for name, place in OUTSIDE.items():
        files.append(_made(config, place, (ROOT / name).read_text(encoding="utf-8")))
    for place, text in (*criterion_pages(), *reference_pages()):
        files.append(_made(config, place, text))
    for path in sorted(linked_files(files)):
        text = (ROOT / path).read_text(encoding="utf-8")
        language = LANGUAGES.get(Path(path).suffix, "text")
        shown = f"# {path}\n\n````{language}\n{text.rstrip()}\n````\n"
        files.append(_made(config, f"files/{path}.md", shown))
    there = [file.src_uri for file in files.documentation_pages()]
    config["nav"] = [_expanded(entry, there) for entry in config["nav"]]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to where the site has their files, and indents lists as Python-Markdown wants."""
    source = source_of(page.file.src_uri)
    if source is None:
        return markdown

    def led(found: re.Match[str]) -> str:
        target = target_of(source, found[2])
        place = None if target is None else _place_of(target, files)
        if place is None:
            return found[0]
        relative = posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")
        return f"{found[1]}{relative}{found[3] or ''}{found[4]}"

    return outside_of_fences(indented(markdown), lambda text: LINK.sub(led, text))


def on_pre_build(config: MkDocsConfig) -> None:
    """Warns of every public name without a docstring, which a strict build does not survive."""
    for name in undocumented():
        log.warning("%s is public and has no docstring", name)


def undocumented() -> list[str]:
    """Public names without a docstring: of packages, and methods and properties of their classes.

    A method that a documented one of a parent class describes has its docstring from there.
    """
    found = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            item = getattr(module, name)
            if not (inspect.isclass(item) or inspect.isfunction(item)):
                continue  # a constant, whose value is shown
            if not item.__doc__:
                found.append(f"{package}.{name}")
            for member, value in vars(item).items() if inspect.isclass(item) else ():
                method = inspect.isfunction(value) or isinstance(value, property)
                if method and member[0] != "_" and not inspect.getdoc(getattr(item, member)):
                    found.append(f"{package}.{name}.{member}")
    return found


def criterion_pages() -> Iterator[tuple[str, str]]:
    """(place, text) of a page per criterion, and of one that lists them."""
    from e2mc.criteria import CRITERIA

    rows = []
    for name, kind in CRITERIA.items():
        title, place = kind.__name__, f"{name}.md"
        first = inspect.getdoc(kind).partition("\n")[0]
        rows.append(f"| [{title}]({place}) | `{name}` | {first} |")
        module = f"{kind.__module__.replace('.', '/')}.py"
        yield (
            f"criteria/{place}",
            f"# {title}\n\nIn Python `from e2mc import {title}`; in a study `criterion: {name}`, "
            f"with the arguments under `params:`. Its file is `{module}`.\n\n"
            f"::: {kind.__module__}.{title}\n    options:\n      show_root_heading: true\n"
            "      heading_level: 2\n",
        )
    table = "\n".join(["| class | in a study | what it asks for |", "|---|---|---|", *rows])
    yield (
        "criteria/index.md",
        "# Criteria\n\nEach is a module that takes one (N, D) embedding per view, not normalised, "
        "and gives a loss to add to your own; all are exact over several processes and compute in "
        f"float32 inside autocast.\n\n{table}\n",
    )


def reference_pages() -> Iterator[tuple[str, str]]:
    """(place, text) of a page per package, of the public names that have no page of their own."""
    from e2mc.criteria import CRITERIA

    criteria = {kind.__name__ for kind in CRITERIA.values()}
    for package, purpose in PACKAGES.items():
        module = importlib.import_module(package)
        parts = [f"# {package}\n\n{purpose}"]
        names = [name for name in module.__all__ if name not in criteria and name[0] != "_"]
        if any(name in criteria for name in module.__all__):
            parts.append("The criteria themselves have [pages of their own](../criteria/index.md).")
        for name in names:
            item = getattr(module, name)
            known = inspect.isclass(item) or inspect.isfunction(item)
            home = item.__module__ if known else package
            parts.append(
                f"::: {home}.{name}\n    options:\n      show_root_heading: true\n"
                "      heading_level: 2"
            )
        yield f"reference/{package}.md", "\n\n".join(parts) + "\n"


def linked_files(files: Files) -> set[str]:
    """Files of the repository, relative to it, to which a page links and which the site lacks."""
    found = set()
    for file in files.documentation_pages():
        source = source_of(file.src_uri)
        if source is None:
            continue
        text = FENCE.sub("", (ROOT / source).read_text(encoding="utf-8"))
        for link in LINK.finditer(text):
            target = target_of(source, link[2])
            if target and _place_of(target, files) is None and (ROOT / target).is_file():
                found.add(target)
    return found


def source_of(place: str) -> str | None:
    """The file of the repository that is the source of a page, None when it is made here."""
    for name, where in OUTSIDE.items():
        if where == place:
            return name
    return f"{DOCS}/{place}" if (ROOT / DOCS / place).is_file() else None


def target_of(source: str, link: str) -> str | None:
    """The file that a relative link of a file leads to, both relative to the repository."""
    if re.match(r"[a-z]+:", link):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _place_of(target: str, files: Files) -> str | None:
    """Where the site has a file of the repository."""
    candidates = [OUTSIDE.get(target, ""), f"files/{target}.md"]
    if target.startswith(f"{DOCS}/"):
        inside = target.removeprefix(f"{DOCS}/")
        candidates += [inside, f"{inside}/README.md"]
    return next((place for place in candidates if place and files.get_file_from_path(place)), None)


def outside_of_fences(text: str, change: Any) -> str:
    """The text with everything changed that is no fenced code."""
    parts, last = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, change(text[last:])])


def indented(text: str) -> str:
    """Items of lists go on four columns in, where GitHub wants two or three."""
    lines, width = [], 0
    for line in text.splitlines():
        item = re.match(r"(\d+\. |[*-] )\S", line)
        if item:
            width = len(item[1])
        elif line.strip() and not line.startswith(" " * width):
            width = 0
        lines.append(" " * (4 - width) + line if width and line.strip() and not item else line)
    return "\n".join(lines) + "\n"


def _made(config: MkDocsConfig, place: str, text: str) -> File:
    return File.generated(config, place, content=text)


def _expanded(entry: Any, there: list[str]) -> Any:
    """An entry of the navigation in which `folder/*` stands for the pages of a folder."""
    if isinstance(entry, dict):
        return {title: _expanded(below, there) for title, below in entry.items()}
    if not isinstance(entry, list):
        return entry
    pages: list[Any] = []
    for item in entry:
        if isinstance(item, str) and item.endswith("/*"):
            inside = [page for page in there if posixpath.dirname(page) == item[:-2]]
            pages += sorted(
                inside, key=lambda page: (Path(page).stem not in ("index", "README"), page)
            )
        else:
            pages.append(_expanded(item, there))
    return pages
