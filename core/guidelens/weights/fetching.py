"""Download a weights file into the cache, or copy a file there that was downloaded by hand. Both are verified."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from guidelens.errors import GuidelensError, UsageError
from guidelens.files import explained, replacing

from . import store
from .registry import WeightsFile
from .store import ByteProgress, WeightsCorrupt

logger = logging.getLogger(__name__)

OFFLINE = "GUIDELENS_OFFLINE"
"""Environment variable; 1 forbids every download."""

MIRROR = "GUIDELENS_MIRROR"
"""Environment variable with an address that replaces ``scheme://host`` of every published address."""

_BINARY = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")


@dataclass(frozen=True)
class Fetched:
    """The result of :func:`fetch` or :func:`install`.

    :param how: ``present``: it was there already; ``downloaded``, by this process or another one; ``copied`` from a
        file or from the cache of the Hugging Face hub.
    :param verified: whether a published hash was checked; otherwise ``sha256`` was only recorded.
    """

    path: Path
    size: int
    sha256: str
    verified: bool
    how: Literal["present", "downloaded", "copied"]


def fetch(
    file: WeightsFile,
    *,
    mirror: str | None = None,
    report: ByteProgress | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Fetched:
    """Download ``file`` if it is missing, verify it, and then move it to its place. If several processes request a
    file at once, one downloads it and the others wait.

    :param mirror: address that replaces ``scheme://host``; default: ``GUIDELENS_MIRROR``.
    :param report: called with the progress in bytes.
    :param sleep: waits that many seconds between attempts; for tests.
    :raises UsageError: the mirror is not an http(s) address.
    :raises WeightsCorrupt: the file differs from the published one, and was removed.
    :raises GuidelensError: no network, offline mode, an error of the server, a full disk. The message says where to
        place the file. The received bytes are kept.
    """
    address = mirrored(file.address, mirror or os.environ.get(MIRROR, ""))
    path = store.target(file)
    had_before = store.locate(file) is not None
    if not had_before:
        with store.locked(path):
            if store.locate(file) is None:  # the process that held the lock did not download it either
                copied = _from_hub_cache(file)
                if copied is not None:
                    return copied
                _download(file, address, path, report, sleep)
    return _described(file, "present" if had_before else "downloaded")


def install(file: WeightsFile, source: Path, report: ByteProgress | None = None) -> Fetched:
    """Verify ``source``, a file downloaded by other means, and copy it to the place of ``file``.

    :raises WeightsCorrupt: it differs from the published file. An earlier file is kept.
    :raises GuidelensError: it is missing, or cannot be copied.
    """
    if not source.is_file():
        raise GuidelensError(f"there is no file {source}")
    size, sha256 = source.stat().st_size, store.sha256_of(source, report)
    store.check(file, size, sha256, what=str(source), cure="it was left alone")
    path = store.target(file)
    with store.locked(path):
        # A symbolic link to the cache's own file, or the file itself: nothing to copy, and copying would empty it.
        if not (path.exists() and path.samefile(source)):
            _copy(source, path, size)
        _discard(path)
        store.write_record(file, path, sha256)
    return _described(file, "copied")


def mirrored(address: str, mirror: str) -> str:
    """Return ``address`` with its ``scheme://host`` replaced by ``mirror``, if one is given.

    :raises UsageError: the mirror is not an http(s) address.
    """
    if not mirror:
        return address
    if not mirror.startswith(("http://", "https://")) or not urlsplit(mirror).netloc:
        raise UsageError(
            f"the mirror {mirror!r} is not an http(s) address such as https://mirror.example/weights"
        )
    parts = urlsplit(address)
    return f"{mirror.rstrip('/')}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def _download(
    file: WeightsFile,
    address: str,
    path: Path,
    report: ByteProgress | None,
    sleep: Callable[[float], None] | None,
) -> None:
    """Download, verify and move the file. The caller holds the lock."""
    if os.environ.get(OFFLINE, "") not in ("", "0"):
        raise GuidelensError(f"{OFFLINE} is set, so {file.name} is not fetched; {_by_hand(file, path)}")
    from .download import Download, DownloadError, Source

    part = store.part_path(path)
    source = Source(
        address,
        file.origin,
        file.size,
        hashed=file.sha256 is not None,
        binary=Path(file.filename).suffix in _BINARY,
        token=_hub_token(file, address),
    )
    while True:
        download = Download(source, part, report, **({} if sleep is None else {"sleep": sleep}))
        try:
            sha256 = download.run()
        except DownloadError as error:
            kept = part.stat().st_size if part.is_file() else 0
            more = f"; {store.format_size(kept)} of it are kept, the same command goes on" if kept else ""
            raise GuidelensError(
                f"cannot fetch {file.name}: {error}{more}; {_by_hand(file, path)}"
            ) from error
        except OSError as error:
            raise GuidelensError(f"cannot fetch {file.name}: {error}; {_by_hand(file, path)}") from error
        try:
            store.check(file, part.stat().st_size, sha256, what=address, cure="nothing of it was kept")
            break
        except WeightsCorrupt as error:
            _discard(path)
            if not download.resumed:
                raise
            logger.warning(
                "%s: an earlier part does not fit, so it is downloaded anew (%s)", file.name, error
            )
    with explained(f"cannot move {part} to {path}"):
        os.replace(part, path)
    _discard(path)
    store.write_record(file, path, sha256)


