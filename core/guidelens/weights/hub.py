"""Repositories of the Hugging Face hub: find them in the local cache, or download them on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from guidelens.errors import GuidelensError


def cached_repository(
    hub_id: str,
    revision: str | None,
    *,
    download: bool,
    complete: Callable[[Path], bool],
    missing: str,
    cure: str,
    patterns: list[str] | None = None,
) -> Path | None:
    """Return the directory of a repository in the cache, or None if it is to be downloaded.

    :param revision: a branch, tag or commit; None: the default branch.
    :param download: whether an incomplete repository is to be downloaded. Otherwise it is returned as it is.
    :param complete: whether a directory has all that is needed.
    :param missing: how the message begins if the repository is not there, before the revision.
    :param cure: how that message ends.
    :param patterns: of the files that are needed; None: all.
    :raises GuidelensError: the repository is not in the cache, and is not to be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=patterns, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        if download:
            return None
        at = "" if revision is None else f" at revision {revision}"
        raise GuidelensError(f"{missing}{at}; {cure}") from None
    return None if download and not complete(found) else found


def download_repository(
    hub_id: str,
    revision: str | None,
    choices: Sequence[Sequence[str]],
    *,
    complete: Callable[[Path], bool],
    otherwise: str = "",
) -> Path:
    """Download a repository and return its directory.

    :param choices: patterns of files, the preferred ones first. The next ones follow if the directory is incomplete.
    :param complete: whether a directory has all that is needed.
    :param otherwise: what to do without a network, for the message.
    :raises GuidelensError: the download failed.
    """
    from huggingface_hub import snapshot_download

    try:
        for patterns in choices:
            found = Path(snapshot_download(hub_id, revision=revision, allow_patterns=[*patterns]))
            if complete(found):
                break
    except Exception as error:  # the connection, the hub and the disk raise many types
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise GuidelensError(
            f"cannot download {hub_id} from the Hugging Face hub: {reason}{otherwise}"
        ) from error
    return found
