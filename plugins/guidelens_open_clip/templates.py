"""Text templates: sentences with a place for the prompt. Their features are averaged."""

from __future__ import annotations

from pathlib import Path

from guidelens.errors import GuidelensError, UsageError

from .open_clip_import import import_open_clip

PLACE = "{}"
"""Where the prompt goes in a template."""

NAMED = {"imagenet": "OPENAI_IMAGENET_TEMPLATES", "simple": "SIMPLE_IMAGENET_TEMPLATES"}
"""Sets that open_clip provides, with its names for them: 80 and 7 templates."""


def read_templates(name: str) -> tuple[str, ...]:
    """Return the templates called ``name``, each with :data:`PLACE` where the prompt goes.

    :param name: ``none``, one of :data:`NAMED`, or a text file with one template per line. Empty lines and lines
        that start with ``#`` are skipped.
    :raises UsageError: there is no such set or file.
    :raises GuidelensError: the file is unreadable, empty, or has a line without ``{}``.
    """
    if name in ("", "none"):
        return ()
    if name in NAMED:
        return tuple(template(PLACE) for template in getattr(import_open_clip(), NAMED[name]))
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"templates must be none, {', '.join(NAMED)} or a file, not {name!r}")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise GuidelensError(f"cannot read the templates {path}: {error}") from error
    templates = tuple(line for line in lines if line and not line.startswith("#"))
    if not templates:
        raise GuidelensError(
            f"{path} has no templates: write one per line, with {PLACE} where the prompt goes"
        )
    for template in templates:
        check_template(template, str(path))
    return templates


def check_template(template: str, source: str) -> None:
    """:raises GuidelensError: ``template`` has no place for the prompt."""
    if PLACE not in template:
        raise GuidelensError(f"{source}: the template {template!r} has no {PLACE} where the prompt goes")


def fill(template: str, prompt: str) -> str:
    """Write ``prompt`` into ``template``."""
    return template.replace(PLACE, prompt)
