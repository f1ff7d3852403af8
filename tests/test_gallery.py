"""The pictures of the gallery and the tutorial: there, small, and shown with the commands that made them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "site" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["gallery"] = module
    spec.loader.exec_module(module)
    return module


GALLERY = load()


def page(name: str) -> str:
    """A page without the breaks of long commands."""
    return re.sub(r" \\\n\s+", " ", (DOCS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("item", GALLERY.ITEMS, ids=lambda item: item.name)
def test_a_picture_is_there_small_and_shown_with_its_commands(item) -> None:  # type: ignore[no-untyped-def]
    path = GALLERY.IMAGES / item.name
    assert path.stat().st_size <= GALLERY.LARGEST
    with Image.open(path) as picture:
        assert picture.width <= GALLERY.WIDEST
        picture.load()
    pages = [
        text for text in map(page, ("gallery.md", "tutorial.md")) if f"images/gallery/{item.name}" in text
    ]
    assert pages
    for command in item.commands:
        assert any(command in text for text in pages), command


def test_no_other_picture_lies_there() -> None:
    assert {path.name for path in GALLERY.IMAGES.iterdir()} == {item.name for item in GALLERY.ITEMS}


def test_pages_show_no_other_picture() -> None:
    shown = set(re.findall(r"images/gallery/([\w.]+)", page("gallery.md") + page("tutorial.md")))
    assert shown == {item.name for item in GALLERY.ITEMS}


def test_the_studies_are_those_of_the_pages() -> None:
    for name, study in (("tutorial.md", GALLERY.BINDING), ("gallery.md", GALLERY.FORMING)):
        assert study in re.findall(r"```toml\n(.*?)```", page(name), re.DOTALL)


def test_pictures_are_shrunk(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.radial_gradient("L").resize((1800, 600)).convert("RGB").save(source)
    GALLERY.shrink(source, tmp_path / "out" / "b.webp")
    with Image.open(tmp_path / "out" / "b.webp") as picture:
        assert picture.size == (900, 300)


def test_animations_play_once_and_end_with_the_last_step(tmp_path: Path) -> None:
    source = tmp_path / "a.webp"
    shades = [Image.new("RGB", (1800, 600), (shade, shade, shade)) for shade in range(0, 250, 10)]
    shades[0].save(source, save_all=True, append_images=shades[1:], lossless=True)
    GALLERY.shrink(source, tmp_path / "b.webp")
    with Image.open(tmp_path / "b.webp") as picture:
        assert (picture.size, picture.n_frames, picture.info["loop"]) == ((900, 300), 12, 1)
        lengths = []
        for frame in range(12):
            picture.seek(frame)
            picture.load()
            lengths.append(picture.info["duration"])
        assert sum(lengths) < 5000  # longer motion would need a button that stops it
        assert abs(picture.convert("RGB").getpixel((9, 9))[0] - 240) <= 2
