"""Versions, threads and device with which pictures were computed. They affect rounding."""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from guidelens.runs.config import differences
from guidelens.runs.notes import Note
from guidelens.words import plural

if TYPE_CHECKING:
    import torch

PROVENANCE = ("versions", "threads", "device")
"""Keys of a row with the versions, threads and device of its picture."""


def versions(plugins: Mapping[str, str]) -> dict[str, Any]:
    """Return the versions of all packages that can change the bits of a picture."""
    return {**_libraries(), "plugins": dict(sorted(plugins.items()))}


@functools.cache
def _libraries() -> Mapping[str, str]:
    found = {"python": platform.python_version()}
    for name in ("guidelens", "torch", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def provenance(device: torch.device, plugins: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys of a row (:data:`PROVENANCE`) of pictures computed now, in this process.

    :param plugins: version by name, of the plugins that offer the generator and the guidance model.
    """
    import torch

    return {
        "versions": versions(plugins),
        "threads": torch.get_num_threads(),
        "device": _hardware(device),
    }


def _hardware(device: torch.device) -> str:
    """Return the kind of device and its model: ``cpu AVX2`` (the instructions used), ``cuda NVIDIA H100``."""
    import torch

    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}" if device.type == "cpu" else device.type


def provenance_differences(row: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between the provenance of a row and ``now``, each in a few words."""
    told = differences({name: row[name] for name in PROVENANCE}, now)
    return [f"{name.rpartition('.')[2]} was {before}, is {after}" for name, before, after in told]


def upgrade_notes(rows: Iterable[Mapping[str, Any]], now: Mapping[str, Any]) -> list[Note]:
    """Return one warning if some rows were computed with other versions than ``now``, else nothing.

    :param now: as :func:`versions`, of all loaded plugins.
    """
    changed: dict[str, int] = {}
    for row in rows:
        before = row["versions"]
        used = {**now, "plugins": {name: now["plugins"].get(name) for name in before["plugins"]}}
        told = [
            f"{name.rpartition('.')[2]} {old} (now {new})" for name, old, new in differences(before, used)
        ]
        if told:
            text = ", ".join(told)
            changed[text] = changed.get(text, 0) + 1
    if not changed:
        return []
    listed = "; ".join(f"{plural(count, 'picture')} with {text}" for text, count in changed.items())
    return [
        Note(
            "", f"stored pictures were drawn with other versions: {listed}. New pictures may differ from them"
        )
    ]
