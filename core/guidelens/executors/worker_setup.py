"""The setup with which a worker process, possibly on another machine, builds the same components."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guidelens.errors import GuidelensError, UsageError
from guidelens.runs.execute import ComponentCache, Outcome, Task, check_fingerprints, compute

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager


@dataclass(frozen=True)
class PluginRequest:
    """A plugin to load.

    :param text: its name, as for ``--plugin``.
    :param content: content of a ``.py`` file, for machines without this file; None: the plugin is not a file.
    """

    text: str
    content: bytes | None = None


@dataclass(frozen=True)
class WorkerSetup:
    """How a worker makes its component cache, as plain data. A worker with other versions is refused.

    :param version: version of guidelens in this process.
    :param torch: version of PyTorch in this process; another one would round differently.
    :param plugins: names and versions of the loaded plugins; other versions may compute other results.
    """

    requests: tuple[PluginRequest, ...]
    device: str
    version: str
    torch: str
    plugins: tuple[tuple[str, str], ...] = ()


def make_worker_setup(plugins: PluginManager, device: str) -> WorkerSetup:
    """Return the setup for workers with these plugins.

    :raises UsageError: a plugin is an object of this process, which no other process can load.
    """
    import torch

    from guidelens import __version__

    for plugin in plugins.plugins:
        if plugin.source.via == "object" and plugin.loaded:
            raise UsageError(
                f"plugin {plugin.name!r} is an object of this process, which workers cannot load; "
                "put it into a module or a .py file"
            )
    files = {p.source.origin for p in plugins.plugins if p.source.via == "file"}
    requests = [
        PluginRequest(text, Path(text).read_bytes() if text in files else None) for text in plugins.requests()
    ]
    loaded = tuple(sorted(plugins.versions().items()))
    return WorkerSetup(tuple(requests), device, __version__, torch.__version__, loaded)


def make_component_cache(
    setup: WorkerSetup, spelled: Callable[[str], str] = lambda component: component
) -> ComponentCache:
    """Load the plugins of a setup and return a cache that builds their components.

    A file that this machine does not have with the same content is written to a temporary directory. The environment
    variable ``GUIDELENS_PLUGINS`` is not read, because the setup already includes its plugins.

    :param spelled: returns the spelling of a component on this machine, with its own paths.
    :raises GuidelensError: another version of guidelens, PyTorch or a plugin, or a plugin that cannot be loaded.
    """
    import torch

    from guidelens import __version__
    from guidelens.plugins import PluginManager

    for what, here, there in (
        ("guidelens", __version__, setup.version),
        ("PyTorch", torch.__version__, setup.torch),
    ):
        if here != there:
            raise GuidelensError(
                f"it has {what} {here}, but the study runs with {there}; install the same version"
            )
    plugins = PluginManager.load([_local(request) for request in setup.requests], environment={})
    _check_plugins(plugins.versions(), dict(setup.plugins))
    return ComponentCache(
        lambda kind, component: plugins.build(kind, spelled(component)),
        device=setup.device,
        versions=lambda kind, component: plugins.version_of(kind, spelled(component)),
    )


def _check_plugins(here: Mapping[str, str], there: Mapping[str, str]) -> None:
    """:raises GuidelensError: a plugin of the run is missing or has another version. Built-in plugins may be missing,
    because the run may not use them.
    """
    for name, wanted in there.items():
        if name in here and here[name] != wanted:
            raise GuidelensError(
                f"it has the plugin {name} in version {here[name]}, but the study runs with {wanted}; install "
                "the same"
            )
        if name not in here and not wanted.startswith("guidelens "):
            raise GuidelensError(f"it lacks the plugin {name} ({wanted}), which the study uses; install it")


def compute_alike(task: Task, cache: ComponentCache) -> Outcome:
    """Compute a task after checking the models.

    :raises GuidelensError: a model has other weights than the model with which the cells were planned.
    """
    check_fingerprints(task.settings, cache)
    return compute(task, cache)


def _local(request: PluginRequest) -> str:
    if request.content is None:
        return request.text
    path = Path(request.text)
    if path.is_file() and path.read_bytes() == request.content:
        return request.text
    copy = Path(tempfile.mkdtemp(prefix="guidelens-plugin-")) / path.name
    copy.write_bytes(request.content)
    return str(copy)
