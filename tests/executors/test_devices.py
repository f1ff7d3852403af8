"""A study on several devices of this machine, two processes on the CPU here: all comes out as in one process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from guidelens.cli.main import cli
from guidelens.errors import UsageError
from guidelens.executors import devices, task_queue
from guidelens.executors.devices import all_gpus, devices_executor
from guidelens.plugins import PluginManager
from guidelens.studies.file import parse_study
from guidelens.studies.run import StudyRun, run_study
from toy_study import TOY, TOY_PLUGINS, snapshot

LETHAL = Path(__file__).with_name("lethal_world.py")


@pytest.fixture(autouse=True)
def workers_find_the_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin of the toy study imports another; workers have as many threads as this process."""
    folders = (Path(plugin).parent for plugin in TOY_PLUGINS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))


def run(out: Path, names: list[str] | None, text: str = TOY) -> StudyRun:
    plugins = PluginManager.load([*TOY_PLUGINS, str(LETHAL)], environment={})
    extra = {} if names is None else {"executor": devices_executor(plugins, names)}
    return run_study(parse_study(text, label="s.toml"), out=out, plugins=plugins, **extra)


@pytest.mark.slow
def test_two_devices_give_what_one_process_gives(tmp_path: Path) -> None:
    alone, both = run(tmp_path / "alone", None), run(tmp_path / "both", ["cpu", "cpu"])
    assert (both.computed, both.failed) == (alone.computed, alone.failed) == (16, 8)
    assert snapshot(tmp_path / "both") == snapshot(tmp_path / "alone")


@pytest.mark.slow
def test_a_lost_worker_is_replaced(tmp_path: Path) -> None:
    """The worker that first meets a certain prompt kills itself."""
    fuse = tmp_path / "fuse"
    text = TOY.replace('"brittle"', f'"lethal:fuse={fuse}"').replace("a dot above", "kill above")
    alone = run(tmp_path / "alone", None, text)
    fuse.touch()
    done = run(tmp_path / "both", ["cpu", "cpu"], text)
    assert not fuse.exists(), "no worker was killed"
    assert (done.computed, done.failed) == (alone.computed, alone.failed)
    assert snapshot(tmp_path / "both") == snapshot(tmp_path / "alone")


@pytest.mark.slow
def test_cells_that_cost_too_many_workers_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_queue, "ATTEMPTS", 1)
    fuse = tmp_path / "fuse"
    fuse.touch()
    text = TOY.replace('"brittle"', f'"lethal:fuse={fuse}"').replace("a dot above", "kill above")
    text = text.replace("steps = [3, 4]", "steps = 3").replace('"explode", ', "")
    done = run(tmp_path / "one", ["cpu"], text)
    assert done.failed == 4
    assert done.computed == 4


def test_every_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert all_gpus() == ["cuda:0", "cuda:1", "cuda:2"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="no CUDA device is present"):
        all_gpus()


def test_the_command_line_plans_on_the_first_and_computes_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def executor(plugins: PluginManager, names: list[str]) -> object:
        asked.append(names)
        raise UsageError("far enough")

    monkeypatch.setattr(devices, "all_gpus", lambda: ["cuda:0", "cuda:1"])
    monkeypatch.setattr(devices, "devices_executor", executor)
    file = tmp_path / "toy.toml"
    file.write_text(TOY, encoding="utf-8")
    plugins = [word for plugin in TOY_PLUGINS for word in ("-p", plugin)]
    command = [*plugins, "study", "run", str(file), "--out", str(tmp_path / "out"), "--device", "cuda:all"]
    result = CliRunner().invoke(cli, command)
    assert "far enough" in result.stderr
    assert asked == [["cuda:0", "cuda:1"]]
    result = CliRunner().invoke(cli, [*command, "--executor", "ray"])
    assert result.exit_code == 2
    assert "say --device cuda" in result.stderr
