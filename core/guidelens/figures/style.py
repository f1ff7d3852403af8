"""The style of figures: column widths, small type, embedded fonts, and the same bytes for the same data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = {"column": 3.25, "text": 6.75}
"""Widths in inches: one column of a two-column page, and the full text width."""

FORMATS = {
    "paper": ("pdf", "svg", "png"),
    "grid": ("pdf", "svg", "png"),
    "forest": ("pdf", "svg", "png"),
    "curves": ("pdf", "svg", "png"),
    "table": ("tex",),
    "animation": ("webp", "gif"),
}
"""The file formats of each layout, the default one first."""

LAYOUTS = tuple(FORMATS)

_SETTINGS: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # embed TrueType: many journals reject type 3 fonts
    "svg.fonttype": "path",  # draw letters as paths, so that they look the same everywhere
    "svg.hashsalt": "guidelens",
    "savefig.dpi": 300,
}


@contextmanager
def styled() -> Iterator[Any]:
    """Yield matplotlib's figure class, with the settings of this module. No window system is needed.

    :raises GuidelensError: if matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        from guidelens.plugins.requirements import pip_command

        raise GuidelensError(f"figures need matplotlib: {pip_command(['guidelens[figures]'])}") from None
    with rc_context(_SETTINGS):
        yield Figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the suffix of ``path`` names.

    :raises GuidelensError: if the file cannot be written.
    """
    from guidelens.files import explained, replacing

    suffix = path.suffix.lower().removeprefix(".")
    metadata: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix, {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with styled(), explained(f"cannot write {path}"), replacing(path) as temporary:
        figure.savefig(temporary, format=suffix, metadata=metadata, bbox_inches="tight", pad_inches=0.02)
