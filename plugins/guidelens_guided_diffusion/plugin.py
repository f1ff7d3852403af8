"""Register guided-diffusion: its networks as generators, and its classifiers of noisy pictures as guidance models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guidelens.contracts import FixedVariance, Prediction
from guidelens.errors import UsageError
from guidelens.hookspecs import Register, RegisterWeights, RunLength, hookimpl

from .description import Description, ScheduleName, read_classifier_flags, read_flags
from .presets import CLASSIFIERS, DEFAULT_CLASSIFIER, DEFAULT_PRESET, PRESETS, ClassifierName, PresetName
from .weights import WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

    from .checkpoint import Checkpoint
    from .classifier import NoisyClassifierGuidance
    from .generator import GuidedDiffusionGenerator, Label

logger = logging.getLogger(__name__)

Compile = Literal["false", "true", "auto"]
COMPILATION_PAYS = 200_000
"""Number of steps, times pictures, from which ``compile=auto`` compiles. Computed, not measured: two batch sizes of
the full-size network compile in about six minutes, and a compiled step saves about 2 ms per picture."""


@hookimpl
def register_generators(register: Register) -> None:
    """Offer ``guided-diffusion``."""
    register(
        "guided-diffusion",
        guided_diffusion,
        summary="OpenAI's guided-diffusion networks, from a checkpoint",
        requires=("torch", "safetensors"),
        settle=settle_compile,
    )


@hookimpl
def register_guidance_models(register: Register) -> None:
    """Offer ``noisy-classifier``."""
    register(
        "noisy-classifier",
        noisy_classifier,
        summary="OpenAI's classifiers of noisy pictures, for classifier guidance by ImageNet class",
        requires=("torch", "safetensors"),
    )


@hookimpl
def register_weights(register: RegisterWeights) -> None:
    """Register OpenAI's checkpoints."""
    for file in WEIGHTS.values():
        register(file)


def settle_compile(options: Mapping[str, Any], length: RunLength) -> Mapping[str, Any]:
    """Decide ``compile=auto``: true in runs on CUDA that are long enough to pay for compilation."""
    if options.get("compile") != "auto":
        return {}
    pays = length.device == "cuda" and length.pictures * length.steps >= COMPILATION_PAYS
    return {"compile": "true" if pays else "false"}


def guided_diffusion(
    checkpoint: Path | None = None,
    preset: PresetName | None = None,
    flags: Path | None = None,
    key: str | None = None,
    label: str = "",
    size: int | None = None,
    width: int | None = None,
    height: int | None = None,
    schedule: ScheduleName | None = None,
    prediction: Prediction | None = None,
    num_timesteps: int | None = None,
    rescale_timesteps: bool | None = None,
    fixed_variance: FixedVariance | None = None,
    use_checkpoint: bool = False,
    compile: Compile = "false",
    graphs: bool = False,
    untrained: bool = False,
    seed: int = 0,
) -> GuidedDiffusionGenerator:
    """Build the generator; the parameters are its options on the command line.

    :param checkpoint: OpenAI's ``.pt``, or ``.safetensors``; default: the fetched checkpoint of the preset. A file in
        guidelens's own format describes itself; ``preset`` or ``flags`` describe others.
    :param key: the entry of the checkpoint to read, such as ``ema``, if it holds several networks.
    :param preset: the published model in the checkpoint; default: ``imagenet256-uncond``.
    :param flags: a file with flags of :class:`UNetFlags` or of OpenAI's scripts, instead of a preset.
    :param label: the class to draw: number or ImageNet name, ``random`` (each picture's own, by its seed), ``none``.
    :param size: height and width of the pictures in pixels; default: those that the network was trained on.
    :param width: of the pictures, if other than the height.
    :param height: of the pictures, if other than the width.
    :param schedule: the training noise schedule; default: the preset's or flags', else ``linear``.
    :param prediction: the quantity that the network predicts; default: the preset's, or ``epsilon``.
    :param num_timesteps: T of the training process; default: the preset's or flags', else 1000.
    :param rescale_timesteps: the network was trained on t * 1000 / T.
    :param fixed_variance: Sigma of the reverse steps, if the network does not learn it; default: as the flags say.
    :param use_checkpoint: recompute stages in the backward pass: less memory, more time, the same results.
    :param compile: run the network with ``torch.compile``, which is slow to start; ``auto``: in long runs on CUDA.
    :param graphs: launch the kernels of small batches at once, as CUDA graphs; without effect on other devices.
    :param untrained: random weights instead of a checkpoint, for timings: the generator draws noise.
    :param seed: seed of the random weights.
    :raises UsageError: options contradict each other or the file.
    :raises GuidelensError: a file is missing, unreadable, or holds another network.
    """
    from .generator import described_generator

    checkpoint = _source("guided-diffusion", checkpoint, preset, flags, untrained, key)
    process = _process(schedule, prediction, num_timesteps, rescale_timesteps, fixed_variance)
    description, state = _described(checkpoint, key, preset, flags, process)
    return described_generator(
        description,
        state,
        source=str(checkpoint),
        label=_label(label, description),
        size=_size(size, width, height),
        use_checkpoint=use_checkpoint,
        compile=_compiles(compile),
        graphs=graphs,
        seed=seed,
    )


