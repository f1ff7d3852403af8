"""Make the pictures of docs/tutorial.md and docs/gallery.md from the commands that these pages show.

``python docs/site/gallery.py`` makes those that take seconds; with the folder of a finished study ``findings``, also
those of that study. Files are small: WebP of at most :data:`LARGEST` bytes. tests/test_gallery.py holds
pages, pictures and this list together.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[1] / "images" / "gallery"
LARGEST = 160_000
WIDEST = 900

BINDING = """\
name = "binding"
summary = "do CAP and ITC differ in giving the right colour to the right shape?"
prompts = { set = "shapes:category=colors,limit=6" }
schedules = ["itc", "cap"]
metrics = ["shapes:details=true"]
seeds = 3
steps = 25
"""
"""The study file of the tutorial."""


FORMING = """\
name = "forming"
generator = "things"
prompts = ["a camel in the desert", "a blue dog next to a red car"]
schedules = ["none", "itc", "itm", "cap", "shift", "blend"]
seeds = 2
steps = 50
snapshots = 17
"""
"""The study file of the animation."""

THINGS = (
    "guidelens compare --generator things --schedule itc --schedule itm --schedule cap --schedule shift "
    "--schedule blend --seeds 4 --out runs/things"
)
FIGURE = "guidelens figure runs/things --layout paper --schedule itc --schedule {} --format png --out figure-{}.png"


@dataclass(frozen=True)
class Item:
    """A picture and the commands that make it; the last one writes it.

    :param made: the file that the commands leave.
    :param of_findings: the commands read a finished study ``findings`` in runs/findings.
    """

    name: str
    made: str
    commands: tuple[str, ...]
    of_findings: bool = False


ITEMS = (
    Item(
        "forming.webp",
        "forming.webp",
        (
            "guidelens study run forming.toml --out runs/forming",
            "guidelens figure runs/forming --layout animation --seed 1 --out forming.webp",
        ),
    ),
    Item(
        "first.webp",
        "first.webp",
        (
            'guidelens generate "a camel in the desert" --generator things '
            "--schedule shift --seed 1 --out first.png --trajectory first.webp",
        ),
    ),
    Item("figure1.webp", "figure-1.png", (THINGS, FIGURE.format("itm --schedule cap", 1))),
    Item("figure7.webp", "figure-7.png", (THINGS, FIGURE.format("cap --schedule shift --schedule blend", 7))),
    Item(
        "dessert.webp",
        "dessert.png",
        (
            'guidelens compare "a camel in the desert" "a camel in the dessert" --generator things '
            "--schedule itc --schedule itm --schedule cap --seeds 4 --out runs/dessert",
            "guidelens figure runs/dessert --layout grid --format png --out dessert.png",
        ),
    ),
    Item(
        "compare.webp",
        "compare.png",
        (
            'guidelens compare "a red circle above a blue square" "two small green triangles" '
            "--schedule itc --schedule cap --seeds 4 --steps 50 --out runs/first",
            "guidelens figure runs/first --layout grid --format png --out compare.png",
        ),
    ),
    Item(
        "binding.webp",
        "binding.png",
        (
            "guidelens study run binding.toml --out runs/binding",
            "guidelens figure runs/binding --layout grid --format png --out binding.png",
        ),
    ),
    Item(
        "pixels.webp",
        "pixels.png",
        (
            'guidelens compare "a red circle" --generator pixels --sampler ddim --into sample --steps 100 '
            "--seeds 1 --schedule itc --schedule itm --schedule cap --out runs/pixels",
            "guidelens figure runs/pixels --layout grid --format png --out pixels.png",
        ),
    ),
    Item(
        "forest.webp",
        "forest.png",
        ("guidelens figure runs/findings --layout forest --width text --format png --out forest.png",),
        of_findings=True,
    ),
    Item(
        "steps.webp",
        "steps.png",
        ("guidelens figure runs/findings --grid steps --format png --out steps.png",),
        of_findings=True,
    ),
    Item(
        "typos.webp",
        "typos.png",
        (
            "guidelens figure runs/findings --grid typos --schedule itc --schedule cap --format png "
            "--out typos.png",
        ),
        of_findings=True,
    ),
    Item(
        "curves.webp",
        "curves.png",
        ("guidelens figure runs/findings --layout curves --width text --format png --out curves.png",),
        of_findings=True,
    ),
)


def make(item: Item, folder: Path) -> None:
    """Run the commands of an item in ``folder`` and put its picture in place."""
    program = str(Path(sys.executable).with_name("guidelens"))
    for command in item.commands:
        words = shlex.split(command)
        subprocess.run([program, *words[1:]], cwd=folder, check=True)
    shrink(folder / item.made, IMAGES / item.name)


def shrink(source: Path, target: Path) -> None:
    """Write a picture as WebP of at most :data:`WIDEST` pixels; keep about a dozen frames of an animation."""
    from PIL import Image

    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".webp":
        shrink_animation(source, target)
        return
    with Image.open(source) as picture:
        shown = picture.convert("RGB")
    if shown.width > WIDEST:
        shown = shown.resize((WIDEST, round(shown.height * WIDEST / shown.width)), Image.Resampling.LANCZOS)
    shown.save(target, quality=85, method=6)


def shrink_animation(source: Path, target: Path) -> None:
    """Write an animation that plays once, in less than five seconds, and stays at its last frame.

    At most a dozen frames are kept, the last one among them. Small pictures are enlarged to 256 pixels. The quality is
    the highest with which the file is small enough.
    """
    from PIL import Image, ImageSequence

    with Image.open(source) as animation:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
    kept = [frames[i] for i in sorted({round(i * (len(frames) - 1) / 11) for i in range(12)})]
    width, height = kept[0].size
    small = width <= 256
    scale = 256 / width if small else min(1.0, WIDEST / width)
    size = (round(width * scale), round(height * scale))
    method = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    resized = [frame.resize(size, method) for frame in kept]
    times = [300] * (len(resized) - 1) + [1000]
    whole = {"kmin": 0, "kmax": 1}  # frames without traces of the one before
    for quality in (75, 60, 45, 30, 20):
        resized[0].save(
            target,
            save_all=True,
            append_images=resized[1:],
            duration=times,
            loop=1,
            quality=quality,
            method=6,
            **whole,
        )
        if target.stat().st_size <= LARGEST:
            return


def main(findings: str = "") -> None:
    """Make all pictures; those of the study ``findings`` if its folder is given."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "binding.toml").write_text(BINDING, encoding="utf-8")
        (folder / "forming.toml").write_text(FORMING, encoding="utf-8")
        (folder / "runs").mkdir()
        if findings:
            (folder / "runs" / "findings").symlink_to(Path(findings).resolve())
        for item in ITEMS:
            if findings or not item.of_findings:
                make(item, folder)


if __name__ == "__main__":
    main(*sys.argv[1:2])
