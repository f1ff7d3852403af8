"""Fetch files from the Hugging Face hub or its local cache, without the client's messages between retries."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("guidelens.open_clip")


def fetch_hub(repository: str, files: Sequence[str], *, online: bool = True) -> Path:
    """Return the first of ``files`` that a repository has, from the local cache or else from the hub.

    :param online: False: use the cache only.
    :raises Exception: none of the files is available. The type is the one that ``huggingface_hub`` raises.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in files:
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):  # not the marker of a file that the repository lacks
            return Path(cached)
    if not online:
        raise FileNotFoundError(f"{files[0]} of {repository} is not in the local cache")
    logger.info("fetching %s of %s from the Hugging Face hub", files[0], repository)
    with retries_unseen():
        for file in files[:-1]:
            try:
                return Path(hf_hub_download(repository, file))
            except LocalEntryNotFoundError:  # no network
                raise
            except EntryNotFoundError:  # not in the repository: try the next one
                continue
        return Path(hf_hub_download(repository, files[-1]))


def cached_repository(repository: str) -> Path:
    """Return the directory of a repository in the hub's local cache. Nothing is fetched.

    :raises Exception: it is not in the cache. The type is the one that ``huggingface_hub`` raises.
    """
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, local_files_only=True))


@contextmanager
def retries_unseen() -> Iterator[None]:
    """Hide the hub client's messages between retries. The caller reports a failure in one line."""
    client = logging.getLogger("huggingface_hub.utils._http")

    def severe(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING

    client.addFilter(severe)
    try:
        yield
    finally:
        client.removeFilter(severe)


def short_reason(error: BaseException) -> str:
    """Return the cause of a failed download in a few words."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."