def _process(
    schedule: ScheduleName | None,
    prediction: Prediction | None,
    num_timesteps: int | None,
    rescale_timesteps: bool | None,
    fixed_variance: FixedVariance | None,
) -> dict[str, Any]:
    """Return the options that describe the diffusion process, by name; None where an option is not given."""
    return {
        "schedule": schedule,
        "prediction": prediction,
        "num_timesteps": num_timesteps,
        "rescale_timesteps": rescale_timesteps,
        "fixed_variance": fixed_variance,
    }


def _compiles(compile: Compile) -> bool:
    if compile == "auto":
        raise UsageError(
            "compile=auto is decided by guidelens compare, from the length of its run; here write compile=true or "
            "compile=false"
        )
    return compile == "true"


def _label(label: str, description: Description) -> Label | None:
    from .imagenet import class_index

    if not label:
        return None
    words: dict[str, Label] = {"random": "random", "none": "none"}
    if label in words:
        return words[label]
    return class_index(label, description.flags.num_classes or 1)


def _size(size: int | None, width: int | None, height: int | None) -> tuple[int | None, int | None]:
    """Return height and width.

    :raises UsageError: ``size`` is given together with width or height.
    """
    if size is not None and (width is not None or height is not None):
        raise UsageError("guided-diffusion takes size, or width and height, not both")
    return height or size, width or size


def noisy_classifier(
    checkpoint: Path | None = None,
    preset: ClassifierName | None = None,
    flags: Path | None = None,
    key: str | None = None,
    use_checkpoint: bool = False,
    untrained: bool = False,
    seed: int = 0,
) -> NoisyClassifierGuidance:
    """Build the classifier; the parameters are its options on the command line.

    :param checkpoint: OpenAI's ``.pt``, or ``.safetensors``; default: the fetched checkpoint of the preset.
    :param key: the entry of the checkpoint to read, such as ``ema``, if it holds several networks.
    :param preset: the published classifier in the checkpoint; default: ``imagenet256-classifier``.
    :param flags: a file with flags of :class:`EncoderFlags` or of OpenAI's scripts, instead of a preset.
    :param use_checkpoint: recompute stages in the backward pass: less memory, more time, the same results.
    :param untrained: random weights instead of a checkpoint, for timings.
    :param seed: seed of the random weights.
    :raises UsageError: options contradict each other.
    :raises GuidelensError: a file is missing, unreadable, or holds another network.
    """
    checkpoint = _source("noisy-classifier", checkpoint, preset, flags, untrained, key)
    from .checkpoint import build_encoder, read_checkpoint
    from .classifier import NoisyClassifierGuidance
    from .encoder import EncoderUNet
    from .untrained import untrained as random_network

    named = CLASSIFIERS[preset or DEFAULT_CLASSIFIER].flags
    wanted = named if flags is None else read_classifier_flags(flags)
    wanted = replace(
        wanted, use_checkpoint=use_checkpoint, use_fp16=False
    )  # the engine decides on the precision
    if checkpoint is None:
        return NoisyClassifierGuidance(random_network(EncoderUNet, wanted, seed))
    state = read_checkpoint(checkpoint, key=key).state
    return NoisyClassifierGuidance(build_encoder(wanted, state, source=str(checkpoint)))


