"""The included BLIP as a guidance model. A sweep chose its default scales (see the model card)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from guidelens_blip import BlipGuidance, BlipOptions, load_blip

from .files import BLIP, BLIP_CLEAN, VOCAB

DEFAULT_SCALES: Mapping[str, float] = {"itc": 500.0, "itm": 15.0, "cap": 60.0}
"""c_k per objective, for gradients shifted by Sigma (guidelens.Sampling.objective_scales)."""


def load_guidance(
    variant: Literal["x0", "clean"] = "x0",
    *,
    weights: Path | None = None,
    itm: Literal["nll", "margin"] = "nll",
    label_smoothing: float = 0.0,
    clean: bool = True,
) -> BlipGuidance:
    """Load the included BLIP, or one from ``weights``.

    :param variant: ``x0`` was also trained on x0 predictions of the generator, ``clean`` only on rendered pictures
        and blurred or noisy versions of them.
    :param weights: a file of ``guidelens shapes train-blip``, instead of an included variant.
    :param itm: see :class:`guidelens_blip.BlipOptions`, like the next two.
    """
    return load_blip(
        weights or (BLIP if variant == "x0" else BLIP_CLEAN),
        vocab=VOCAB,
        options=BlipOptions(itm_mode=itm, label_smoothing=label_smoothing, clean=clean),
        default_scales=DEFAULT_SCALES,
    )
