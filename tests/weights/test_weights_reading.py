"""Files that are no checkpoints, or damaged ones: one line that says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from guidelens.errors import GuidelensError
from guidelens.weights.reading import read_torch


@pytest.mark.parametrize(
    "content",
    [b"", b"hello\n", b"\x80", b"\x80\x02", b"{}", bytes(64)],
    ids=["empty", "text", "byte", "start", "json", "zeros"],
)
def test_what_is_no_checkpoint_is_called_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(GuidelensError, match=r"cannot read x: it is not a PyTorch file, (or )?damaged"):
        read_torch(path, "x")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_cut_short(tmp_path: Path, zipped: bool, share: float) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.randn(5000)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(GuidelensError) as caught:
        read_torch(path, "x")
    assert str(caught.value).startswith("cannot read x: ")
    assert len(str(caught.value).split()) > 5  # and not the bare key or class of some error
