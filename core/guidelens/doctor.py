"""Describe an installation for a bug report, with hints on problems. Imports torch if possible."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import __version__
from .plugins import PluginInfo, PluginManager

SUPPORTED_PYTHONS = ((3, 10), (3, 14))
"""The oldest and the newest Python that guidelens supports."""

FOR_DEVELOPERS = ("dev", "docs", "test", "testing")
"""Extras that commands do not need."""

ENVIRONMENT_PREFIX = "GUIDELENS_"


@dataclass(frozen=True)
class Section:
    """A part of the diagnosis, with lines of (name, value), and hints on how to solve problems."""

    title: str
    lines: tuple[tuple[str, str], ...]
    hints: tuple[str, ...] = field(default=())


def short_versions() -> str:
    """Return two lines: the version of guidelens, then those of Python and torch. Does not import torch."""
    below = ", ".join([f"Python {platform.python_version()}", f"torch {_version('torch')}"])
    return f"guidelens {__version__}\n{below}, {platform.system()} (`guidelens doctor` shows more)"


def diagnose(manager: PluginManager) -> list[Section]:
    """Return the diagnosis of this installation. Broken parts are reported, not raised."""
    return [_versions(), _devices(), _plugins(manager), _weights(manager), _environment()]


def _versions() -> Section:
    lines = [("guidelens", f"{__version__} ({Path(__file__).parent})")]
    lines += [("Python", f"{platform.python_version()} ({sys.executable})"), ("system", platform.platform())]
    lines += [(name, _version(name)) for name in _requirements()]
    hints = []
    oldest, newest = SUPPORTED_PYTHONS
    if not oldest <= sys.version_info[:2] <= newest:
        supported = " to ".join(f"{major}.{minor}" for major, minor in SUPPORTED_PYTHONS)
        hints.append(f"guidelens supports Python {supported}; make an environment with one of these")
    return Section("versions", tuple(lines), tuple(hints))


def _requirements() -> list[str]:
    """Return the distributions that guidelens requires, including those of its extras for users."""
    names = set()
    for requirement in importlib.metadata.requires("guidelens") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"\bextra\s*==\s*[\"']([^\"']+)", requirement)
        if name and not (extra and extra[1] in FOR_DEVELOPERS):
            names.add(name.group())
    return sorted(names - {"guidelens"})


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> Section:
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # a broken torch is a problem to report, not to crash on
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Section(
            "devices", (("torch", f"does not load: {reason}"),), ("reinstall torch: see pytorch.org",)
        )
    lines = [("cpu", f"{torch.get_num_threads()} threads of {os.cpu_count()} processors")]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(number)
        memory = properties.total_memory / 2**30
        lines.append((f"cuda:{number}", f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}"))
    hints = []
    if len(lines) == 1:
        built = (
            f"torch is built for CUDA {torch.version.cuda}"
            if torch.version.cuda
            else "torch is built without CUDA"
        )
        lines.append(("cuda", f"none found ({built})"))
        if torch.version.cuda and Path("/proc/driver/nvidia").exists():
            hints.append(
                "there is an NVIDIA driver, but torch cannot use it: compare its CUDA version with torch's"
            )
    lines.append(("mps", "present" if torch.backends.mps.is_available() else "none found"))
    return Section("devices", tuple(lines), tuple(hints))


def _plugins(manager: PluginManager) -> Section:
    manager.commands()  # finds plugins whose commands fail to load
    lines, hints = [], []
    for plugin in manager.plugins:
        told = [plugin.status, plugin.source.dist, plugin.source.version]
        if _lacks_extras_alone(plugin):
            told = ["optional, not installed", plugin.source.dist, plugin.source.version, plugin.message]
        elif plugin.message and plugin.status != "ok":
            hints.append(f"{plugin.name}: {plugin.message}")
        lines.append((plugin.name, " ".join(filter(None, told))))
    return Section("plugins", tuple(lines), tuple(hints))


def _lacks_extras_alone(plugin: PluginInfo) -> bool:
    """Return whether all missing requirements of a plugin belong to optional extras."""
    missing = [(info, info.missing) for info in plugin.components if info.missing]
    if plugin.status != "missing dependency" or not missing:
        return False
    wanted = [name for info, modules in missing for name in info.requirements(modules)[0]]
    return all("[" in requirement for requirement in wanted)


def _weights(manager: PluginManager) -> Section:
    from .weights import status
    from .weights.store import format_size, weights_home

    home = weights_home()
    lines = [("cache", str(home))]
    hints = []
    for _, file in manager.weights():
        state = status(file)
        if state.state != "absent":
            lines.append((file.name, f"{state.state}, {format_size(state.size)}"))
        if state.state == "changed":
            hints.append(
                f"{file.name} changed since it was fetched: run `guidelens weights verify {file.name}`"
            )
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        hints.append(f"{nearest} is not writable; set GUIDELENS_CACHE to a writable folder")
    return Section("weights", tuple(lines), tuple(hints))


def _environment() -> Section:
    names: Iterable[str] = sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX))
    return Section("environment", tuple((name, os.environ[name]) for name in names))
