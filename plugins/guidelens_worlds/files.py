"""The files that a world includes, and the models in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from guidelens_blip import BlipGuidance
    from guidelens_guided_diffusion import GuidedDiffusionGenerator

Variant = Literal["x0", "clean"]


@dataclass(frozen=True)
class WorldFiles:
    """The files that are included in a world.

    :param folder: has the weights ``generator.safetensors``, ``blip.safetensors`` and ``blip-clean.safetensors``, and
        the WordPiece vocabulary ``vocab.txt``.
    :param default_scales: c_k per objective of the included BLIP, for gradients shifted by Sigma
        (guidelens.Sampling.objective_scales).
    """

    folder: Path
    default_scales: Mapping[str, float]

    @property
    def generator(self) -> Path:
        """Weights of its generator."""
        return self.folder / "generator.safetensors"

    @property
    def blip(self) -> Path:
        """Weights of its BLIP."""
        return self.folder / "blip.safetensors"

    @property
    def blip_clean(self) -> Path:
        """Weights of a BLIP that saw no x0 predictions of the generator."""
        return self.folder / "blip-clean.safetensors"

    @property
    def vocab(self) -> Path:
        """The WordPiece vocabulary of its BLIP."""
        return self.folder / "vocab.txt"

    def load_generator(self, weights: Path | None = None) -> GuidedDiffusionGenerator:
        """Load the included UNet, or one from ``weights``."""
        from guidelens_guided_diffusion import load_generator

        return load_generator(weights or self.generator)

    def load_blip(
        self,
        variant: Variant = "x0",
        *,
        weights: Path | None = None,
        itm: Literal["nll", "margin"] = "nll",
        label_smoothing: float = 0.0,
        clean: bool = True,
    ) -> BlipGuidance:
        """Load the included BLIP, or one from ``weights``.

        :param variant: ``x0`` was also trained on x0 predictions of the generator, ``clean`` only on rendered pictures
            and blurred or noisy versions of them.
        :param weights: a file of ``train-blip``, instead of an included variant.
        :param itm: see :class:`guidelens_blip.BlipOptions`, like the next two.
        """
        from guidelens_blip import BlipOptions, load_blip

        return load_blip(
            weights or (self.blip if variant == "x0" else self.blip_clean),
            vocab=self.vocab,
            options=BlipOptions(itm_mode=itm, label_smoothing=label_smoothing, clean=clean),
            default_scales=self.default_scales,
        )
