"""What a survey refuses when it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from guidelens.cli.main import cli


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--exclude-faster", "nan"], "exclusion rule seconds nan: give a number from 0 on"),
        (["--exclude-faster", "inf"], "exclusion rule seconds inf"),
        (["--exclude-faster", "-1"], "exclusion rule seconds -1.0"),
        (["--min-answered", "nan"], "exclusion rule answered nan: give a share from 0 to 1"),
        (["--min-consistency", "1.5"], "1.5 is not in the range"),
        (["--question", "shown=What is shown?"], "question 'shown': raters' forms use that name"),
        (["--question", "signature=?"], "question 'signature': raters' forms use that name"),
    ],
)
def test_rules_and_questions_that_make_no_sense(run: Path, words: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["survey", "create", str(run), *words])
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (run / "survey.db").exists()


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_an_empty_consent_is_refused(run: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "consent.txt"
    path.write_text(text)
    done = CliRunner().invoke(cli, ["survey", "create", str(run), "--consent", str(path)])
    assert done.exit_code == 2
    assert "the consent text is empty" in done.stderr
