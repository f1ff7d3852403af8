"""A try as a command, as Python and as a study: each draws the pictures of the page, under the same keys."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from guidelens import PluginManager, UsageError
from guidelens.cli.main import cli
from guidelens.runs.live import LiveModels
from guidelens.runs.store import read_rows
from guidelens_explore.drawing import draw
from guidelens_explore.tries import Try

WORLD = str(Path(__file__).parents[1] / "tiny_world.py")
CURVE = "curve:cap=1@0/0@0.6,itc=0@0/1@1"

TRIES = {
    "plain": {"prompt": "a red circle", "schedules": ["only-itc", "turn"]},
    "every option": {
        "prompt": '-- a "red" circle, it\'s \\ small\n{x}',
        "schedules": [CURVE, "blend:itc=0.25,cap=1"],
        "seed": 7,
        "steps": 4,
        "scale": 2.5,
        "sampler": "ddim",
        "options": "--eta 0.25 --into sample --no-clip-denoised --objective-scale itc=2 --clip-norm none --every 2",
        "generator": "tiny:fingerprint='a, b'",
        "guidance": "tiny-vl",
    },
}


def rows(directory: Path) -> dict[str, tuple[str, bytes]]:
    """Return the key and the picture of each schedule."""
    found, _ = read_rows(directory / "results.jsonl")
    return {row["schedule"]: (key, (directory / row["image"]).read_bytes()) for key, row in found.items()}


def run(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", TRIES)
def test_all_forms_draw_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plugins = PluginManager.load([WORLD], environment={})
    wanted = Try.read(TRIES[name], tuple(plugins.requests()))
    _, (_, start), *_, (_, last), _ = draw(LiveModels(plugins, device="cpu"), wanted)
    shown = [base64.b64decode(view["picture"].partition(",")[2]) for view in last["views"]]

    words = shlex.split(wanted.command())
    assert words[0] == "guidelens"
    run([words[1], "--device", "cpu", *words[2:]])
    by_command = rows(Path("runs/try"))
    Path("runs/try").rename("command")

    exec(wanted.python().replace("out=", 'device="cpu", out='), {})
    by_python = rows(Path("runs/try"))

    Path("try.toml").write_text(wanted.study(), encoding="utf-8")
    run(["study", "run", "try.toml", "--out", "study", "--device", "cpu"])
    by_study = rows(Path("study"))

    assert by_command == by_python == by_study
    names = ["none", *(column["name"] for column in start["columns"][1:])]
    assert [by_command[name][1] for name in names] == shown


def test_a_try_knows_its_plugins() -> None:
    wanted = Try.read(TRIES["plain"], ("mine.py",))
    assert "-p mine.py" in wanted.command()
    assert 'PluginManager.load(["mine.py"])' in wanted.python()
    assert 'plugins = ["mine.py"]' in wanted.study()
    assert "plugins" not in Try.read(TRIES["plain"]).study()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--etta 1", "further options: No such option"),
        ("--eta 7", "further options: .*eta"),
        ("'", "further options .*No closing quotation"),
        ("loud", "further options: .*unexpected extra argument"),
        ("--augmentations 2", "choose augment"),
    ],
)
def test_wrong_options_are_said(options: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Try.read({**TRIES["plain"], "options": options})


def test_controls_come_before_further_options() -> None:
    wanted = Try.read({**TRIES["plain"], "steps": 4, "options": "--steps 9 --sampler ddim"})
    assert (wanted.sampling.steps, wanted.sampling.sampler) == (4, "ddim")


def test_a_try_is_an_object() -> None:
    with pytest.raises(UsageError, match="is not a JSON object"):
        Try.read(["a red circle"])
