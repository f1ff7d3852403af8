"""Inputs without bounds, in flags, study files and paths: one line each, at once, and nothing is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny_world
from click.testing import CliRunner, Result
from guidelens.cli.main import cli

DIGITS = "9" * 5000
MODELS = (
    "--generator", "tiny", "--guidance", "tiny-vl", "--schedule", "turn", "--device", "cpu", "--metric", "brightness",
)  # fmt: skip
STUDY = """
name = "t"
generator = "tiny"
guidance = "tiny-vl"
schedules = ["turn"]
metrics = ["brightness"]
prompts = ["a red circle"]
seeds = 1
device = "cpu"
steps = 2
"""

FLAGS: dict[str, tuple[Sequence[str], str]] = {
    "steps": (["--steps", DIGITS], "must be a number from 1 on"),
    "steps by stride": (["--steps", f"ddim{DIGITS}"], "must be a number from 1 on"),
    "scale": (["--scale", DIGITS], "must be a finite number, got '999"),
    "seeds": (["--seeds", DIGITS], "the number of seeds must be from 1 to 100000"),
    "one seed": (["--seeds", f"{DIGITS}-{DIGITS}"], "seed"),
    "batch size": (["--batch-size", DIGITS], "is neither a number from 1 on nor auto"),
    "batch size in other digits": (["--batch-size", "\u0663"], "is neither a number"),
    "every": (["--every", DIGITS], "must be a whole number, at least 1"),
    "recurrence": (["--recurrence", "1e9"], "must be a whole number, at least 1"),
    "objective scale": (["--objective-scale", f"itc={DIGITS}"], "objective_scales must be finite numbers"),
    "edits": (["--perturb", "typo:edits=1000000000"], "option 'edits': expected a number from 1 to 100, not 1000"),
    "edits with an exponent": (["--perturb", "typo:edits=1e9"], "option 'edits': expected int, not '1e9'"),
    "edits of many digits": (["--perturb", f"typo:edits={DIGITS}"], "option 'edits': expected int"),
    "long prompt": (["a " * 60_000], "has 120,000 characters; at most 10,000 are read"),
    "endless prompts": (["--prompts", "file:path=/dev/zero"], "it is longer than 64 MiB"),
    "long directory": (["--out", "x" * 300], "File name too long"),
    "long path": (["--out", "x/" * 3000], "File name too long"),
    "device for a directory": (["--out", "/dev/full"], "/dev/full is a file; --out must name a directory"),
}  # fmt: skip

FILES: dict[str, tuple[str, str]] = {
    "snapshots with an exponent": ("snapshots = 1e9", "line 11: snapshots: expected a whole number from 0 on"),
    "snapshots": ("snapshots = 1000000000", "line 11: snapshots: at most 1000 snapshots are kept"),
    "snapshots of many digits": (f"snapshots = {DIGITS}", "s.toml: "),
    "edits": ('perturbations = ["typo:edits=1000000000"]', "line 11: perturbation 'typo', option 'edits'"),
    "scales": ("scales = [1e400]", "line 11: scales: must be a finite number, got inf"),
    "not a number": ("scales = [nan]", "line 11: scales: must be a finite number, got nan"),
    "nested arrays": (f"x = {'[' * 3000}1{']' * 3000}", "nested too deeply"),
    "nested tables": (f"x = {'{b = ' * 3000}1{'}' * 3000}", "nested too deeply"),
    "a batch of nothing": ("batch_size = 0", "line 11: batch_size: expected a whole number from 1 on"),
    "zeros": ("\0", "it is not text: a zero at position"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def guidelens(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-p", tiny_world.__file__, *arguments])


def error_of(result: Result) -> str:
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (1, 2), result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert len(line) < 2100
    return line


@pytest.mark.parametrize("name", FLAGS)
def test_flags(name: str) -> None:
    words, expected = FLAGS[name]
    prompt = [] if any(word in ("--prompts",) for word in words) or " " in words[0] else ["a red circle"]
    result = guidelens("compare", *prompt, *MODELS, *(() if "--steps" in words else ("--steps", "2")),
                       *(() if "--out" in words else ("--out", "out")), *words)  # fmt: skip
    assert expected in error_of(result)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", FILES)
def test_study_files(name: str) -> None:
    line, expected = FILES[name]
    Path("s.toml").write_text(f"{STUDY}{line}\n")
    assert expected in error_of(guidelens("study", "run", "s.toml", "--out", "out"))
    assert [path.name for path in Path().iterdir()] == ["s.toml"]


def test_a_study_file_that_is_not_utf8() -> None:
    Path("s.toml").write_bytes(b'name = "x\xff"')
    assert "byte 0xff at position 9 (line 1)" in error_of(guidelens("study", "run", "s.toml"))


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there are such devices on Linux and macOS")
def test_study_files_that_are_devices() -> None:
    Path("zero.toml").symlink_to("/dev/zero")
    assert "it is longer than 64 MiB" in error_of(guidelens("study", "run", "zero.toml"))


def test_unknown_claims_are_warned_of_with_their_line(caplog: pytest.LogCaptureFixture) -> None:
    Path("s.toml").write_text(f'{STUDY}[[grid]]\nname = "g"\nclaims = ["F99"]\n')
    assert guidelens("study", "run", "s.toml", "--out", "out").exit_code == 0
    assert "s.toml, line 13: no plugin registers the claim 'F99'" in caplog.text


def test_a_report_in_a_directory_that_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing raises what it raises there; root, who runs the tests of CI, may write anywhere."""

    def refused(path: Path, content: bytes) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    Path("s.toml").write_text(STUDY)
    assert guidelens("study", "run", "s.toml", "--out", "out").exit_code == 0
    monkeypatch.setattr("guidelens.files.atomic_write", refused)
    assert "report.html: Permission denied" in error_of(guidelens("study", "report", "out"))


def test_a_report_that_cannot_be_written() -> None:
    Path("s.toml").write_text(STUDY)
    assert guidelens("study", "run", "s.toml", "--out", "out").exit_code == 0
    for name in ("report.html", "cells.csv"):
        Path("out", name).unlink(missing_ok=True)
        Path("out", name).mkdir()
    assert "report.html: Is a directory" in error_of(guidelens("study", "report", "out"))
    assert "cells.csv: Is a directory" in error_of(guidelens("study", "export", "out"))
    assert "cannot write" in error_of(guidelens("study", "export", "out", "--out", "/dev/null/x"))
