"""The cache of weights files, with verification.

``CACHE/weights/NAME/FILENAME`` is the file. ``FILENAME.json`` beside it, the *record*, holds the size, time of
change and sha256 of the file as it was when it was last read in full, and its ``origin``. While size and time
agree with the record, the file is taken as verified without being read again.

An unfinished download is ``FILENAME.part``; see :mod:`guidelens.weights.download`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from filelock import FileLock, Timeout

from guidelens.errors import GuidelensError
from guidelens.files import atomic_write, explained

from .registry import WeightsFile

logger = logging.getLogger(__name__)

CACHE = "GUIDELENS_CACHE"
"""Environment variable with a cache directory that replaces the user's."""

State = Literal["present", "changed", "unfinished", "absent"]
ByteProgress = Callable[[int, "int | None"], None]
"""Called with the progress: bytes done, and total bytes (None: unknown)."""

_BLOCK = 1 << 20


class WeightsMissing(GuidelensError):
    """Weights files of a component are missing. The message says how to get them.

    :param needs: for each such component the missing files, and what else the user can do.
    """

    def __init__(self, *needs: Need) -> None:
        self.needs = needs
        files = list(dict.fromkeys(file for need in needs for file in need.files))
        lacking = "; ".join(
            f"{need.by} needs {', '.join(f'{file.filename}{_sized(file)}' for file in need.files)}"
            for need in needs
        )
        places = " and ".join(str(target(file)) for file in files)
        instead = " and ".join(need.instead for need in needs if need.instead)
        names = " ".join(file.name for file in files)
        noun = "file" if len(files) == 1 else "files"
        super().__init__(
            f"{lacking}, not on this machine: run `guidelens weights fetch {names}`, or place the {noun} at {places}"
            + (f", or {instead}" if instead else "")
        )


@dataclass(frozen=True)
class Need:
    """The absent files of one component."""

    by: str
    files: tuple[WeightsFile, ...]
    instead: str = ""


class WeightsCorrupt(GuidelensError):
    """A file differs from the published one, or has changed since it was fetched."""


@dataclass(frozen=True)
class Record:
    """The record of a file from the last time it was read in full."""

    origin: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Status:
    """The state of a file, without reading it.

    :param path: its place, even if it is absent.
    :param size: bytes on disk, possibly of an unfinished download; 0 if absent.
    :param sha256: recorded when it was last read in full; None: never.
    :param verified: whether it matched a published hash.
    """

    file: WeightsFile
    path: Path
    state: State
    size: int = 0
    sha256: str | None = None
    verified: bool = False


def weights_home() -> Path:
    """Return the directory of all weights files: ``weights`` in ``GUIDELENS_CACHE`` or in the user's cache."""
    if root := os.environ.get(CACHE):
        return Path(root).expanduser() / "weights"
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("guidelens", appauthor=False)) / "weights"


def target(file: WeightsFile) -> Path:
    """Return the place of ``file``, even if it is absent."""
    return weights_home() / file.name / file.filename


def part_path(path: Path) -> Path:
    """Return the path of the unfinished download of ``path``."""
    return path.with_name(f"{path.name}.part")


def status(file: WeightsFile) -> Status:
    """Return the state of ``file``. ``changed``: it was changed or placed by hand since it was last read."""
    path = target(file)
    try:
        stat = path.stat()
    except OSError:
        try:
            return Status(file, path, "unfinished", part_path(path).stat().st_size)
        except OSError:
            return Status(file, path, "absent")
    record = read_record(path)
    if record is None:
        return Status(file, path, "changed", stat.st_size)
    fresh = (record.size, record.mtime_ns, record.origin) == (stat.st_size, stat.st_mtime_ns, file.origin)
    verified = fresh and record.sha256 == file.sha256
    return Status(file, path, "present" if fresh else "changed", stat.st_size, record.sha256, verified)


def locate(file: WeightsFile) -> Path | None:
    """Return the path of ``file`` if it is in the cache and verified; None if it is absent. A file that was placed by
    hand or has changed is read in full and compared first.

    :raises WeightsCorrupt: it differs from the published or recorded file.
    """
    found = status(file)
    if found.state in ("absent", "unfinished"):
        return None
    if found.state == "changed" or (file.sha256 and not found.verified):
        logger.info("checking %s in full", found.path)
        verify(file)
    return found.path


def require(needed_by: str, files: Sequence[WeightsFile], *, instead: str = "") -> list[Path]:
    """Return the paths of the ``files`` that ``needed_by`` requires.

    :param needed_by: name for the message, such as ``guided-diffusion``.
    :param instead: what else the user can do, such as ``give guided-diffusion:checkpoint=FILE``.
    :raises WeightsMissing: some are absent. The message has the command to run.
    :raises WeightsCorrupt: one differs from the published or recorded file.
    """
    paths = [locate(file) for file in files]
    if absent := tuple(file for file, path in zip(files, paths, strict=True) if path is None):
        raise WeightsMissing(Need(needed_by, absent, instead))
    return [path for path in paths if path is not None]


