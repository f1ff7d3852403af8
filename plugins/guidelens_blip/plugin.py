"""Register BLIP as the guidance model ``blip``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from guidelens.errors import GuidelensError, UsageError
from guidelens.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from .architecture import BlipConfig
    from .guidance import BlipGuidance

CHECKPOINT_NAME = "model_base_capfilt_large.pth"


@hookimpl
def register_guidance_models(register: Register) -> None:
    """Offer ``blip``."""
    register(
        "blip",
        blip,
        summary="BLIP's ITC, ITM and CAP, by a pretrained checkpoint (checkpoint=PATH)",
        requires=("torch", "safetensors", "transformers", "timm", "lavis"),
    )


def blip(
    checkpoint: str = "",
    vocab: str = "",
    config: str = "",
    image_size: int | None = None,
    itc: Literal["cosine", "infonce"] = "cosine",
    temperature: str = "1.0",
    negatives: str = "",
    itm: Literal["nll", "margin"] = "nll",
    label_smoothing: float = 0.0,
) -> BlipGuidance:
    """Build the guidance model; the parameters are its options on the command line.

    :param checkpoint: weights, ``.safetensors`` or LAVIS's ``.pth``; needed.
    :param vocab: WordPiece vocabulary file; default: the one beside the checkpoint, else (size ``base``)
        bert-base-uncased's from the local Hugging Face cache.
    :param config: ``base`` or a JSON file of :class:`BlipConfig`; default: the checkpoint's own, or ``base``.
    :param image_size: side in pixels that the network sees, where it is not the configuration's.
    :param itc: ``cosine`` or ``infonce`` (which needs ``negatives``).
    :param temperature: divides the cosine; a number, or ``learned`` for the model's own.
    :param negatives: prompts to contrast with, separated by ``|``.
    :param itm: ``nll`` (-log p(match)) or ``margin`` (of the logits).
    :param label_smoothing: of the caption loss, in [0, 1).
    :raises UsageError: no checkpoint given, or an option out of range.
    :raises GuidelensError: a file is missing, unreadable, or holds another model.
    """
    from .architecture import WEIGHTS_URL

    if not checkpoint:
        raise UsageError(
            f"blip needs its weights: download {WEIGHTS_URL} and give blip:checkpoint=PATH/{CHECKPOINT_NAME}"
        )
    from .guidance import BlipOptions, load_blip

    options = BlipOptions(
        itc_mode=itc,
        temperature=_temperature(temperature),
        negatives=tuple(prompt.strip() for prompt in negatives.split("|") if prompt.strip()),
        itm_mode=itm,
        label_smoothing=label_smoothing,
    )
    return load_blip(
        checkpoint, vocab=vocab or None, config=_config(config), image_size=image_size, options=options
    )


def _temperature(text: str) -> float | Literal["learned"]:
    if text == "learned":
        return "learned"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"temperature must be a number or 'learned', not {text!r}") from None


def _config(text: str) -> BlipConfig | None:
    """Read the ``config`` option: nothing, a preset's name, or a JSON file."""
    from .architecture import PRESETS, BlipConfig

    if not text:
        return None
    if text in PRESETS:
        return PRESETS[text]
    try:
        return BlipConfig.from_json(Path(text).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        presets = ", ".join(PRESETS)
        raise GuidelensError(f"config {text!r} is neither {presets} nor a readable file: {error}") from error