_PUBLISHED: Mapping[str, Callable[[Any], str]] = {
    "guided-diffusion": lambda preset: PRESETS[preset or DEFAULT_PRESET].file_name,
    "noisy-classifier": lambda preset: CLASSIFIERS[preset or DEFAULT_CLASSIFIER].file_name,
}
"""File name of a preset's published checkpoint, by component. None stands for the default preset."""


def _source(
    name: str,
    checkpoint: Path | None,
    preset: str | None,
    flags: Path | None,
    untrained: bool,
    key: str | None,
) -> Path | None:
    """Return the checkpoint to read: the given one, or else the fetched one of the preset. None means random weights.

    :raises UsageError: options contradict each other.
    :raises GuidelensError: the file was not fetched.
    """
    _check_source(name, checkpoint, preset, flags, untrained, key)
    if untrained:
        logger.warning("%s has random weights (untrained=true); its output is meaningless", name)
        return None
    if checkpoint is not None:
        return checkpoint
    from guidelens.weights import require

    (path,) = require(name, [WEIGHTS[_PUBLISHED[name](preset)]], instead=f"give {name}:checkpoint=FILE")
    return path


def _check_source(
    name: str,
    checkpoint: Path | None,
    preset: str | None,
    flags: Path | None,
    untrained: bool,
    key: str | None,
) -> None:
    """:raises UsageError: two options give the network's weights, or two describe it."""
    if untrained and checkpoint is not None:
        raise UsageError(f"{name} takes checkpoint or untrained, not both")
    if untrained and key is not None:
        raise UsageError(
            f"{name}:key=NAME needs a checkpoint, but untrained=true reads none: leave out one of them"
        )
    if preset is not None and flags is not None:
        raise UsageError(f"{name} takes preset or flags, not both: a preset has its own flags")
    if flags is not None and checkpoint is None and not untrained:
        raise UsageError(f"{name}:flags=FILE describes a network of your own: give its checkpoint=FILE")


def _described(
    checkpoint: Path | None,
    key: str | None,
    preset: PresetName | None,
    flags: Path | None,
    process: dict[str, Any],
) -> tuple[Description, Mapping[str, Tensor] | None]:
    """Return the description of a network and its weights. The weights are None if they are random."""
    from .checkpoint import read_checkpoint

    content = None if checkpoint is None else read_checkpoint(checkpoint, key=key)
    description = _description(content, checkpoint, preset, flags, process)
    return description, None if content is None else content.state


def _description(
    content: Checkpoint | None,
    path: Path | None,
    preset: PresetName | None,
    flags: Path | None,
    process: dict[str, Any],
) -> Description:
    """Combine the description of the file or preset with the options that are not None."""
    given = {name: value for name, value in process.items() if value is not None}
    if content is None or content.description is None:
        base = PRESETS[preset or DEFAULT_PRESET].description if flags is None else read_flags(flags)
        described = _with_process(base, given)
        for guess in described.guesses:
            logger.warning("%s", guess)
        return described
    if superfluous := [name for name, value in (("preset", preset), ("flags", flags)) if value is not None]:
        raise UsageError(f"{path} describes its own network: leave out the option {superfluous[0]}")
    for name, value in given.items():
        if value != getattr(content.description, name):
            raise UsageError(
                f"{path} was trained with {name}={getattr(content.description, name)}, not {value}: leave it out"
            )
    return content.description


def _with_process(base: Description, given: Mapping[str, Any]) -> Description:
    """Return the description with the user's options for the process, and update its guesses."""
    guesses = base.guesses
    if "rescale_timesteps" in given:
        guesses = tuple(guess for guess in guesses if "rescale_timesteps" not in guess)
    elif given.get("num_timesteps", base.num_timesteps) != base.num_timesteps and not base.rescale_timesteps:
        guesses += (
            f"num_timesteps={given['num_timesteps']} without rescale_timesteps: the network receives t itself; give"
            " rescale_timesteps=true if it was trained by improved-diffusion",
        )
    return replace(base, **given, guesses=guesses)
