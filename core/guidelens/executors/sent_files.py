"""Weights that only the starting machine has: found in the components of a task, and sent to each machine once.

Files travel through Ray's object store in blocks, which a machine fetches once for all of its workers. There they are
kept in the cache directory under their hash, and later runs find them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.files import explained, replacing
from guidelens.plugins.spelling import format_component, parse_component
from guidelens.runs.execute import Task
from guidelens.weights.store import format_size, locked, weights_home

logger = logging.getLogger(__name__)

BLOCK = 64 * 2**20
"""Bytes of a file that travel as one object."""
_DEEPEST = 4


@dataclass(frozen=True)
class MissingFiles:
    """What a worker answers in place of an outcome: paths that its machine does not have."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class SentFile:
    """A file in the object store.

    :param path: on the machine that sends it, as components spell it.
    :param blocks: references to its bytes, in order.
    """

    path: str
    sha256: str
    blocks: tuple[Any, ...]


class FileSender:
    """Puts files into the object store, each one once."""

    def __init__(self) -> None:
        self._sent: dict[str, SentFile] = {}

    def send(self, path: str) -> SentFile:
        """Return a file in the object store.

        :raises GuidelensError: it cannot be read.
        """
        if path not in self._sent:
            import ray

            digest, blocks = hashlib.sha256(), []
            with explained(f"cannot read {path}"), open(path, "rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
                    blocks.append(ray.put(block))
            size = format_size(Path(path).stat().st_size)
            logger.info("sending %s (%s) to machines that lack it", path, size)
            self._sent[path] = SentFile(path, digest.hexdigest(), tuple(blocks))
        return self._sent[path]


class FileReceiver:
    """The files that a worker was sent, and the components that name them."""

    def __init__(self) -> None:
        self._local: dict[str, str] = {}

    def missing(self, paths: Collection[str]) -> tuple[str, ...]:
        """Return the paths that this machine does not have and was not sent."""
        return tuple(path for path in paths if path not in self._local and not Path(path).is_file())

    def receive(self, file: SentFile) -> None:
        """Write a file into the cache, unless it or another worker of this machine did so before.

        :raises GuidelensError: it cannot be written, or was damaged on its way.
        """
        local = weights_home().parent / "received" / file.sha256 / Path(file.path).name
        with locked(local):
            if not local.is_file():
                self._write(file, local)
        self._local[file.path] = str(local)

    def spelled(self, component: str) -> str:
        """Return a component with the paths of received files in place of the sender's."""
        return _with_files(component, self._local)

    @staticmethod
    def _write(file: SentFile, local: Path) -> None:
        import ray

        digest = hashlib.sha256()
        with (
            explained(f"cannot write {local}"),
            replacing(local) as temporary,
            temporary.open("wb") as stream,
        ):
            for reference in file.blocks:
                block = ray.get(reference)
                digest.update(block)
                stream.write(block)
            if digest.hexdigest() != file.sha256:
                raise GuidelensError(f"{file.path} was damaged on its way to {local}")


def files_of(task: Task) -> tuple[str, ...]:
    """Return the absolute paths of the files that the components of a task name and this machine has."""
    components = (task.settings.generator.name, task.settings.guidance.name, *task.metrics)
    return tuple(sorted({path for component in components for path in _files(component)}))


def _files(component: str, depth: int = 0) -> set[str]:
    """Return the files in a component's options, and in components among them (``judge:model='blip:...'``)."""
    try:
        options = parse_component(component)[1].values()
    except UsageError:
        return set()
    found = {value for value in options if Path(value).is_absolute() and Path(value).is_file()}
    if depth < _DEEPEST:
        found |= {path for value in options if ":" in value for path in _files(value, depth + 1)}
    return found


def _with_files(component: str, local: Mapping[str, str], depth: int = 0) -> str:
    try:
        name, options = parse_component(component)
    except UsageError:
        return component
    replaced = {
        key: local.get(value)
        or (_with_files(value, local, depth + 1) if ":" in value and depth < _DEEPEST else value)
        for key, value in options.items()
    }
    return component if replaced == options else format_component(name, replaced.items())
