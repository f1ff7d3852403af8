"""A study on a Ray cluster of two machines (in name), one worker of which is killed: all comes out the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from guidelens.executors import task_queue
from guidelens.executors.ray import RayOptions, ray_executor
from guidelens.plugins import PluginManager
from guidelens.runs.drive import Progress
from guidelens.studies.file import parse_study
from guidelens.studies.run import StudyRun, run_study
from toy_study import TOY, TOY_PLUGINS, snapshot

pytest.importorskip("ray", reason="needs Ray: pip install 'guidelens[ray]'")

pytestmark = pytest.mark.slow

LETHAL = Path(__file__).with_name("lethal_world.py")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Two nodes with one core each."""
    with pytest.MonkeyPatch.context() as patch:
        folders = (Path(plugin).parent for plugin in TOY_PLUGINS)
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))  # a plugin of theirs imports another
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # loopback
        from ray.cluster_utils import Cluster

        made = Cluster()
        try:
            for _ in range(2):
                made.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
            yield made.address
        finally:
            made.shutdown()


def run(out: Path, address: str | None, text: str = TOY, **extra: object) -> StudyRun:
    plugins = PluginManager.load([*TOY_PLUGINS, str(LETHAL)], environment={})
    if address is not None:
        extra["executor"] = ray_executor(plugins, RayOptions(workers=2, address=address))
    return run_study(parse_study(text, label="s.toml"), out=out, plugins=plugins, **extra)  # type: ignore[arg-type]


def test_a_killed_worker_costs_nothing(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that first meets a certain prompt kills itself, as the kernel might for want of memory."""
    import torch

    fuse = tmp_path / "fuse"
    text = TOY.replace('"brittle"', f'"lethal:fuse={fuse}"').replace("a dot above", "kill above")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers
    try:
        alone = run(tmp_path / "alone", None, text)
    finally:
        torch.set_num_threads(threads)
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
