"""Pages, messages and docstrings are plain technical English: phrases that need a second reading are rejected.

The test reads all pages, page templates, docstrings and messages. To reject another phrase, add it to ``PHRASES``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PHRASES = {
    r"amiss": "wrong; report problems",
    r"whoever": "name the subject: you, a user, a rater",
    r"mended": "fixed, repaired",
    r"so (?:often|many)(?! (?:that|times as|as))": "N times, N pictures, that number",
    r"(?:is|are|was|were|be|been) told": "reported, printed, warned about",
    r"(?:which|what|it|that|page|line|message|error|command) tells": "reports, prints, says",
    r"tells? (?:of|what)": "report, describe, warn about",
    r"(?:where|as) (?:it|they) (?:lies?|stands?)": "its path; unchanged",
    r"stands? (?:in|at|on|beside|below|behind|there|where|under|before)": "is, is printed, is stored",
    r"lies(?! (?:within|between|outside|lays))": "is, is stored",
    r"(?<!there )(?<!where )is no (?!longer|more |better|larger|worse|way )": "is not a",
    r"(?<!there )(?<!where )are no (?!longer|more |better|larger|worse )": "are not",
    r"and no (?:mapping|list|number|text)": "must be ..., got ...",
    r"knows? of (?:no|none)": "does not know",
    r"again and again": "repeatedly; deterministic",
    r"c[ao]mes? about": "forms, is drawn",
    r"let \w+ memory go back": "restore the default allocator behaviour",
    r"going back in between": "re-noising in between",
    r"a step that recurs": "a repeated step",
    r"made of, and": "show versions, devices and plugins",
    r"computed is the": "options that change how cells are computed, not what is computed",
}
"""Regular expressions, matched as whole words without regard to case, with what to write instead."""

METAPHORS = {"Workshop", "Shelf", "Crew", "Way", "Here"}
"""Names of classes that do not say what the thing is."""


def _matches(text: str) -> Iterator[str]:
    for phrase, instead in PHRASES.items():
        for found in re.finditer(
            rf"\b(?:{phrase})\b" if phrase[-1].isalnum() else rf"\b(?:{phrase})", text, re.I
        ):
            around = text[max(found.start() - 30, 0) : found.end() + 30]
            yield f"...{around}... ({found[0]!r}; instead: {instead})"


def _pages() -> list[Path]:
    docs = [path for path in (ROOT / "docs").rglob("*.md") if "examples" not in path.parts]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(docs)]


def _page_problems(page: Path) -> list[str]:
    """Return the phrases of a page, outside its code blocks and code spans."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return list(_matches(re.sub(r"\s+", " ", re.sub(r"`[^`]*`", "`...`", text))))


def _folders() -> dict[str, list[Path]]:
    """Return the sources by package of core, the modules of ``core/guidelens`` itself, and plugin."""
    folders: dict[str, list[Path]] = {}
    for top in ("core/guidelens", "plugins"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).parts
            folders.setdefault(
                "/".join(parts[: min(len(parts) - 1, 3 if top != "plugins" else 2)]), []
            ).append(path)
    return folders


def _folder_problems(folder: str) -> list[str]:
    """Return the phrases in the string literals, docstrings included, and the metaphors among the classes."""
    problems = []
    for path in _folders()[folder]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = list(_matches(re.sub(r"\s+", " ", node.value)))
            elif isinstance(node, ast.ClassDef) and node.name.lstrip("_") in METAPHORS:
                found = [f"class {node.name}: name it after what it is"]
            else:
                continue
            problems += [f"{path.relative_to(ROOT)}:{node.lineno} {problem}" for problem in found]
    return problems


PAGES = {path.relative_to(ROOT).as_posix(): path for path in _pages()}

TEMPLATES = {
    path.relative_to(ROOT).as_posix(): path
    for top in ("core", "plugins")
    for path in sorted((ROOT / top).rglob("templates/*"))
    if path.suffix in {".css", ".html", ".j2", ".js", ".tmpl"}
}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_pages_are_plain_english(page: str) -> None:
    assert not _page_problems(PAGES[page])


@pytest.mark.parametrize("folder", sorted(_folders()))
def test_messages_and_docstrings_are_plain_english(folder: str) -> None:
    assert not _folder_problems(folder)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_templates_are_plain_english(template: str) -> None:
    assert not list(_matches(re.sub(r"\s+", " ", TEMPLATES[template].read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "text",
    [
        "Let freed memory go back to the system meanwhile, whoever keeps it",
        "A step that recurs is one step: what is told is its last repetition",
        "Below the scores of the picture, read by the parser, stands where it lies.",
        "Take each step so often, going back in between.",
        "Tell what this installation is made of, and what is amiss.",
        "in which batches they are computed, again and again the same",
        "How and where cells are computed; what is computed is the study's.",
        "whoever only looks whether it is holds its lock for a moment",
        "`default_scales` is a list, and no mapping",
    ],
)
def test_the_phrases_to_avoid_are_found(text: str) -> None:
    assert list(_matches(text))


@pytest.mark.parametrize(
    "text",
    [
        "The command prints the scores, then the path of the picture.",
        "There is no GPU. Python 3.10 is no longer supported.",
        "Every score lies within its range.",
        "so many that memory runs out",
    ],
)
def test_plain_sentences_pass(text: str) -> None:
    assert not list(_matches(text))
