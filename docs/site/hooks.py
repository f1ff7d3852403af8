"""What the site holds besides the pages of docs/: README as its home, model cards, and the reference made from code.

mkdocs calls the functions whose names begin with ``on_``. Pages that are written by hand link to files as they lie in
the repository, so that they can be read there too; here these links are turned to where the site has the page.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from guidelens.colours import COLOURS, FIXED
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import reference

ROOT = Path(__file__).parents[2]

ADOPTED = {
    "index.md": "README.md",
    "models/shapes-generator.md": "plugins/guidelens_worlds/shapes/weights/generator.md",
    "models/shapes-blip.md": "plugins/guidelens_worlds/shapes/weights/blip.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "notebooks/explore.md": "docs/notebooks/explore.ipynb",
    "notebooks/analyse.md": "docs/notebooks/analyse.ipynb",
}
"""Page of the site -> the file, no page of docs/, that it shows."""

OBJECTIVE = re.compile(rf"<code>({'|'.join(FIXED)})</code>")
EMPTY_HEADER = re.compile(r"<th((?: [^>]*)?)></th>")
"""A corner of a table. As a header, it would be an empty name of its column to a screen reader."""
UNNAMED_DIALOG = 'data-md-component="search" role="dialog"'
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages that are not files of docs/."""
    for page, source in ADOPTED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        content = _notebook(text, source) if source.endswith(".ipynb") else text
        files.append(File.generated(config, page, content=content))
    for page, text in reference.pages().items():
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "theme/colours.css", content=_colours()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links between files of the repository into links between pages; to what has no page, into plain text."""
    here = page.file.src_uri
    source = ADOPTED.get(here, f"docs/{here}")
    if here == "index.md":
        page.meta["hide"] = ["navigation", "toc"]
    if here.startswith("reference/api/"):
        page.meta["search"] = {"boost": 0.5}  # pages written by hand come first
    return re.sub(LINK, lambda match: _turned(match, here, source), markdown)


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Give objectives and schedules their colours; mark the front page for the style sheet."""
    html = EMPTY_HEADER.sub(r"<td\1></td>", html)
    html = OBJECTIVE.sub(lambda match: f'<code class="objective c{FIXED[match[1]]}">{match[1]}</code>', html)
    return f'<div class="home">{html}</div>' if page.is_homepage else html


def on_post_page(output: str, **_: Any) -> str:
    """Name the theme's search dialog for screen readers."""
    return output.replace(UNNAMED_DIALOG, f'{UNNAMED_DIALOG} aria-label="Search"')


def _colours() -> str:
    """Return the colours of objectives as CSS, for the light and the dark scheme of the theme."""
    light = " ".join(f"--c{i}: {each.light};" for i, each in enumerate(COLOURS))
    dark = " ".join(f"--c{i}: {each.dark};" for i, each in enumerate(COLOURS))
    text = "\n".join(f".md-typeset code.c{i} {{ color: var(--c{i}); }}" for i in range(len(COLOURS)))
    return f':root {{ {light} }}\n[data-md-color-scheme="slate"] {{ {dark} }}\n{text}\n'


def _notebook(text: str, source: str) -> str:
    """Return a notebook as a page: its text, and its code in blocks."""
    parts = []
    for cell in json.loads(text)["cells"]:
        content = "".join(cell["source"])
        parts.append(content if cell["cell_type"] == "markdown" else f"```python\n{content}\n```")
    return "\n\n".join([parts[0], f"The notebook itself: `{source}`.", *parts[1:]]) + "\n"


def _turned(match: re.Match[str], here: str, source: str) -> str:
    mark, text, target = match.groups()
    path, hash_sign, anchor = target.partition("#")
    if "://" in target or not path:
        return match[0]
    lies = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    shown = {file: page for page, file in ADOPTED.items()}.get(lies)
    if shown is None and lies.startswith("docs/") and not (ROOT / lies).is_dir():
        shown = lies.removeprefix("docs/")
    if shown is None or shown.startswith("examples/"):
        return text if not mark else match[0]
    return f"{mark}[{text}]({posixpath.relpath(shown, posixpath.dirname(here) or '.')}{hash_sign}{anchor})"
