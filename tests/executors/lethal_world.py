"""A guidance model that kills its process for a prompt that says so, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from brittle_world import BrittleGuidance
from guidelens.contracts import TextBatch
from guidelens.hookspecs import Register, hookimpl
from torch import Tensor


class LethalGuidance(BrittleGuidance):
    """As the brittle one, but deadly.

    :param fuse: a file that the one to die removes; nothing happens where it is absent.
    """

    name = "lethal"
    fingerprint = "lethal-1"

    def __init__(self, fuse: str) -> None:
        self.fuse = Path(fuse)

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        if any("kill" in prompt for prompt in text.prompts):
            with suppress(FileNotFoundError):
                self.fuse.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().losses(images, text, objectives)


@hookimpl
def register_guidance_models(register: Register) -> None:
    register("lethal", LethalGuidance, summary="kills where the prompt says so")
