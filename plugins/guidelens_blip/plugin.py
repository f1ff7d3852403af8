"""Register BLIP as the guidance model ``blip``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from guidelens.errors import GuidelensError, UsageError
from guidelens.hookspecs import Register, RegisterWeights, hookimpl

from .weights import CHECKPOINTS, OF_PRESET, VOCABULARY, published_vocabulary

if TYPE_CHECKING:
    from .config import BlipConfig
    from .guidance import BlipGuidance


@hookimpl
def register_guidance_models(register: Register) -> None:
    """Offer ``blip``."""
    register(
        "blip",
        blip,
        summary="BLIP's ITC, ITM and CAP, by a pretrained checkpoint (guidelens weights fetch blip-base)",
        requires=("torch", "safetensors", "tokenizers"),
    )


@hookimpl
def register_weights(register: RegisterWeights) -> None:
    """Name the published checkpoints with all three heads, and their vocabulary."""
    for file in (*CHECKPOINTS.values(), VOCABULARY):
        register(file)


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
    clean: bool = True,
    backend: Literal["native", "lavis"] = "native",
    untrained: bool = False,
    seed: int = 0,
    key: str | None = None,
) -> BlipGuidance:
    """Build the guidance model; the parameters are its options on the command line.

    :param checkpoint: weights: a file, ``.safetensors`` or LAVIS's ``.pth``, a folder of transformers, or the name of a
        published one that was fetched; default: that of ``config``. It offers the objectives that it has heads for.
    :param vocab: WordPiece vocabulary file; default: the one beside the checkpoint, else bert-base-uncased's.
    :param config: ``base``, ``large`` or a JSON file of :class:`BlipConfig`; default: the checkpoint's own, or
        ``base``.
    :param image_size: side in pixels that the network sees, where it is not the configuration's.
    :param itc: ``cosine`` or ``infonce`` (which needs ``negatives``).
    :param temperature: divides the cosine; a number, or ``learned`` for the model's own.
    :param negatives: prompts to contrast with, separated by ``|``.
    :param itm: ``nll`` (-log p(match)) or ``margin`` (of the logits).
    :param label_smoothing: of the caption loss, in [0, 1).
    :param clean: clean prompts as BLIP's training cleaned its captions: lower case, without ``.!"()*#:;~``.
    :param backend: ``native``, our own network, or ``lavis``, LAVIS's (Python 3.10 and 3.11, extra ``lavis``): the
        losses are the same.
    :param untrained: random weights in place of a checkpoint: its losses mean nothing, and cost what the real ones do.
    :param seed: of the random weights.
    :param key: the entry of the checkpoint that is the network, where several are, such as ``ema``.
    :raises UsageError: an option out of range, or ``checkpoint`` with ``untrained``.
    :raises GuidelensError: a file is missing, unreadable, or holds another model.
    """
    if untrained and checkpoint:
        raise UsageError("blip takes checkpoint or untrained, not both")
    path = None if untrained else _checkpoint(checkpoint, vocab, config)
    from .guidance import BlipGuidance, BlipOptions, load_blip

    options = BlipOptions(
        itc_mode=itc,
        temperature=_temperature(temperature),
        negatives=tuple(prompt.strip() for prompt in negatives.split("|") if prompt.strip()),
        itm_mode=itm,
        label_smoothing=label_smoothing,
        clean=clean,
    )
    if path is None:
        from .config import PRESETS
        from .untrained import untrained_blip

        chosen = _config(config) or PRESETS["base"]
        chosen = chosen if image_size is None else chosen.with_image_size(image_size)
        return BlipGuidance(untrained_blip(chosen, vocab or None, seed, backend), chosen, options)
    return load_blip(
        path,
        vocab=vocab or None,
        config=_config(config),
        image_size=image_size,
        options=options,
        backend=backend,
        key=key,
    )


def _checkpoint(text: str, vocab: str, config: str) -> Path:
    """Return the checkpoint that the options mean: a file, or a published one from the cache of weights.

    :raises WeightsMissing: a published one, or the vocabulary that it needs, is not there.
    """
    if text and (text not in CHECKPOINTS or Path(text).expanduser().is_file()):
        return Path(text).expanduser()
    from guidelens.weights import require, target

    published = CHECKPOINTS[text] if text else OF_PRESET.get(config or "base")
    if published is None:
        raise UsageError(f"blip:config={config} is no published size, so it needs checkpoint=FILE as well")
    beside = target(published).parent / VOCABULARY.filename
    needs_vocab = not vocab and not beside.is_file() and published_vocabulary() is None
    needed = [published, VOCABULARY] if needs_vocab else [published]
    return require("blip", needed, instead="give blip:checkpoint=FILE,vocab=FILE")[0]


def _temperature(text: str) -> float | Literal["learned"]:
    if text == "learned":
        return "learned"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"temperature must be a number or 'learned', not {text!r}") from None


def _config(text: str) -> BlipConfig | None:
    """Read the ``config`` option: nothing, a preset's name, or a JSON file."""
    from .config import PRESETS, BlipConfig

    if not text:
        return None
    if text in PRESETS:
        return PRESETS[text]
    try:
        return BlipConfig.from_json(Path(text).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        presets = ", ".join(PRESETS)
        raise GuidelensError(
            f"config {text!r} is none of {presets}, and no readable file: {error}"
        ) from error
