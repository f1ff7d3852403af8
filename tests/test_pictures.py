"""Files of pictures as people have them: turned, grey, transparent, in print colours, with 16 bits, huge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from guidelens.errors import UsageError
from guidelens.metrics.distribution import features_of, open_pictures
from guidelens.pictures import as_rgb, open_picture, to_tensor
from PIL import Image

ORIENTATION = 0x0112


def ramp(mode: str = "RGB") -> Image.Image:
    """A picture that differs in every corner."""
    levels = np.zeros((4, 6, 3), np.uint8)
    levels[..., 0] = np.arange(6) * 50
    levels[..., 1] = np.arange(4)[:, None] * 80
    return Image.fromarray(levels).convert(mode)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_upright(orientation: int, tmp_path: Path) -> None:
    """The stored pixels are the upright picture, turned back as the EXIF standard defines each orientation."""
    upright = np.array(ramp())
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    assert np.array_equal(np.array(open_picture(path)), upright)


def test_transparent_parts_are_white() -> None:
    picture = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))
    assert np.array(as_rgb(picture)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    half = Image.new("LA", (1, 1), (0, 128))
    assert np.array(as_rgb(half))[0, 0] == pytest.approx([127] * 3, abs=1)
    palette = ramp("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert as_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    """Pillow's own conversion clips them at 255, so that nearly everything is white."""
    levels = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    found = to_tensor(open_picture(tmp_path / "a.png"))
    assert found[0, 0].tolist() == pytest.approx([-1, 1 / 127.5 - 1, 128 / 127.5 - 1, 1], abs=1e-6)
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes_are_converted(mode: str) -> None:
    picture = ramp(mode)
    found = to_tensor(picture)
    assert found.shape == (3, 4, 6)
    if mode in ("CMYK", "YCbCr", "HSV"):
        assert torch.allclose(found, to_tensor(ramp()), atol=0.06)


def test_values_without_a_range_are_refused() -> None:
    with pytest.raises(ValueError, match="no fixed range \\(mode F\\); save it with 8 or 16 bits"):
        as_rgb(Image.new("F", (2, 2)))


def test_a_picture_of_one_pixel(tmp_path: Path) -> None:
    Image.new("L", (1, 1), 255).save(tmp_path / "a.png")
    assert to_tensor(open_picture(tmp_path / "a.png")).flatten().tolist() == [1, 1, 1]


def test_too_many_pixels_are_an_error_and_many_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (15, 10)).save(tmp_path / "large.png")  # Pillow warns of it
    assert open_picture(tmp_path / "large.png").size == (15, 10)
    Image.new("L", (30, 10)).save(tmp_path / "huge.png")
    with pytest.raises(ValueError, match="exceeds limit of 200 pixels"):
        open_picture(tmp_path / "huge.png")


def test_a_folder_of_all_kinds_gives_features(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "RGBA", "P"):
        ramp(mode).save(tmp_path / f"{mode}.png")
    ramp("CMYK").save(tmp_path / "CMYK.jpg")
    Image.fromarray(np.full((3, 5), 40_000, np.uint16)).save(tmp_path / "deep.png")
    found = features_of(open_pictures(tmp_path), lambda images: images.mean((2, 3)))
    assert found.shape == (6, 3)
    Image.new("F", (2, 2)).save(tmp_path / "real.tiff")
    (tmp_path / "real.tiff").rename(tmp_path / "real.png")
    with pytest.raises(UsageError, match=r"cannot read .*real\.png: its values have no fixed range"):
        list(open_pictures(tmp_path))


def test_large_pictures_are_computed_few_at_once() -> None:
    counts: list[int] = []

    def extractor(images: torch.Tensor) -> torch.Tensor:
        counts.append(len(images))
        return images.mean((2, 3))

    features_of([Image.new("RGB", (1024, 1024))] * 9 + [Image.new("RGB", (8, 8))] * 40, extractor)
    assert counts == [8, 1, 32, 8]
