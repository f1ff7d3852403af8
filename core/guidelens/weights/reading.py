"""Read checkpoint files without running code in them. The format is detected from the content. Three formats can
contain weights: safetensors, files of ``torch.save``, and TorchScript archives
(:mod:`guidelens.weights.torchscript`). For other files the error says what they are and what to do.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guidelens.errors import GuidelensError
from guidelens.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

Format = Literal["safetensors", "torch", "torchscript"]

_HEAD = 512
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "it is a pointer of Git LFS, not the file itself: run `git lfs pull` there"),
    (b"<!doctype html", "it is a web page, not a PyTorch file: download the file that the page links to"),
    (b"<html", "it is a web page, not a PyTorch file: download the file that the page links to"),
    (b"<?xml", "it is XML, often a server's error message, not a PyTorch file: download it again"),
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first (gunzip)"),
    (b"\xfd7zxz\x00", "it is compressed with xz: unpack it first (unxz)"),
    (b"bzh", "it is compressed with bzip2: unpack it first (bunzip2)"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it first (unzstd)"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive: unpack it first"),
    (b"rar!", "it is a RAR archive: unpack it first"),
    (b"\x89hdf\r\n\x1a\n", "it is an HDF5 file, as Keras writes them, not a PyTorch file"),
    (b"\x93numpy", "it is a NumPy array, not a PyTorch file"),
    (b"gguf", "it is a GGUF file, not a PyTorch file: take the original weights"),
    (b"\x89png", "it is a picture, not a PyTorch file"),
)
"""The first bytes of foreign files, in lower case, and the message for each."""

_GLOBAL = re.compile(r"(?:GLOBAL|Unsupported global:?|class)\s+(?:GLOBAL\s+)?([\w.]+\.[\w]+)")


def format_of(path: Path, what: str) -> Format:
    """Return the format of a file from its first bytes, regardless of its suffix.

    :raises GuidelensError: the file does not exist or has another format.
    """
    if path.is_dir():
        raise GuidelensError(f"cannot read {what}: {path} is a directory")
    if not path.is_file():
        raise GuidelensError(f"cannot read {what}: there is no file {path}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise GuidelensError(f"cannot read {what}: {error.strerror or error}") from error
    if not head:
        raise GuidelensError(f"cannot read {what}: it is not a PyTorch file, or damaged: it is empty")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, reason in _FOREIGN:
        if start.startswith(magic):
            raise GuidelensError(f"cannot read {what}: {reason}")
    if head.startswith(b"PK\x03\x04"):
        return _format_of_zip(path, what)
    named = path.suffix == ".safetensors" and not head.startswith(b"\x80")  # a pickle's first byte
    return "safetensors" if named or _is_safetensors(head, path.stat().st_size) else "torch"


def read_torch(path: Path, what: str, *, contents: str = "tensors") -> Any:
    """Return the content of a ``.pt``, ``.pth`` or ``.bin`` file on the CPU. Tensors are memory-mapped if possible.

    :param what: names the file in the error, such as ``f"{path} as a BLIP checkpoint"``.
    :param contents: the allowed content, for errors. Nothing else is built.
    :raises GuidelensError: it is unreadable, damaged or a program, or contains more than plain tensors.
    """
    if format_of(path, what) == "torchscript":
        raise GuidelensError(
            f"cannot read {what}: it is a TorchScript archive, which is a program; give the weights alone"
        )
    import torch

    try:
        with quiet(), path.open("rb") as file:  # silences torch's warnings about files from other programs
            # Only the zip format of PyTorch >= 1.6 can be mapped, and only by its path. torch would read a path
            # that ends in .safetensors in that format.
            mapped = zipfile.is_zipfile(path) and path.suffix != ".safetensors"
            return torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # the unpickler can raise anything for a damaged file
        raise GuidelensError(f"cannot read {what}: {_reason(error, contents)}") from error


def read_safetensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the memory-mapped tensors and the metadata of a safetensors file.

    :raises GuidelensError: it is unreadable or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise GuidelensError(f"cannot read {what}: {_first_line(error)}") from error


def _is_safetensors(head: bytes, size: int) -> bool:
    """Return whether a file starts with a JSON header of a plausible length."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= size


def _format_of_zip(path: Path, what: str) -> Format:
    """Distinguish TorchScript from ``torch.save``, and refuse other archives. PyTorch compresses only the code of
    TorchScript. Another compressed entry could unpack to any size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "torch"  # cut short: torch's reader says so
    inside = [(entry, entry.filename.partition("/")[2]) for entry in entries]
    packed = [
        name
        for entry, name in inside
        if entry.compress_type != zipfile.ZIP_STORED and not name.startswith("code/")
    ]
    names = {name for _, name in inside}
    if "data.pkl" not in names:
        kind = (
            "NumPy arrays" if any(e.filename.endswith(".npy") for e in entries) else "no PyTorch checkpoint"
        )
        raise GuidelensError(f"cannot read {what}: it is not a PyTorch file, but a zip archive of {kind}")
    if packed:
        raise GuidelensError(
            f"cannot read {what}: its entry {packed[0]} is compressed, as PyTorch never writes it, and could unpack "
            "to any size; take the file as it was published"
        )
    return "torchscript" if "constants.pkl" in names else "torch"


def _reason(error: Exception, contents: str) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's own message suggests unsafe loading
        return _more_than_tensors(str(error), contents)
    if not isinstance(error, OSError | RuntimeError):  # such as KeyError: 101, of a text's first letter
        return "it is not a PyTorch file, or damaged"
    return _first_line(error)


def _more_than_tensors(message: str, contents: str) -> str:
    """Return what a pickle contains besides tensors, from torch's error."""
    found = _GLOBAL.search(message)
    if found is None:
        return f"it is not a PyTorch file, damaged or holds more than plain {contents} (which could run code)"
    name, package = found[1], found[1].split(".")[0]
    way_out = "if you trust it, load it with its own program and save its state dict alone"
    if package == "numpy":
        return f"it holds more than plain {contents}: a NumPy object ({name}), such as a score; {way_out}"
    if package in ("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "argparse"):
        held = f"settings of its training program ({name}), as Lightning saves them"
        return f"it holds more than plain {contents}: {held}; {way_out}, checkpoint['state_dict']"
    if name.startswith("torch.nn."):
        return f"it holds more than plain {contents}: a whole module ({name}), which is code; {way_out}"
    return f"it is damaged or holds more than plain {contents}: {name}, which could run code; {way_out}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
