"""Finished runs, damaged in many ways: every command on them ends in one line, and nothing is written outside."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brittle_world
import pytest
import tiny_world
from click.testing import CliRunner, Result
from guidelens.cli.main import cli
from guidelens.plugins import PluginManager
from guidelens.studies.file import parse_study
from guidelens.studies.run import run_study
from study_worlds import TOY_PLUGINS, rows_of

WORLDS = ("-p", tiny_world.__file__, "-p", brittle_world.__file__)
SMALL = """
name = "small"
guidance = "brittle"
schedules = ["only-itc", "turn"]
metrics = ["brightness"]
prompts = ["a red circle"]
seeds = 1
batch_size = 2
device = "cpu"
snapshots = 2
steps = 3
"""
COMPARE = (
    "compare", "a red circle", "--generator", "tiny", "--guidance", "tiny-vl", "--schedule", "turn", "--seeds", "2",
    "--steps", "3", "--metric", "brightness", "--device", "cpu",
)  # fmt: skip

Damage = Callable[[Path], None]


def guidelens(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*WORLDS, *arguments])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "run"
    plugins = PluginManager.load(TOY_PLUGINS, environment={})
    assert run_study(parse_study(SMALL, label="s.toml"), out=out, plugins=plugins).complete
    return out


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "run"
    done = guidelens(*COMPARE, "--out", str(out))
    assert done.exit_code == 0, done.output
    return out


def row(**changes: Any) -> Damage:
    """Change keys of the first row; ``None`` as the only argument of a key removes it."""

    def damage(directory: Path) -> None:
        rows = rows_of(directory)
        rows[0] = {k: v for k, v in {**rows[0], **changes}.items() if v is not REMOVED}
        (directory / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    return damage


def config(*path: str, value: Any) -> Damage:
    """Change one entry of config.json."""

    def damage(directory: Path) -> None:
        whole = json.loads((directory / "config.json").read_text())
        inner = whole
        for name in path[:-1]:
            inner = inner[name]
        if value is REMOVED:
            inner.pop(path[-1], None)
        else:
            inner[path[-1]] = value
        (directory / "config.json").write_text(json.dumps(whole))

    return damage


def first_line(name: str, content: bytes) -> Damage:
    """Replace the first line of a file."""

    def damage(directory: Path) -> None:
        lines = (directory / name).read_bytes().split(b"\n")
        (directory / name).write_bytes(b"\n".join([content, *lines[1:]]))

    return damage


def whole(name: str, content: bytes) -> Damage:
    """Replace a file."""
    return lambda directory: void((directory / name).write_bytes(content))


def void(_: object) -> None:
    """Drop a value."""


def directory_in_place_of(name: str) -> Damage:
    def damage(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return damage


REMOVED = object()
DEEP = b'{"a":' * 3000
LONG = b"9" * 5000

ROWS: dict[str, Damage] = {
    "no scored": row(scored=REMOVED),
    "no settings of sampling": row(sampler=REMOVED),
    "no metrics": row(metrics=REMOVED),
    "no telemetry": row(telemetry=REMOVED),
    "no versions": row(versions=REMOVED),
    "no prompt": row(prompt=REMOVED),
    "no seconds": row(seconds=REMOVED),
    "scored is text": row(scored="brightness"),
    "metrics is a list": row(metrics=[1.0]),
    "metric is text": row(metrics={"bright": "high"}),
    "metric is NaN": row(metrics={"bright": float("nan")}),
    "metric is infinite": row(metrics={"bright": float("inf")}),
    "metric is huge": row(metrics={"bright": 1e300}),
    "seed is text": row(seed="0"),
    "seed is negative": row(seed=-1),
    "seed is huge": row(seed=2**70),
    "seed is a truth value": row(seed=True),
    "steps is broken": row(steps=2.5),
    "losses of lists": row(losses={"itc": [1, 2]}),
    "key leads out": row(key="../../pwned"),
    "picture is a script": row(image="javascript:alert(1)"),
    "picture elsewhere": row(image="../../../etc/passwd"),
    "telemetry elsewhere": row(telemetry="/etc/passwd"),
    "telemetry leads out": row(telemetry="telemetry/../../x.npz"),
    "reference is a number": row(reference=3),
    "threads none": row(threads=0),
    "hash is no hash": row(sha256={"image": "x", "telemetry": "y"}),
    "facts are text": row(facts="x"),
    "fact without a kind": row(facts=[{}]),
    "unknown key": row(__class__="x"),
    "row is a list": first_line("results.jsonl", b"[1, 2]"),
    "row is cut": first_line("results.jsonl", b'{"key": "0000'),
    "row is deep": first_line("results.jsonl", DEEP),
    "row of 5,000 digits": first_line("results.jsonl", b'{"key": ' + LONG + b"}"),
    "row is not UTF-8": first_line("results.jsonl", b'{"key": "\xff\xfe"}'),
    "row is null bytes": first_line("results.jsonl", b"\0" * 40),
    "results are a directory": directory_in_place_of("results.jsonl"),
}

CONFIGS: dict[str, Damage] = {
    "no settings": config("settings", value=REMOVED),
    "settings are a list": config("settings", value=[]),
    "no schedules": config("schedules", value=REMOVED),
    "weights are text": config("schedules", value=[{"name": "turn", "steps": 3, "weights": {"itc": ["a"]}}]),
    "weights of other lengths": config(
        "schedules", value=[{"name": "turn", "steps": 3, "weights": {"itc": [1.0], "cap": [1.0, 2.0]}}]
    ),
    "no metrics": config("metrics", value=REMOVED),
    "columns are text": config("metrics", value=[{"name": "brightness", "columns": ["bright"]}]),
    "no versions": config("versions", value=REMOVED),
    "batch size is text": config("batch_size", value="many"),
    "batch size is nothing": config("batch_size", value=0),
    "batches of numbers": config("batches", value=[[1, 2]]),
    "batches lead out": config("batches", value=[["../../pwned"]]),
    "plugins are a number": config("plugins", value=3),
    "format is text": config("guidelens_format", value="three"),
    "kind is unknown": config("kind", value="opera"),
    "config is cut": whole("config.json", b'{"guidelens_format": 3, "kind": "st'),
    "config is a list": whole("config.json", b"[]"),
    "config is empty": whole("config.json", b""),
    "config is deep": whole("config.json", DEEP),
    "config of 5,000 digits": whole("config.json", b'{"guidelens_format": ' + LONG + b"}"),
    "config is not UTF-8": whole("config.json", b'{"guidelens_format": 3, "x": "\xff"}'),
    "config is a directory": directory_in_place_of("config.json"),
}

STUDY_ONLY: dict[str, Damage] = {
    "no study": config("study", value=REMOVED),
    "study text is a number": config("study", "text", value=3),
    "study text is no study": config("study", "text", value="seeds = ["),
    "overrides are a list": config("study", "overrides", value=["x"]),
    "no grids": config("grids", value=REMOVED),
    "grids are text": config("grids", value=["main"]),
    "snapshots beyond the last step": config("snapshots", value=[7.0]),
}
"""What ``study resume`` writes again is not checked by it."""

MEMBERS: dict[str, Damage] = {
    "no cells": lambda directory: (directory / "cells.jsonl").unlink(),
    "cells are no cells": first_line("cells.jsonl", b"{}"),
    "cells are deep": first_line("cells.jsonl", DEEP),
    "cells are not UTF-8": first_line("cells.jsonl", b"\xff"),
    "cells of another grid": lambda d: replace(d / "cells.jsonl", '"grid": "main"', '"grid": "other"'),
    "cells of other settings": lambda d: replace(d / "cells.jsonl", '"settings": "', '"settings": "0'),
}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def copied(original: Path, tmp_path: Path) -> Path:
    """Return a copy two levels down, so that what leads two levels up can be seen."""
    directory = tmp_path / "outer" / "run"
    shutil.copytree(original, directory)
    return directory


def check(result: Result, codes: tuple[int, ...] = (1, 2)) -> str:
    """Check that a command ended in one line of error, and return it."""
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in codes, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == (1 if result.exit_code else 0), result.stderr
    assert "Traceback" not in result.output
    assert len(result.stderr) < 2000
    return errors[0] if errors else ""


@pytest.mark.parametrize("name", [*ROWS, *CONFIGS, *STUDY_ONLY, *MEMBERS])
def test_commands_on_a_damaged_study(name: str, study: Path, tmp_path: Path) -> None:
    run = copied(study, tmp_path)
    key = rows_of(run)[1]["key"]
    {**ROWS, **CONFIGS, **STUDY_ONLY, **MEMBERS}[name](run)
    before = {path for path in tmp_path.rglob("*") if run not in path.parents}
    codes = (0, 1, 2) if name == "study text is no study" else (1, 2)  # a table needs no study file
    for command in (("study", "report"), ("study", "export"), ("study", "status")):
        check(guidelens(*command, str(run)), codes)
    check(guidelens("redraw", str(run), key))
    check(guidelens("study", "resume", str(run)), (0,) if name in MEMBERS else (1, 2))
    assert {path for path in tmp_path.rglob("*") if run not in path.parents} == before


@pytest.mark.parametrize("name", [*ROWS, *CONFIGS])
def test_commands_on_a_damaged_comparison(name: str, comparison: Path, tmp_path: Path) -> None:
    run = copied(comparison, tmp_path)
    key = rows_of(run)[1]["key"]
    {**ROWS, **CONFIGS}[name](run)
    for command in (("study", "report"), ("study", "export")):
        check(guidelens(*command, str(run)))
    check(guidelens("redraw", str(run), key))
    check(guidelens(*COMPARE, "--out", str(run)))


def test_what_is_not_damaged_is_read(study: Path, comparison: Path, tmp_path: Path) -> None:
    for original in (study, comparison):
        run = copied(original, tmp_path / original.parent.name)
        for command in (("study", "report"), ("study", "export")):
            assert check(guidelens(*command, str(run)), (0,)) == ""
        check(guidelens("redraw", str(run), rows_of(run)[1]["key"]), (0,))
    check(guidelens(*COMPARE, "--out", str(run)), (0,))


def test_errors_name_file_line_key_and_value(study: Path, tmp_path: Path) -> None:
    run = copied(study, tmp_path)
    ROWS["metric is text"](run)
    assert check(guidelens("study", "report", str(run))) == (
        f"error: {run / 'results.jsonl'}, line 1 is not a result row: metrics.bright: expected a valid number, not "
        "'high'; remove the line and run the same command again"
    )
    assert check(guidelens("study", "export", str(run / "elsewhere"))).endswith(
        "holds neither a study nor a comparison"
    )
    config("settings", "x", value={})(run)
    assert "settings.x.generator' is missing; restore the file" in check(
        guidelens("study", "resume", str(run))
    )


def test_flipped_bits_are_noticed_and_computed_again(study: Path, tmp_path: Path) -> None:
    run = copied(study, tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*.[pn][np][gz]")}
    pictures = [path for path in before if path.suffix == ".png"]
    files = [path for path in before if path.suffix == ".npz"]
    assert (len(pictures), len(files)) == (2, 1)
    for n, path in enumerate((*pictures, *files * 20)):
        content = bytearray(before[path])
        content[(37 * n + 50) % len(content)] ^= 1 << n % 8
        path.write_bytes(content)
        warned = guidelens("study", "report", str(run)).stderr
        assert (
            f"1 file missing or damaged, {path.relative_to(run)} first; guidelens study resume {run}"
            in warned
        )
        done = guidelens("study", "resume", str(run))
        assert done.exit_code == 0, done.output
        assert "missing or damaged picture or telemetry; computed again" in " ".join(done.stderr.split())
        assert {path: path.read_bytes() for path in before} == before


def test_rows_of_a_batch_agree_with_the_telemetry_that_replaces_theirs(study: Path, tmp_path: Path) -> None:
    """As after an upgrade that draws other pictures: the neighbour of a lost picture is of the old telemetry."""
    run = copied(study, tmp_path)
    rows, whole = rows_of(run), rows_of(study)
    (run / rows[0]["image"]).unlink()
    telemetry = run / rows[0]["telemetry"]
    telemetry.write_bytes(telemetry.read_bytes() + b"other")
    for each in rows:
        each["sha256"]["telemetry"] = hashlib.sha256(telemetry.read_bytes()).hexdigest()
    (run / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    done = guidelens("study", "resume", str(run))
    assert "(1 drawn, 1 were there)" in done.stdout
    assert [each["sha256"] for each in rows_of(run)] == [each["sha256"] for each in whole]


def test_rows_without_hashes_are_read(study: Path, tmp_path: Path) -> None:
    run = copied(study, tmp_path)
    rows = [{k: v for k, v in each.items() if k != "sha256"} for each in rows_of(run)]
    (run / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    assert guidelens("study", "report", str(run)).exit_code == 0
    assert "(0 drawn, 2 were there)" in guidelens("study", "resume", str(run)).stdout
