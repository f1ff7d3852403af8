"""A plugin with the tiny generator and guidance model. ``-p guidelens.testing.tiny`` makes commands fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.contracts import Prediction
from guidelens.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from .toys import TinyGenerator, TinyGuidanceModel


def tiny_generator(size: int = 8, prediction: Prediction = "epsilon") -> TinyGenerator:
    """Build the generator.

    :param size: height and width in pixels.
    :param prediction: the kind of its output.
    """
    from .toys import TinyGenerator

    return TinyGenerator(size, prediction)


def tiny_guidance() -> TinyGuidanceModel:
    """Build the guidance model."""
    from .toys import TinyGuidanceModel

    return TinyGuidanceModel()


@hookimpl
def register_generators(register: Register) -> None:
    """Offer ``tiny``."""
    register("tiny", tiny_generator, summary="Gaussian pixels, for tests", requires=("torch",), default=True)


@hookimpl
def register_guidance_models(register: Register) -> None:
    """Offer ``tiny``."""
    register(
        "tiny", tiny_guidance, summary="a colour per prompt, for tests", requires=("torch",), default=True
    )
