"""Write into docs/tutorial.md what its commands print: ``python docs/site/tutorial.py``.

A block of the page that is followed by ``<!-- output -->`` is run in an empty folder, in the order of the page.
tests/test_tutorial.py runs them too, with fewer steps, and compares all but the numbers.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "tutorial.md"
STUDY = "binding.toml"
"""The name under which the page saves its study file."""

BLOCK = re.compile(
    r"```(?P<language>\w*)\n(?P<code>[^`]*)```\n"
    r"(?P<output>\n(?:[^`]*\n)?<!-- output -->\n\n```text\n(?P<printed>[^`]*)```\n)?"
)
"""A block of the page, and what it prints. A sentence may stand in between."""


def replay(text: str, run: Callable[[str, str], str], save: Callable[[str], None]) -> str:
    """Return the page with the outputs of a run in place of its own.

    :param run: takes the language and the code of a block, and returns what it prints.
    :param save: takes the study file.
    """

    def replaced(match: re.Match[str]) -> str:
        if match["language"] == "toml":
            save(match["code"])
        if match["output"] is None:
            return match[0]
        printed = run(match["language"], match["code"]).rstrip()
        lines = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        return match[0].removesuffix(f"{match['printed']}```\n") + lines + "```\n"

    return BLOCK.sub(replaced, text)


def commands(code: str) -> list[list[str]]:
    """Return the arguments of each command of a block, without the program."""
    return [shlex.split(line)[1:] for line in code.replace("\\\n", " ").splitlines()]


def main() -> None:
    """Run the page's commands as they stand, and update the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = str(Path(sys.executable).with_name("guidelens"))

        def run(language: str, code: str) -> str:
            words = (
                [[sys.executable, "-c", code]]
                if language
                else [[program, *arguments] for arguments in commands(code)]
            )
            return "".join(
                subprocess.run(each, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
                for each in words
            )

        def save(study: str) -> None:
            (folder / STUDY).write_text(study, encoding="utf-8")

        PAGE.write_text(replay(PAGE.read_text(encoding="utf-8"), run, save), encoding="utf-8")


if __name__ == "__main__":
    main()
