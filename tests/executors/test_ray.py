"""A study on a Ray cluster of two machines (in name): what is lost or joins changes no result."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import guidelens.executors.ray as ray_module
import pytest
from guidelens.errors import GuidelensError
from guidelens.executors import sent_files, task_queue
from guidelens.executors.ray import RayOptions, ray_executor
from guidelens.plugins import PluginManager
from guidelens.runs.drive import Progress
from guidelens.studies.file import parse_study
from guidelens.studies.run import StudyRun, run_study
from toy_study import TOY, TOY_PLUGINS, snapshot

pytest.importorskip("ray", reason="needs Ray: pip install 'guidelens[ray]'")

pytestmark = pytest.mark.slow

LETHAL = Path(__file__).with_name("lethal_world.py")


VERSIONED = '''"""Version {}."""
from guidelens.hookspecs import hookimpl

@hookimpl
def register_metrics(register):
    pass
'''


WEIGHTY = """
import hashlib
from pathlib import Path

from guidelens.hookspecs import hookimpl
from tiny_world import TinyGenerator


class Weighty(TinyGenerator):
    def __init__(self, weights: Path) -> None:
        super().__init__(hashlib.sha256(weights.read_bytes()).hexdigest())


@hookimpl
def register_generators(register):
    register("weighty", Weighty, summary="has a file")
"""


class Nodes:
    """A cluster of two nodes with one core each, to which tests add others."""

    def __init__(self, cache: Path) -> None:
        from ray.cluster_utils import Cluster

        self.cache = cache
        self.made: Any = Cluster()
        for _ in range(2):
            self.add()
        self.address: str = self.made.address

    def add(self, **options: Any) -> Any:
        return self.made.add_node(
            num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False, **options
        )

    def remove(self, node: Any) -> None:
        self.made.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        folders = (Path(plugin).parent for plugin in TOY_PLUGINS)
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))  # a plugin of theirs imports another
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # loopback
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("GUIDELENS_CACHE", str(cache))
        made = Nodes(cache)
        try:
            yield made
        finally:
            made.made.shutdown()


@pytest.fixture
def cluster(nodes: Nodes) -> str:
    return nodes.address


def run(
    out: Path,
    address: str | None,
    text: str = TOY,
    *,
    workers: int | None = 2,
    more: tuple[str, ...] = (),
    **extra: object,
) -> StudyRun:
    plugins = PluginManager.load([*TOY_PLUGINS, str(LETHAL), *more], environment={})
    if address is not None:
        extra["executor"] = ray_executor(plugins, RayOptions(workers=workers, address=address))
    return run_study(parse_study(text, label="s.toml"), out=out, plugins=plugins, **extra)  # type: ignore[arg-type]


def run_alone(out: Path, text: str = TOY) -> StudyRun:
    """Run a study in this process, with as many threads as a worker has."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run(out, None, text)
    finally:
        torch.set_num_threads(threads)


