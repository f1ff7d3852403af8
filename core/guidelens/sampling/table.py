"""The table of options in docs/guidance.md. ``python -m guidelens.sampling.table docs/guidance.md`` writes it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from .fields import Option
from .options import options

BEGIN, END = "<!-- options: made from guidelens.sampling -->", "<!-- options: end -->"


def option_table() -> str:
    """Return a Markdown table of every option: flag, field, values, default, meaning, source."""
    lines = ["| flag | field | values | default | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *map(_line, options())])


def with_table(text: str) -> str:
    """Return the text of a page with the table between its marks updated.

    :raises ValueError: for a page without the marks.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the page has no {BEGIN}")
    return pattern.sub(lambda _: f"{BEGIN}\n{option_table()}\n{END}", text)


def _line(known: Option) -> str:
    flag = f"`{known.flag}`" if known.kind is not bool else f"`{known.flag}`, `--no-{known.flag[2:]}`"
    source = f" ({known.source})" if known.source else ""
    values = known.metavar or known.limits
    return (
        f"| {flag} | `{known.name}` | {_cell(values)} | {known.default_text} | {_cell(known.help)}{source} |"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
