"""Register BLIP as the guidance model ``blip``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
        summary="BLIP's objectives ITC, ITM and CAP, from a pretrained checkpoint",
        requires=("torch", "safetensors", "tokenizers"),
    )


@hookimpl
def register_weights(register: RegisterWeights) -> None:
    """Register the published checkpoints that have all three heads, and their vocabulary."""
    for file in (*CHECKPOINTS.values(), VOCABULARY):
        register(file)


def blip(
    checkpoint: Annotated[str, "path"] = "",
    vocab: Annotated[str, "path"] = "",
    config: Annotated[str, "path"] = "",
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
    weights: Literal["float32", "bfloat16", "float16"] = "float32",
) -> BlipGuidance:
    """Build the guidance model; the parameters are its options on the command line.

    :param checkpoint: a ``.safetensors`` file, LAVIS's ``.pth``, a folder of transformers, or the name of a fetched
        checkpoint. Default: the published one of ``config``. Its heads decide which objectives there are.
    :param vocab: WordPiece vocabulary file; default: the one beside the checkpoint, else bert-base-uncased's.
    :param config: ``base``, ``large`` or a JSON file of :class:`BlipConfig`; default: the checkpoint's, else ``base``.
    :param image_size: side in pixels of the network's input; default: the configuration's.
    :param itc: ``cosine`` or ``infonce`` (which needs ``negatives``).
    :param temperature: divides the cosine: a number, or ``learned`` for the model's own.
    :param negatives: prompts to contrast with, separated by ``|``.
    :param itm: ``nll`` (-log p(match)) or ``margin`` (difference of the logits).
    :param label_smoothing: label smoothing of the caption loss, in [0, 1).
    :param clean: clean prompts as BLIP's training cleaned its captions: lower case, without ``.!"()*#:;~``.
    :param backend: implementation: ``native`` (ours) or ``lavis`` (Python 3.10 and 3.11). The losses are the same.
    :param untrained: random weights instead of a checkpoint, for timings: the losses are meaningless.
    :param seed: seed of the random weights.
    :param key: the entry of the checkpoint to read, such as ``ema``, if it holds several networks.
    :param weights: precision in which the weights are kept, and BLIP computes; half precision halves the memory.
    :raises UsageError: an option is out of range, or both ``checkpoint`` and ``untrained`` are given.
    :raises GuidelensError: a file is missing, unreadable, or holds another model.
    """
    _check_fit(untrained, checkpoint, backend, weights)
    path = None if untrained else _checkpoint(checkpoint, vocab, config)
    from guidelens.networks import DTYPES

    from .guidance import BlipGuidance, BlipOptions, load_blip

    options = BlipOptions(itc, _temperature(temperature), _split(negatives), itm, label_smoothing, clean)
    size = _config(config)
    words = vocab or None
    if path is None:
        network, size = _untrained(size, image_size, words, seed, backend)
        return BlipGuidance(network, size, options, weights=DTYPES[weights])
    return load_blip(
        path,
        vocab=words,
        config=size,
        image_size=image_size,
        options=options,
        backend=backend,
        key=key,
        weights=DTYPES[weights],
    )


def _check_fit(untrained: bool, checkpoint: str, backend: str, weights: str) -> None:
    if untrained and checkpoint:
        raise UsageError("blip takes checkpoint or untrained, not both")
    if backend == "lavis" and weights != "float32":
        raise UsageError(f"weights={weights} needs backend=native; LAVIS runs with float32 weights")


def _untrained(
    config: BlipConfig | None,
    image_size: int | None,
    vocab: str | None,
    seed: int,
    backend: Literal["native", "lavis"],
) -> tuple[Any, BlipConfig]:
    """Return a network with random weights and its size, which is ``base`` if ``config`` is None."""
    from .config import PRESETS
    from .untrained import untrained_blip

    config = config or PRESETS["base"]
    if image_size is not None:
        config = config.with_image_size(image_size)
    return untrained_blip(config, vocab, seed, backend), config


def _split(negatives: str) -> tuple[str, ...]:
    return tuple(prompt.strip() for prompt in negatives.split("|") if prompt.strip())


def _checkpoint(text: str, vocab: str, config: str) -> Path:
    """Return the checkpoint that the options select: a file, or a published one from the cache of weights.

    :raises WeightsMissing: the published checkpoint, or its vocabulary, has not been fetched.
    """
    if text and (text not in CHECKPOINTS or Path(text).expanduser().is_file()):
        return Path(text).expanduser()
    from guidelens.weights import require, target

    published = CHECKPOINTS[text] if text else OF_PRESET.get(config or "base")
    if published is None:
        raise UsageError(f"blip:config={config} is not a published size: give checkpoint=FILE as well")
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
            f"config must be one of {presets} or a JSON file, not {text!r}: {error}"
        ) from error