def test_a_killed_worker_costs_nothing(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that first meets a certain prompt kills itself, as the kernel might for want of memory."""
    fuse = tmp_path / "fuse"
    text = TOY.replace('"brittle"', f'"lethal:fuse={fuse}"').replace("a dot above", "kill above")
    alone = run_alone(tmp_path / "alone", text)
    assert (alone.computed, alone.failed) == (16, 8)
    fuse.touch()
    done = run(tmp_path / "ray", cluster, text)
    assert not fuse.exists(), "no worker was killed"
    assert (done.computed, done.failed) == (16, 8)
    assert snapshot(tmp_path / "ray") == snapshot(tmp_path / "alone")


def test_cells_that_cost_too_many_workers_fail_with_the_reason(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_queue, "ATTEMPTS", 1)  # starting workers takes seconds
    fuse = tmp_path / "fuse"
    fuse.touch()
    text = TOY.replace('"brittle"', f'"lethal:fuse={fuse}"').replace("a dot above", "kill above")
    text = text.replace("steps = [3, 4]", "steps = 3").replace('"explode", ', "")
    done = run(tmp_path / "ray", cluster, text)
    assert (done.computed, done.failed) == (4, 4)
    ((reason, count),) = done.reasons
    assert count == 4
    assert reason.startswith("1 workers were lost over it, the last so: ")
    assert run(tmp_path / "ray", None, text).computed == 0  # left alone
    assert run(tmp_path / "ray", None, text, retry_failed=True).computed == 4


def test_asked_to_stop_it_keeps_what_is_in_flight(cluster: str, tmp_path: Path) -> None:
    import ray

    seen: list[Progress] = []
    done = run(tmp_path / "ray", cluster, on_progress=seen.append, should_stop=lambda: len(seen) > 1)
    assert done.stopped
    assert 0 < done.computed + done.failed < 24
    assert not ray.is_initialized()
    assert run(tmp_path / "ray", None).reused == done.computed


def test_a_node_that_joins_is_used_and_may_be_lost(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_module, "GROWTH_SECONDS", 0.0)
    added: list[Any] = []
    started: list[bool] = []
    start = ray_module._ActorPool._start
    monkeypatch.setattr(
        ray_module._ActorPool, "_start", lambda pool: (started.append(bool(added)), start(pool))
    )

    def change(progress: Progress) -> None:
        if progress.done + progress.failed == 0:
            return
        if not added:
            added.append(nodes.add())
        elif started.count(True) == 1 and len(added) == 1:
            nodes.remove(added[0])
            added.append(None)

    done = run(tmp_path / "ray", nodes.address, workers=None, on_progress=change)
    assert started[:3] == [False, False, True], "two workers at first, and one on the new node"
    assert added[1:] == [None], "the new node was lost while the study ran"
    assert (done.computed, done.failed) == (16, 8)
    run_alone(tmp_path / "alone")
    assert snapshot(tmp_path / "ray") == snapshot(tmp_path / "alone")


def test_a_node_with_another_version_of_a_plugin_is_refused(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "versioned_extra.py").write_text(VERSIONED.format(version))
    monkeypatch.syspath_prepend(tmp_path / "one")
    text = TOY.replace("steps = [3, 4]", "steps = 3").replace('"explode", ', "")
    path = os.environ["PYTHONPATH"]
    added = []
    try:
        added.append(nodes.add(env_vars={"PYTHONPATH": f"{tmp_path / 'two'}{os.pathsep}{path}"}))
        with pytest.raises(
            GuidelensError, match=r"no worker could be started on the cluster: .*versioned_extra"
        ):
            run(tmp_path / "none", nodes.address, text, more=("versioned_extra",), workers=3)
        refused = [r.message for r in caplog.records if "a worker cannot start" in r.message]
        assert len(refused) == 3
        assert any("it has the plugin versioned_extra in version" in message for message in refused)
        added.append(nodes.add(env_vars={"PYTHONPATH": f"{tmp_path / 'one'}{os.pathsep}{path}"}))
        done = run(tmp_path / "ray", nodes.address, text, more=("versioned_extra",), workers=4)
        assert (done.computed, done.failed) == (8, 0), "the node with the same version computes all"
    finally:
        for node in added:
            nodes.remove(node)


def test_weights_that_only_the_driver_has_are_sent_once(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path below /proc/self/fd is a file for this process alone."""
    monkeypatch.setattr(sent_files, "BLOCK", 1000)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(range(256)) * 10)
    plugin = tmp_path / "weighty.py"
    plugin.write_text(WEIGHTY)
    puts: list[str] = []
    send = sent_files.FileSender.send
    monkeypatch.setattr(
        sent_files.FileSender, "send", lambda self, path: (puts.append(path), send(self, path))[1]
    )
    with weights.open("rb") as file:
        number = fcntl.fcntl(file, fcntl.F_DUPFD, 700)
        try:
            text = TOY.replace("steps = [3, 4]", "steps = 3").replace('"explode", ', "")
            text = text.replace('generator = "tiny"', f'generator = "weighty:weights=/proc/self/fd/{number}"')
            done = run(tmp_path / "ray", nodes.address, text, more=(str(plugin),))
        finally:
            os.close(number)
    assert (done.computed, done.failed) == (8, 0)
    assert 1 <= len(puts) <= 2, "each worker asks once"
    received = list(nodes.cache.glob("received/*/*"))
    assert [path.read_bytes() for path in received if not path.name.endswith(".lock")] == [
        weights.read_bytes()
    ]
