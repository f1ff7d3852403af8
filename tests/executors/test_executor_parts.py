"""The parts of executors that need no cluster: order, retries, what is shipped, flags."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_world
from click.testing import CliRunner
from guidelens.cli.main import cli
from guidelens.errors import GuidelensError, UsageError
from guidelens.executors import ray as ray_module
from guidelens.executors.ray import RayExecutor, RayOptions, ray_executor
from guidelens.executors.sent_files import FileReceiver, _files
from guidelens.executors.task_queue import ATTEMPTS, TaskQueue, longest_first
from guidelens.executors.worker_setup import (
    PluginRequest,
    WorkerSetup,
    compute_alike,
    make_component_cache,
    make_worker_setup,
)
from guidelens.plugins import PluginManager
from guidelens.plugins.spelling import format_component, parse_component
from guidelens.studies.file import parse_study
from guidelens.studies.run import run_study
from toy_study import TOY, TOY_PLUGINS


def task(name: str, cells: int = 1, steps: int = 1, side: int = 8) -> Any:
    keys = [f"{name}{i}" for i in range(cells)]
    settings = SimpleNamespace(steps=steps, image_shape=(3, side, side))
    return SimpleNamespace(name=name, cells=dict.fromkeys(keys), wanted=frozenset(keys), settings=settings)


def test_longest_first_counts_pictures_steps_and_size_and_is_stable() -> None:
    tasks = [task("a", 2, 10), task("b", 3, 10), task("c", 2, 10), task("d", 1, 10, side=16)]
    assert [t.name for t in longest_first(tasks)] == ["d", "b", "a", "c"]


def test_a_lost_task_comes_before_new_ones_and_fails_in_the_end() -> None:
    drawn: list[str] = []

    def feed() -> Any:
        for name in "ab":
            drawn.append(name)
            yield task(name, 2)

    queue = TaskQueue(feed())
    assert drawn == []  # nothing is drawn before a worker is free: a stopped run owes what was drawn
    first = queue.take()
    for _ in range(ATTEMPTS - 1):
        assert queue.lost(first, "gone") is None
        assert queue.take() is first
    assert drawn == ["a"]
    outcome = queue.lost(first, "gone")
    assert outcome is not None
    assert {k: (f.reason, f.error) for k, f in outcome.failures.items()} == dict.fromkeys(
        ("a0", "a1"), (f"{ATTEMPTS} workers were lost over it, the last so: gone", "WorkerLost")
    )
    second = queue.take()
    assert second is not None
    assert next(iter(second.cells)) == "b0"
    assert queue.take() is None


def test_a_recipe_rebuilds_the_plugins_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.py"
    path.write_text(Path(tiny_world.__file__).read_text())
    setup = make_worker_setup(PluginManager.load([str(path), "no:blip"], environment={}), "cpu")
    assert [r.text for r in setup.requests if r.content] == [str(path)]
    assert "no:blip" in [r.text for r in setup.requests]
    path.unlink()  # as on another machine
    monkeypatch.setenv("GUIDELENS_PLUGINS", "no-such-plugin")  # theirs, not ours
    cache = make_component_cache(setup)
    assert cache.model("generator", "tiny").fingerprint == "tiny-generator-1"
    assert cache.device == "cpu"


def test_a_file_that_differs_there_is_replaced_by_the_one_here(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("raise RuntimeError('the old one')")
    content = Path(tiny_world.__file__).read_bytes()
    import torch
    from guidelens import __version__

    setup = WorkerSetup((PluginRequest(str(path), content),), "cpu", __version__, torch.__version__)
    assert make_component_cache(setup).model("generator", "tiny").image_shape == (3, 8, 8)
    assert path.read_text().startswith("raise")


def test_other_versions_and_objects_are_refused() -> None:
    import torch
    from guidelens import __version__

    with pytest.raises(GuidelensError, match=r"guidelens .* runs with 0\.0\.0"):
        make_component_cache(WorkerSetup((), "cpu", "0.0.0", torch.__version__))
    with pytest.raises(GuidelensError, match=r"PyTorch .* runs with 1\.0"):
        make_component_cache(WorkerSetup((), "cpu", __version__, "1.0"))
    with pytest.raises(UsageError, match="object of this process"):
        make_worker_setup(PluginManager.load([tiny_world], environment={}), "cpu")


def test_another_model_there_is_told_before_anything_is_drawn(tmp_path: Path) -> None:
    """Weights that differ between machines must not end up under a key of other weights."""

    class Strange:
        def __init__(self, cache: Any) -> None:
            self.cache = cache

        def outcomes(self, tasks: Any, report: Any) -> Any:
            for one in tasks:
                self.cache.model("guidance", "brittle").fingerprint = "other-weights"
                yield one, compute_alike(one, self.cache)

    plugins = PluginManager.load(TOY_PLUGINS, environment={})
    with pytest.raises(GuidelensError, match="other-weights"):
        run_study(parse_study(TOY, label="s.toml"), out=tmp_path, plugins=plugins, executor=Strange)


def test_options_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="0 workers"):
        RayOptions(workers=0)
    with pytest.raises(UsageError, match="0 threads per worker"):
        RayOptions(threads=0)
    with pytest.raises(UsageError, match="use cuda"):
        RayExecutor(WorkerSetup((), "cuda:1", "", ""), RayOptions())


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "guidelens\[ray\]"'):
        ray_executor(PluginManager.load([], environment={}))


def test_flags_of_ray_without_ray(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(TOY)
    arguments = [w for plugin in TOY_PLUGINS for w in ("-p", plugin)]
    result = CliRunner().invoke(cli, [*arguments, "study", "run", str(path), "--workers", "2"])
    assert result.exit_code == 2
    assert "--workers is for --executor ray" in result.stderr


def test_nothing_to_do_starts_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_module, "connection", None)  # would raise if it were called
    assert list(RayExecutor(WorkerSetup((), "cpu", "", ""), RayOptions()).outcomes([], print)) == []


def test_room_and_gpus() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert ray_module._room(nodes, 2.0, 0) == 5
    assert ray_module._room(nodes, 2.0, 1) == 2
    assert ray_module._room([], 2.0, 0) == 1
    assert [ray_module._gpus(d, {"GPU": 2.0}) for d in ("auto", "cuda", "cpu")] == [1, 1, 0]
    assert ray_module._gpus("auto", {}) == 0
    with pytest.raises(UsageError, match="no GPU"):
        ray_module._gpus("cuda", {})


def test_components_with_files_are_spelled_anew(tmp_path: Path) -> None:
    weights = tmp_path / "a,b.pt"
    weights.write_bytes(b"numbers")
    receiver = FileReceiver()
    receiver._local = {str(weights): "/cache/a,b.pt"}
    assert receiver.missing([str(weights), str(tmp_path / "c.pt"), str(tmp_path)]) == (
        str(tmp_path / "c.pt"),
        str(tmp_path),
    )
    inner = format_component("blip", [("checkpoint", str(weights)), ("clean", "true")])
    component = format_component("judge", [("model", inner), ("n", "3")])
    assert _files(component) == {str(weights)}
    name, options = parse_component(receiver.spelled(component))
    assert (name, options["n"]) == ("judge", "3")
    assert parse_component(options["model"]) == ("blip", {"checkpoint": "/cache/a,b.pt", "clean": "true"})
    for other in ("blip", "blip:checkpoint=relative.pt", "blip:'", "x:a=b"):
        assert receiver.spelled(other) == other
        assert _files(other) == set()
