"""Atomic files and pictures of 8 bits."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from guidelens import GuidelensError
from guidelens.files import TEMPORARY, check_writable, explained, replacing, write_file
from guidelens.pictures import (
    from_levels,
    is_whole_png,
    open_picture,
    png_bytes,
    to_levels,
    to_picture,
    to_tensor,
)


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_file(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_bytes(path.read_bytes()[: 1 // 0])
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["scores.json"]


def test_the_content_is_on_disk_before_the_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_file(tmp_path / "a", b"new")
    assert calls == ["fsync", "replace"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_leftover_of_a_killed_process_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / f".a.{os.getpid()}{TEMPORARY}").write_bytes(b"leftover")
    with replacing(tmp_path / "a") as temporary:
        assert not temporary.exists()
        temporary.write_bytes(b"new")
    assert os.listdir(tmp_path) == ["a"]


def test_errors_are_one_line_and_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GuidelensError, match=r"^cannot write .*file/a: Not a directory$"):
        write_file(tmp_path / "file" / "a", b"")
    with pytest.raises(GuidelensError, match=r"cannot write .*file/a: "):
        check_writable(tmp_path / "file" / "a")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(GuidelensError, match=r"^cannot save: .*free some space"), explained("cannot save"):
        raise full


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_survive_the_way_to_a_picture_and_back(channels: int) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(channels, 1, 1)
    image = levels.double() / 127.5 - 1
    picture = to_picture(image)
    assert np.array_equal(np.asarray(picture).reshape(16, 16, channels), levels.movedim(0, -1).numpy())
    assert torch.equal(((to_tensor(picture) + 1) * 127.5).round().to(torch.uint8)[:channels], levels)


def test_levels_take_any_number_of_leading_dimensions_and_clip() -> None:
    images = torch.tensor([-7.0, float("nan"), -1.0, 0.0, 1.0, float("inf")]).reshape(1, 2, 3, 1, 1)
    assert to_levels(images).shape == (1, 2, 1, 1, 3)
    assert to_levels(images).flatten().tolist() == [0, 0, 0, 128, 255, 255]
    with pytest.raises(ValueError, match=r"\(1 or 3, H, W\), got \(2, 4, 4\)"):
        to_picture(torch.zeros(2, 4, 4))


def test_a_png_without_its_end_is_not_whole(tmp_path: Path) -> None:
    content = png_bytes(from_levels(np.zeros((4, 4, 3), dtype=np.uint8)))
    path = tmp_path / "a.png"
    for cut in (0, 10, len(content) - 1):
        path.write_bytes(content[:cut])
        assert not is_whole_png(path)
    path.write_bytes(content)
    assert is_whole_png(path)
    assert open_picture(path).size == (4, 4)