def _discard(path: Path) -> None:
    """Remove the files of an unfinished download of ``path``."""
    from .download import part_meta_path

    part = store.part_path(path)
    for leftover in (part, part_meta_path(part)):
        leftover.unlink(missing_ok=True)


def _copy(source: Path, path: Path, size: int) -> None:
    """Copy a file to ``path`` atomically."""
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise GuidelensError(
            f"the disk of {path.parent} is full: {store.format_size(size)} is needed there, "
            f"{store.format_size(free)} is free"
        )
    with explained(f"cannot copy {source} to {path}"), replacing(path) as temporary:
        shutil.copyfile(source, temporary)


def _described(file: WeightsFile, how: Literal["present", "downloaded", "copied"]) -> Fetched:
    found = store.status(file)
    sha256 = found.sha256 or store.sha256_of(found.path)  # where the cache cannot be written
    return Fetched(found.path, found.size, sha256, sha256 == file.sha256, how)


def _by_hand(file: WeightsFile, path: Path) -> str:
    """Return how to install the file without a network connection."""
    return (
        f"download {file.address} on any machine, then run `guidelens weights fetch {file.name} --from FILE`, "
        f"or place the file at {path}"
    )


# -- the Hugging Face hub's own library, where it is installed


def _from_hub_cache(file: WeightsFile) -> Fetched | None:
    """Use a file that is already in the cache of ``huggingface_hub``."""
    if file.hub_place is None:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    repo, name, revision = file.hub_place
    repo_type = "dataset" if repo.startswith("datasets/") else None
    found = try_to_load_from_cache(
        repo.removeprefix("datasets/"), name, revision=revision, repo_type=repo_type
    )
    if not isinstance(found, str):
        return None
    source = Path(found)
    sha256 = store.sha256_of(source)
    try:
        store.check(file, source.stat().st_size, sha256, what=found, cure="it is fetched anew")
    except WeightsCorrupt as error:
        logger.warning("%s", error)
        return None
    path = store.target(file)
    _copy(source, path, source.stat().st_size)
    store.write_record(file, path, sha256)
    return _described(file, "copied")


def _hub_token(file: WeightsFile, address: str) -> str:
    """Return the user's hub token, only for the hub itself. A mirror must not see it."""
    if file.hub_place is None or address != file.address:
        return ""
    try:
        from huggingface_hub import get_token
    except ImportError:
        return os.environ.get("HF_TOKEN", "")
    return get_token() or ""
