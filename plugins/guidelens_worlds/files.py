"""The files that a world includes, and the models in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from guidelens.errors import UsageError

if TYPE_CHECKING:
    from guidelens_blip import BlipGuidance
    from guidelens_guided_diffusion import GuidedDiffusionGenerator

Variant = Literal["x0", "clean"]


@dataclass(frozen=True)
class WorldFiles:
    """The files that are included in a world.

    :param world: the name of the world.
    :param vocab: the WordPiece vocabulary of its BLIP.
    :param generator: weights of its generator; None if none are included.
    :param blip: weights of its BLIP; None if none are included.
    :param blip_clean: weights of a BLIP that saw no x0 predictions of the generator.
    :param default_scales: c_k per objective of the included BLIP, for gradients shifted by Sigma
        (guidelens.Sampling.objective_scales).
    """

    world: str
    vocab: Path
    generator: Path | None = None
    blip: Path | None = None
    blip_clean: Path | None = None
    default_scales: Mapping[str, float] | None = None

    def load_generator(self, weights: Path | None = None) -> GuidedDiffusionGenerator:
        """Load the included UNet, or one from ``weights``.

        :raises UsageError: no weights are included or given.
        """
        from guidelens_guided_diffusion import load_generator

        return load_generator(
            weights or self._included(self.generator, "generator", "gen/generator.safetensors")
        )

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
        :raises UsageError: no weights are included or given.
        """
        from guidelens_blip import BlipOptions, load_blip

        included = self.blip if variant == "x0" else self.blip_clean
        return load_blip(
            weights or self._included(included, "blip", "blip/blip.safetensors"),
            vocab=self.vocab,
            options=BlipOptions(itm_mode=itm, label_smoothing=label_smoothing, clean=clean),
            default_scales=self.default_scales,
        )

    def _included(self, path: Path | None, model: str, trained: str) -> Path:
        if path is None:
            raise UsageError(
                f"the {self.world} world includes no weights of its {model}: run `guidelens {self.world} "
                f"train-{model} --out {trained.partition('/')[0]}`, then give {self.world}:weights={trained}"
            )
        return path
