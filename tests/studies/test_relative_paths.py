"""Relative paths in components: of the study file's folder; in flags, of the working directory. Both are stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_world
from click.testing import CliRunner, Result
from guidelens.cli.main import cli
from guidelens.plugins import PluginManager
from study_worlds import rows_of

PLUGIN = """
from pathlib import Path
from typing import Annotated

import tiny_world
from guidelens import hookimpl

def guidance(weights: Path | None = None, name: Annotated[str, "path"] = "") -> object:
    '''Read the fingerprint from a file.'''
    source = Path(name) if name.endswith(".txt") else weights
    return tiny_world.TinyGuidance() if source is None else Named(source.read_text())

class Named(tiny_world.TinyGuidance):
    def __init__(self, text):
        super().__init__()
        self.fingerprint = text

@hookimpl
def register_guidance_models(register):
    register("filed", guidance, summary="a model in a file")
"""
STUDY = """
name = "t"
plugins = ["plugin.py"]
generator = "tiny"
guidance = ["filed:weights=w/a.txt", "filed:name=w/b.txt"]
schedules = ["turn"]
metrics = ["brightness"]
prompts = ["a red circle"]
seeds = 1
device = "cpu"
steps = 2
"""
MODELS = (
    "--generator",
    "tiny",
    "--schedule",
    "turn",
    "--device",
    "cpu",
    "--metric",
    "brightness",
    "--steps",
    "2",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "study"
    (folder / "w").mkdir(parents=True)
    for name in ("a", "b"):
        (folder / "w" / f"{name}.txt").write_text(f"model {name}")
    (folder / "plugin.py").write_text(PLUGIN)
    (folder / "s.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return folder


def guidelens(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-p", tiny_world.__file__, *arguments])


def test_paths_of_a_study_are_of_its_folder_and_resume_works_from_anywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = guidelens("study", "run", "study/s.toml", "--out", "out")
    assert done.exit_code == 0, done.output
    rows = rows_of(Path("out"))
    spelled = {f"filed:weights={folder}/w/a.txt", f"filed:name={folder}/w/b.txt"}
    assert {row["guidance"] for row in rows} == spelled
    Path("out/samples", f"{rows[0]['key']}.png").unlink()
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert "(1 drawn, 1 were there)" in guidelens("study", "resume", "../out").stdout
    for row in rows:
        assert guidelens("redraw", "../out", row["key"]).exit_code == 0


def test_paths_of_flags_are_of_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    study = ("study", "run", "s.toml", "--guidance", "filed:name=w/b.txt", "--out", "../flags")
    assert guidelens(*study).exit_code == 0
    spelled = f"filed:name={folder}/w/b.txt"
    assert json.loads(Path("../flags/config.json").read_text())["study"]["overrides"] == {"guidance": spelled}
    compare = ("-p", "plugin.py", "compare", "a red circle", *MODELS, "--guidance", "filed:weights=w/a.txt")
    assert guidelens(*compare, "--seeds", "1", "--out", "../compared").exit_code == 0
    (row,) = rows_of(Path("../compared"))
    assert row["guidance"] == f"filed:weights={folder}/w/a.txt"
    monkeypatch.chdir(folder.parent)
    assert "(0 drawn, 1 were there)" in guidelens("study", "resume", "flags").stdout
    assert guidelens("redraw", "compared", row["key"]).exit_code == 0


def test_names_stay_names(folder: Path) -> None:
    plugins = PluginManager.load([tiny_world.__file__, str(folder / "plugin.py")], environment={})
    assert plugins.resolve("guidance", "filed:name=large", folder).spec == "filed:name=large"
    assert plugins.resolve("guidance", "filed:name=w/b.txt", folder.parent).spec == "filed:name=w/b.txt"
    assert plugins.resolve("prompts", "file:path=-", folder).spec == "file:path=-"
    both = plugins.resolve("guidance", "filed:weights=a,filed:weights=/b", folder)
    assert both.spec == f"filed:weights={folder}/a,filed:weights=/b"


def test_the_options_of_blip_that_may_be_paths(tmp_path: Path) -> None:
    plugins = PluginManager.load(environment={})
    (tmp_path / "model.pth").touch()
    (tmp_path / "base").mkdir()
    spec = plugins.resolve("guidance", "blip:checkpoint=model.pth,config=base", tmp_path).spec
    assert spec == f"blip:checkpoint={tmp_path}/model.pth,config=base"


def test_scales_of_calibrate_are_included_by_a_file_or_by_the_command_and_recorded(folder: Path) -> None:
    calibrate = ("calibrate", "a red circle", "--generator", "tiny", "--guidance", "tiny-vl", "--steps", "2")
    done = guidelens(*calibrate, "--device", "cpu", "--out", "scales")
    assert done.exit_code == 0, done.output
    text = STUDY.replace('guidance = ["filed:weights=w/a.txt", "filed:name=w/b.txt"]', 'guidance = "tiny-vl"')
    Path("plain.toml").write_text(text.replace('plugins = ["plugin.py"]', ""))
    Path("including.toml").write_text(f'include = "scales/scales.toml"{Path("plain.toml").read_text()}')
    assert guidelens("study", "run", "plain.toml", "--out", "plain").exit_code == 0
    assert guidelens("study", "run", "including.toml", "--out", "one").exit_code == 0
    by_command = ("study", "run", "plain.toml", "--include", "scales/scales.toml", "--out", "two")
    assert guidelens(*by_command).exit_code == 0
    plain, one, two = ({row["key"] for row in rows_of(Path(name))} for name in ("plain", "one", "two"))
    assert one == two != plain
    command = json.loads(Path("two/config.json").read_text())["commands"][0]
    assert "--include scales/scales.toml" in command
    Path("scales/scales.toml").unlink()
    for name in ("one", "two"):
        assert "(0 drawn, 1 were there)" in guidelens("study", "resume", name).stdout
