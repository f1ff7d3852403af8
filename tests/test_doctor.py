"""``guidelens doctor``: it tells what is there, and comes to an end whatever is broken."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner
from guidelens import __version__
from guidelens.cli.main import cli


def sections(*arguments: str, code: int | None = None) -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(cli, [*arguments, "doctor", "--json"])
    if code is not None:
        assert result.exit_code == code, result.output
    return {section["title"]: section for section in json.loads(result.stdout)}


def lines(section: dict[str, object]) -> dict[str, str]:
    return dict(section["lines"])  # type: ignore[call-overload, no-any-return]


def test_it_tells_versions_devices_plugins_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUIDELENS_CACHE", str(tmp_path))
    found = sections()
    assert lines(found["versions"])["guidelens"].startswith(__version__)
    assert lines(found["versions"])["torch"] == version("torch")
    assert lines(found["plugins"])["shapes"].startswith("ok guidelens")
    assert lines(found["weights"])["cache"] == str(tmp_path / "weights")
    assert lines(found["environment"])["GUIDELENS_CACHE"] == str(tmp_path)


def test_a_broken_plugin_is_a_hint_and_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_broken_doctor.py").write_text("raise RuntimeError('no such luck')\n")
    info = tmp_path / "acme_doctor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-doctor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[guidelens]\nacme = acme_broken_doctor\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = sections(code=1)
    assert any("no such luck" in hint for hint in found["plugins"]["hints"])  # type: ignore[attr-defined]


def test_a_torch_that_does_not_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = sections(code=1)
    assert "does not load" in lines(found["devices"])["torch"]


def test_without_json_it_reads_well() -> None:
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.output.startswith("versions\n  guidelens")
    assert "\nweights\n  cache" in result.output
