"""The description of a weights file by a plugin: name, origin, size and hash."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

HUB_ENDPOINT = "HF_ENDPOINT"
"""Environment variable with the address of the Hugging Face hub, as ``huggingface_hub`` reads it."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB = re.compile(r"(?P<repo>(?:datasets/)?[\w.-]+/[\w.-]+)/(?P<path>[^@\s]+?)(?:@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True)
class WeightsFile:
    """A published file that a component needs: weights, a vocabulary that belongs to them, or a prompt set.

    Give ``url`` or ``hub``. If the publisher states no size or hash, leave them None: the hash of the first download
    is recorded instead, and a message says so.

    :raises ValueError: a field has an invalid value.
    """

    name: str
    """Its name in commands: lower-case letters, digits, ``-``, ``_`` and ``.``."""
    filename: str
    """Its file name, as published and in the cache."""
    url: str = ""
    """Its http(s) address."""
    hub: str = ""
    """Or its place on the Hugging Face hub: ``owner/repository/path``, ``datasets/`` before it for a data set,
    ``@revision`` after it for another than ``main``."""
    size: int | None = None
    """In bytes."""
    sha256: str | None = None
    """In hex."""
    licence: str = ""
    """SPDX identifier of the licence, or the address of its terms."""
    citation: str = ""
    """What to cite, in one line."""
    component: str = ""
    """The component that needs it, for example ``generator guided-diffusion``."""

    def __post_init__(self) -> None:
        """Check the fields, so that mistakes are found when the plugin is loaded."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"weights name {self.name!r}: use lower-case letters, digits, '-', '_' and '.'")
        if not _FILENAME.fullmatch(self.filename):
            raise ValueError(f"weights {self.name!r}: filename {self.filename!r} is not a plain file name")
        if bool(self.url) == bool(self.hub):
            raise ValueError(f"weights {self.name!r}: give url or hub, one of them")
        if self.url and not re.match(r"https?://[^/]+/.", self.url):
            raise ValueError(f"weights {self.name!r}: {self.url!r} is not an http(s) address of a file")
        if self.hub and not _HUB.fullmatch(self.hub):
            raise ValueError(
                f"weights {self.name!r}: hub {self.hub!r} is not owner/repository/path[@revision]"
            )
        if self.size is not None and self.size < 1:
            raise ValueError(f"weights {self.name!r}: size {self.size} is not positive")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"weights {self.name!r}: sha256 must be 64 lower-case hex digits")

    @property
    def origin(self) -> str:
        """Its origin, independent of mirrors: the address, or ``hub:`` and the place."""
        return self.url or f"hub:{self.hub}"

    @property
    def hub_place(self) -> tuple[str, str, str] | None:
        """(repository, path, revision) on the hub; None for a file with an address of its own."""
        match = _HUB.fullmatch(self.hub) if self.hub else None
        return (match["repo"], match["path"], match["revision"] or "main") if match else None

    @property
    def address(self) -> str:
        """The download address. For a hub file, ``HF_ENDPOINT`` may name another hub."""
        if self.hub_place is None:
            return self.url
        repo, path, revision = self.hub_place
        endpoint = os.environ.get(HUB_ENDPOINT, "").rstrip("/") or "https://huggingface.co"
        return f"{endpoint}/{repo}/resolve/{revision}/{path}"
