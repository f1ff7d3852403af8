"""Register the generator ``pixels``."""

from __future__ import annotations

from guidelens.contracts import Generator
from guidelens.errors import UsageError
from guidelens.hookspecs import Register, hookimpl


def _pixels(size: int = 32, start: float = 0.3) -> Generator:
    """Optimise an image directly; use ``--sampler ddim --into sample``.

    :param size: height and width in pixels, at least 8.
    :param start: standard deviation of the noise that the image starts from, around grey; pixels are in [-1, 1].
    """
    if size < 8:
        raise UsageError(f"pixels: size must be at least 8, not {size}")
    if not 0 < start <= 1:
        raise UsageError(f"pixels: start must be above 0 and at most 1, not {start}")
    from .generator import Pixels

    return Pixels(size, start)


@hookimpl
def register_generators(register: Register) -> None:
    """Offer ``pixels``."""
    register(
        "pixels",
        _pixels,
        summary="no prior: gradient ascent on the image itself, the baseline of CLIP inversion",
        requires=("torch",),
    )
