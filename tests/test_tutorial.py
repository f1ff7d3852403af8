"""docs/tutorial.md shows what its commands print, all but the numbers, and a picture or an output at each step."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from guidelens.cli.main import cli

SITE = Path(__file__).parents[1] / "docs" / "site"
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def tutorial() -> ModuleType:
    sys.path.insert(0, str(SITE))
    try:
        import tutorial
    finally:
        sys.path.remove(str(SITE))
    return tutorial


def masked(page: str) -> list[str]:
    """A page without what differs between machines: numbers, intervals, units of time and memory, widths of columns."""
    page = re.sub(r" \[[\d., -]+\]| n=\d+", "", page)
    page = re.sub(r"^time: .*? for ", "time: T for ", page, flags=re.MULTILINE)
    page = re.sub(r"\b[KMG]iB\b", "B", page)
    return [" ".join(line.split()) for line in NUMBER.sub("N", page).splitlines()]


@pytest.mark.slow
def test_the_outputs_are_those_of_the_commands(
    tutorial: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the page with fewer steps."""
    monkeypatch.chdir(tmp_path)

    def run(language: str, code: str) -> str:
        printed = StringIO()
        if language:
            with redirect_stdout(printed):
                exec(compile(code, "tutorial.md", "exec"), {"__name__": "tutorial"})
            return printed.getvalue()
        for words in tutorial.commands(code):
            quick = ["--steps", "2"] if words[0] in ("generate", "compare") else []
            done = CliRunner().invoke(cli, [*words, *quick], catch_exceptions=False)
            assert done.exit_code == 0, done.output
            printed.write(done.stdout)
        return printed.getvalue()

    def save(study: str) -> None:
        Path(tutorial.STUDY).write_text(study.replace("steps = 25", "steps = 2"), encoding="utf-8")

    page = tutorial.PAGE.read_text(encoding="utf-8")
    replayed = tutorial.replay(page, run, save)
    assert page.count("<!-- output -->") == 5
    assert masked(replayed) == masked(page)


def test_an_output_that_drifts_is_seen(tutorial: ModuleType) -> None:
    page = "```\nguidelens a\n```\n\nIt prints:\n\n<!-- output -->\n\n```text\nscore: 0.5\n```\n"
    saved: list[str] = []
    same = tutorial.replay(page, lambda language, code: "score: 0.7\n", saved.append)
    other = tutorial.replay(page, lambda language, code: "scores: 0.5\n", saved.append)
    assert masked(same) == masked(page)
    assert masked(other) != masked(page)
    assert not saved


def test_each_step_has_a_picture_or_an_output(tutorial: ModuleType) -> None:
    page = tutorial.PAGE.read_text(encoding="utf-8")
    sections = page.split("\n## ")[1:]
    assert sections.pop().startswith("Next steps")
    assert [s.partition("\n")[0] for s in sections if "<!-- output -->" not in s and "![" not in s] == []