def build_all(*builders: Callable[[], Any]) -> list[Any]:
    """Call each of ``builders`` and return the results.

    :raises WeightsMissing: some lack weights. One error lists all, so that the user fetches once.
    """
    built: list[Any] = []
    needs: list[Need] = []
    for build in builders:
        try:
            built.append(build())
        except WeightsMissing as missing:
            needs += missing.needs
    if needs:
        raise WeightsMissing(*needs)
    return built


def verify(file: WeightsFile, report: ByteProgress | None = None) -> Status:
    """Read the file in full, compare it with the published or recorded hash, and record its hash.

    :raises GuidelensError: it is not there.
    :raises WeightsCorrupt: it differs. The file is kept.
    """
    path = target(file)
    if not path.is_file():
        raise GuidelensError(f"{file.name} is not on this machine: run `guidelens weights fetch {file.name}`")
    record = read_record(path)
    cure = f"run `guidelens weights rm {file.name}` and fetch it again"
    if record is not None and record.origin != file.origin and file.sha256 is None:
        raise WeightsCorrupt(f"{path} came from {record.origin}, not from {file.origin}; {cure}")
    found = sha256_of(path, report)
    check(file, path.stat().st_size, found, what=str(path), cure=cure)
    if file.sha256 is None and record is not None and record.sha256 != found:
        raise WeightsCorrupt(
            f"{path} has changed since it was fetched: its sha256 is {found}, it was {record.sha256}; {cure}"
        )
    write_record(file, path, found)
    return status(file)


def check(file: WeightsFile, size: int, sha256: str, *, what: str, cure: str) -> None:
    """Compare size and hash with the published ones, if these are known.

    :param what: names the file in the message.
    :param cure: what to do if they differ.
    :raises WeightsCorrupt: they differ.
    """
    if file.size is not None and size != file.size:
        raise WeightsCorrupt(
            f"{what} is not {file.filename} as published: {size:,} bytes instead of {file.size:,}; {cure}"
        )
    if file.sha256 is not None and sha256 != file.sha256:
        raise WeightsCorrupt(
            f"{what} is not {file.filename} as published: its sha256 is {sha256} instead of {file.sha256}; {cure}"
        )


def sha256_of(path: Path, report: ByteProgress | None = None) -> str:
    """Return the SHA-256 of a file in hex.

    :raises GuidelensError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hash_stream(stream, path.stat().st_size, report).hexdigest()
    except OSError as error:
        raise GuidelensError(f"cannot read {path}: {error.strerror or error}") from error


def hash_stream(stream: BinaryIO, total: int, report: ByteProgress | None = None) -> hashlib._Hash:
    """Return the SHA-256 object of the rest of a binary stream."""
    digest = hashlib.sha256()
    done = 0
    while block := stream.read(_BLOCK):
        digest.update(block)
        done += len(block)
        if report is not None:
            report(done, total)
    return digest


def read_record(path: Path) -> Record | None:
    """Return the record of ``path``; None if it is missing or unreadable."""
    try:
        entries = json.loads(_record_path(path).read_text(encoding="utf-8"))
        return Record(
            str(entries["origin"]), int(entries["size"]), int(entries["mtime_ns"]), str(entries["sha256"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(file: WeightsFile, path: Path, sha256: str) -> None:
    """Record that ``path`` was just read in full. Without a writable cache, files are read in full each time."""
    stat = path.stat()
    entries = {
        "origin": file.origin,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": sha256,
    }
    try:
        atomic_write(_record_path(path), (json.dumps(entries, indent=1) + "\n").encode())
    except OSError as error:
        logger.info("cannot record the hash of %s: %s", path, error)


def remove(file: WeightsFile) -> int:
    """Remove ``file``, its unfinished download and its record. Return the number of freed bytes.

    :raises GuidelensError: another process is fetching it, or it cannot be removed.
    """
    path = target(file)
    if not path.parent.is_dir():
        return 0
    freed = 0
    with locked(path, wait=False), explained(f"cannot remove {path}"):
        part = part_path(path)
        for old in (path, part, part.with_name(f"{part.name}.json"), _record_path(path)):
            if old.is_file():
                freed += old.stat().st_size
                old.unlink()
    return freed


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of the file at ``path``, so that only one process changes it.

    :param wait: wait for another process that holds the lock, and log this once.
    :raises GuidelensError: the directory cannot be written, or the lock is held and ``wait`` is False.
    """
    with explained(f"cannot write to {path.parent}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise GuidelensError(f"another process is fetching {path}; wait until it is done") from None
            logger.warning("another process is fetching %s; waiting for it", path.name)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _sized(file: WeightsFile) -> str:
    return f" ({format_size(file.size)})" if file.size else ""


def format_size(size: int) -> str:
    """Return a number of bytes in decimal units, like publishers: ``2.21 GB``."""
    value = float(size)
    for unit in ("bytes", "kB", "MB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
