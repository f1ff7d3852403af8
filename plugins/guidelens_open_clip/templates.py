"""Text templates: a prompt written into several sentences, whose features are averaged."""

from __future__ import annotations

from pathlib import Path

from guidelens.errors import GuidelensError, UsageError

from .open_clip_import import import_open_clip

PLACE = "{}"
"""Where the prompt goes in a template."""

NAMED = {"imagenet": "OPENAI_IMAGENET_TEMPLATES", "simple": "SIMPLE_IMAGENET_TEMPLATES"}
"""The sets that open_clip brings along, and what it calls them: 80 and 7 templates."""


def read_templates(name: str) -> tuple[str, ...]:
    """Return the templates called ``name``, each with :data:`PLACE` where the prompt goes.

    :param name: ``none``; one of :data:`NAMED`; or a text file with a template per line (empty lines, and lines
        that start with ``#``, are skipped).
    :raises UsageError: no such set or file.
    :raises GuidelensError: the file is unreadable, empty, or has a line without ``{}``.
    """
    if name in ("", "none"):
        return ()
    if name in NAMED:
        return tuple(template(PLACE) for template in getattr(import_open_clip(), NAMED[name]))
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"templates {name!r} is neither none, {', '.join(NAMED)} nor a file")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise GuidelensError(f"cannot read the templates {path}: {error}") from error
    templates = tuple(line for line in lines if line and not line.startswith("#"))
    if not templates:
        raise GuidelensError(f"{path} holds no template; write one per line, {PLACE} where the prompt goes")
    for template in templates:
        check_template(template, str(path))
    return templates


def check_template(template: str, source: str) -> None:
    """:raises GuidelensError: if ``template`` has no place for the prompt."""
    if PLACE not in template:
        raise GuidelensError(f"{source}: the template {template!r} has no {PLACE} for the prompt")


def fill(template: str, prompt: str) -> str:
    """Write ``prompt`` into ``template``."""
    return template.replace(PLACE, prompt)
