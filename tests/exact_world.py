"""The tiny components of the kit, movable by ``to(device, dtype)`` exactly as documented, and by nothing else.

Networks refuse images until they were moved, so that a command which forgets to place them fails. It is a plugin:
``--plugin tests/exact_world.py``. ``features`` makes an extractor of the same kind.
"""

from __future__ import annotations

from typing import Any

import torch
from guidelens.hookspecs import Register, hookimpl
from guidelens.testing import TinyGenerator, TinyGuidanceModel
from torch import Tensor


class Movable:
    """Takes a device and a dtype, both by position, and no keyword."""

    placed: tuple[torch.device, torch.dtype] | None = None

    def to(self, device: torch.device, dtype: torch.dtype, /) -> Movable:
        assert isinstance(device, torch.device)
        assert isinstance(dtype, torch.dtype)
        self.placed = (device, dtype)
        return self

    def check_placed(self) -> None:
        if self.placed is None:
            raise RuntimeError("was not placed")


class ExactGenerator(Movable, TinyGenerator):
    def __call__(self, x_t: Tensor, timesteps: Tensor, /) -> Tensor:
        self.check_placed()
        return super().__call__(x_t, timesteps)


class ExactGuidance(Movable, TinyGuidanceModel):
    def losses(self, *arguments: Any) -> dict[str, Tensor]:
        self.check_placed()
        return super().losses(*arguments)

    def image_features(self, images: Tensor) -> Tensor:
        self.check_placed()
        return images.mean((2, 3))


class features(Movable):  # named on the command line like a function
    def __call__(self, images: Tensor) -> Tensor:
        self.check_placed()
        return images.mean((2, 3))

    def eval(self) -> None:
        """A method of this name does not make it a module."""


@hookimpl
def register_generators(register: Register) -> None:
    register("exact", ExactGenerator, summary="8x8 pixels", default=True)


@hookimpl
def register_guidance_models(register: Register) -> None:
    register("exact-vl", ExactGuidance, summary="a colour by prompt", default=True)
