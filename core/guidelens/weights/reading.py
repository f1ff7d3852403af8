"""Read what PyTorch's ``save`` wrote, without running anything that a file holds."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

from guidelens.errors import GuidelensError
from guidelens.quiet import quiet


def read_torch(path: Path, what: str, *, contents: str = "tensors") -> Any:
    """Return what a ``.pt``, ``.pth`` or ``.bin`` file holds, on the CPU; its tensors are mapped where they can be.

    :param what: names the file in the error, such as ``f"{path} as a BLIP checkpoint"``.
    :param contents: what it may hold, in the words of the error; nothing else is ever built.
    :raises GuidelensError: it is unreadable, damaged, a program, or holds more than plain tensors.
    """
    import torch

    try:
        with quiet():  # torch's remarks on files of other origin
            # Only the zip format of PyTorch >= 1.6 can be mapped; older files are read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # the unpickler raises whatever a damaged file makes it trip over
        raise GuidelensError(f"cannot read {what}: {_reason(error, contents)}") from error


def _reason(error: Exception, contents: str) -> str:
    if "TorchScript" in str(error):
        return "it is a TorchScript archive, which is a program; give the weights alone"
    if isinstance(error, pickle.UnpicklingError):  # torch's own message suggests to load it unsafely
        return f"it is no PyTorch file, damaged or holds more than plain {contents} (which could run code)"
    if not isinstance(error, OSError | RuntimeError):  # such as KeyError: 101, of a text's first letter
        return "it is no PyTorch file, or damaged"
    return (str(error).splitlines() or [""])[0] or type(error).__name__
