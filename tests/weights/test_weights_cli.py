"""``guidelens weights`` as a user sees it: output, exit codes, one line per error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from file_server import CONTENT, World
from guidelens.cli import cmd_weights
from guidelens.cli.main import cli

PLUGIN = """
from guidelens import hookimpl
from guidelens.weights import WeightsFile

@hookimpl
def register_weights(register):
    register(WeightsFile("net", "net.pt", {url!r}, size={size}, sha256={sha256!r}, licence="MIT", component="a test"))
    register(WeightsFile("bare", "bare.pt", {url!r}))
"""


@pytest.fixture
def plugin(world: World, tmp_path: Path) -> Path:
    path = tmp_path / "acme.py"
    path.write_text(PLUGIN.format(url=world.file.url, size=len(CONTENT), sha256=world.behaviour.sha256))
    return path


@pytest.fixture
def run(plugin: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GUIDELENS_PLUGINS", raising=False)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["-p", str(plugin), "weights", *arguments])

    return run


def test_list(run, world: World) -> None:
    before = {entry["name"]: entry for entry in json.loads(run("list", "--json").stdout)}
    assert before["net"]["state"] == "absent"
    assert before["net"]["plugin"] == "acme"
    assert before["net"]["path"] == str(world.path)
    assert before["bare"]["size"] is None
    assert "blip-base" in before
    run("fetch", "net", "bare")
    after = {entry["name"]: entry for entry in json.loads(run("list", "--json").stdout)}
    assert (after["net"]["state"], after["net"]["sha256"]) == ("present", world.behaviour.sha256)
    assert after["bare"]["recorded_sha256"] == world.behaviour.sha256
    assert after["bare"]["size"] == len(CONTENT)
    table = run("list").stdout.splitlines()
    assert table[0].split() == ["name", "size", "state", "licence", "component"]
    (row,) = [line for line in table if line.startswith("net ")]
    assert row.split() == ["net", "700", "kB", "present", "MIT", "a", "test"]
    (row,) = [line for line in table if line.startswith("imagenet256-uncond ")]
    assert "2.21 GB" in row
    assert "absent" in row


def test_list_tells_what_there_is_of_an_unfinished_download(run, cache: Path) -> None:
    part = cache / "weights" / "bare" / "bare.pt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:300_000])
    (row,) = [line for line in run("list").stdout.splitlines() if line.startswith("bare ")]
    assert row.split()[:5] == ["bare", "?", "unfinished,", "300", "kB"]


def test_fetch_prints_the_path_and_how_far_to_trust_it(run, world: World, cache: Path) -> None:
    result = run("fetch", "net", "bare")
    assert result.exit_code == 0
    assert result.stdout.split() == [str(world.path), str(cache / "weights" / "bare" / "bare.pt")]
    assert "net was downloaded, 700 kB, verified" in result.stderr
    told = f"hash; the hash recorded at first download is {world.behaviour.sha256}"
    assert told in " ".join(result.stderr.split())
    assert run("path", "net").stdout.strip() == str(world.path)
    assert "is already present" in run("fetch", "net").stderr


def test_fetch_from_a_file(run, world: World, tmp_path: Path) -> None:
    by_hand = tmp_path / "hand.pt"
    by_hand.write_bytes(CONTENT)
    assert run("fetch", "net", "--from", str(by_hand)).exit_code == 0
    assert world.path.read_bytes() == CONTENT
    assert world.behaviour.seen == []
    for wrong in (("net", "bare", "--from", "x"), ("net", "--from", "x", "--mirror", "http://a")):
        assert run("fetch", *wrong).exit_code == 2


def test_errors_take_one_line(run, world: World) -> None:
    world.behaviour.statuses = [404]
    result = run("fetch", "net")
    assert result.exit_code == 1
    announced, line = result.stderr.splitlines()
    assert "licence" in announced
    assert line.startswith("error: cannot fetch net: ")
    assert "answered 404" in line
    result = run("fetch", "nett")
    assert result.exit_code == 2
    assert "unknown weights 'nett'" in result.stderr
    assert "did you mean 'net'" in result.stderr
    result = run("path", "net")
    assert result.exit_code == 1
    assert "run `guidelens weights fetch net`" in result.stderr


def test_verify(run, world: World) -> None:
    assert run("verify").stdout == "no weights files are present\n"
    assert run("verify", "net").exit_code == 1
    run("fetch", "net", "bare")
    result = run("verify")
    assert result.exit_code == 0
    assert "net: right, as published" in result.stdout
    assert "bare: right, unchanged; not verified against a published hash" in result.stdout
    stat = world.path.stat()
    world.path.write_bytes(CONTENT[:-1] + b"?")
    os.utime(
        world.path, ns=(stat.st_atime_ns, stat.st_mtime_ns)
    )  # size and time as they were: only reading tells
    result = run("verify")
    assert result.exit_code == 1
    assert "net: wrong: " in result.stdout
    assert "bare: right" in result.stdout
    assert result.stderr.strip() == "error: hash mismatch in 1 file: net"


def test_rm(run, world: World) -> None:
    run("fetch", "net")
    assert run("rm", "net").stdout.strip() == "net: 700 kB freed"
    assert run("rm", "net").stdout.strip() == "net: was not present"
    assert not world.path.exists()
    assert run("rm").exit_code == 2


def test_path_of_all(run, cache: Path) -> None:
    assert run("path").stdout.strip() == str(cache / "weights")


def test_convert(run, tmp_path: Path) -> None:
    shared = torch.ones(2)
    torch.save({"a": shared, "b": shared, "c": torch.ones(3)}, tmp_path / "in.pt")
    out = tmp_path / "out.safetensors"
    result = run("convert", str(tmp_path / "in.pt"), str(out))
    assert result.exit_code == 0, result.output
    assert "2 tensors of float32: a, c" in result.stdout
    assert "shared tensor, stored once: b is a" in result.stdout
    assert "sha256" in result.stdout
    assert run("convert", str(tmp_path / "in.pt"), str(out)).exit_code == 2
    again = run("convert", str(tmp_path / "in.pt"), str(out), "--force", "--json")
    assert json.loads(again.stdout)["shared"] == {"b": "a"}


def test_progress_is_plain_lines_off_a_terminal(run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cmd_weights, "SECONDS_BETWEEN_LINES", 0.0)
    lines = run("fetch", "net").stderr.splitlines()
    assert "net.pt: 700 kB of 700 kB (100 %)" in lines
    assert len([line for line in lines if "kB of" in line]) >= 2


@pytest.mark.parametrize("command", ["compare", "generate"])
def test_a_stranger_is_told_what_to_do_next(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guidelens_blip.plugin.published_vocabulary", lambda: None)
    models = ("--generator", "guided-diffusion", "--guidance", "blip", "--schedule", "shift")
    out = str(tmp_path / ("x.png" if command == "generate" else "out"))
    result = CliRunner().invoke(cli, [command, "a photo of a dog", *models, "--out", out])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: guided-diffusion needs 256x256_diffusion_uncond.pt (2.21 GB); blip needs ")
    assert "run `guidelens weights fetch imagenet256-uncond blip-base bert-base-uncased-vocab`" in line
    assert not Path(out).exists()
