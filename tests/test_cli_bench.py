"""``guidelens bench`` on a plugin that is one file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_world
from click.testing import CliRunner, Result
from guidelens.bench import machine
from guidelens.cli.main import cli

Guidelens = Callable[..., Result]


@pytest.fixture
def guidelens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guidelens:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": 64})
    monkeypatch.setattr(machine, "_CHANNELS", 8)
    monkeypatch.setattr(machine, "_PIXELS", 8)

    def run(*arguments: str) -> Result:
        command = ["-p", tiny_world.__file__, "bench", "--device", "cpu", *arguments]
        return CliRunner().invoke(cli, command)

    return run


def test_a_table_for_each_batch_size(guidelens: Guidelens) -> None:
    result = guidelens("--repeats", "2", "--batch-size", "1", "--batch-size", "2", "--threads", "1")
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0] == "generator: tiny (3x8x8)"
    assert lines[1] == "guidance:  tiny-vl (cap, itc)"
    assert "1 threads" in lines[2]
    assert "batch 1: one step" in lines
    assert "batch 2: one step" in lines
    for label in ("guided step", "generator backward", "engine alone", "unguided step"):
        assert sum(line.startswith(label) for line in lines) == 2, label
    assert sum(line.startswith("peak memory") for line in lines) == 2
    assert "batch 2: round 2 of 2" in result.stderr.splitlines()


def test_everything_measured_goes_into_a_file(guidelens: Guidelens) -> None:
    result = guidelens(
        "--repeats", "2", "--objective", "itc", "--against", "reference", "--json", "out/b.json"
    )
    assert result.exit_code == 0, result.output
    content = json.loads(Path("out/b.json").read_text(encoding="utf-8"))
    assert content["format"] == "guidelens-bench-1"
    assert content["names"] == {"generator": "tiny", "guidance": "tiny-vl"}
    assert content["guidance"]["objectives"] == ["itc"]
    (batch,) = content["batches"]
    assert len(batch["guided"]["values"]) == 2
    assert "times as long" in result.stdout
    assert batch["against"]["reference"]["difference"] == 0
    assert "reference: its own network, evaluated twice" in result.stdout
    assert [path.name for path in Path("out").iterdir()] == ["b.json"]


def test_without_a_guidance_model(guidelens: Guidelens) -> None:
    result = guidelens("--guidance", "none", "--repeats", "1")
    assert result.exit_code == 0, result.output
    assert "guidance:  none (pixels)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--against", "faster"), "no alternative 'faster'"),
        (("--objective", "itm"), "'itm'"),
        (("--generator", "tyni"), "unknown generator 'tyni'"),
        (("--batch-size", "0"), "--batch-size"),
        (("--device", "cuda:77"), "cuda:77"),
    ],
)
def test_bad_requests_are_one_line(guidelens: Guidelens, arguments: tuple[str, ...], named: str) -> None:
    result = guidelens("--repeats", "1", *arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_place_that_cannot_be_written_is_told_first(guidelens: Guidelens) -> None:
    Path("file").touch()
    result = guidelens("--json", "file/b.json")
    assert result.exit_code == 1
    assert "cannot write" in result.stderr
    assert "batch" not in result.stdout
