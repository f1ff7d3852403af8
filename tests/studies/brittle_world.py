"""A guidance model that fails where the prompt says so, as a plugin; see the tiny world for the rest."""

from __future__ import annotations

from collections.abc import Collection

from guidelens.contracts import TextBatch
from guidelens.hookspecs import Register, hookimpl
from tiny_world import TinyGuidance
from torch import Tensor


class BrittleGuidance(TinyGuidance):
    """Raises for a prompt that tells it to explode, and gives no finite gradient for one that says nan."""

    name = "brittle"
    fingerprint = "brittle-1"
    healed = False

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        if not self.healed and any("explode" in prompt for prompt in text.prompts):
            raise RuntimeError("it\nexploded")
        return super().losses(images, text, objectives)


@hookimpl
def register_guidance_models(register: Register) -> None:
    register("brittle", BrittleGuidance, summary="fails where the prompt says so")
