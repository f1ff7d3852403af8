"""Register guided-diffusion checkpoints as the generator ``guided-diffusion``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Prediction
from guidelens.errors import UsageError
from guidelens.hookspecs import Register, RegisterWeights, hookimpl

from .presets import DEFAULT_PRESET, PRESETS, PresetName, ScheduleName
from .weights import WEIGHTS

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .generator import GuidedDiffusionGenerator


@hookimpl
def register_generators(register: Register) -> None:
    """Offer ``guided-diffusion``."""
    register(
        "guided-diffusion",
        guided_diffusion,
        summary="an unconditional OpenAI guided-diffusion checkpoint",
        requires=("torch", "safetensors"),
    )


@hookimpl
def register_weights(register: RegisterWeights) -> None:
    """Name OpenAI's checkpoints."""
    for file in WEIGHTS.values():
        register(file)


def guided_diffusion(
    checkpoint: Path | None = None,
    preset: PresetName | None = None,
    flags: Path | None = None,
    schedule: ScheduleName | None = None,
    prediction: Prediction | None = None,
    num_timesteps: int | None = None,
    use_checkpoint: bool = False,
    untrained: bool = False,
) -> GuidedDiffusionGenerator:
    """Build the generator; the parameters are its options on the command line.

    A file in guidelens's own format says what it holds, so that it needs none of the other options. Any other
    checkpoint is taken for ``preset``, with ``flags`` for that of another network.

    :param checkpoint: weights: OpenAI's ``.pt``, or ``.safetensors``; default: the preset's, where
        ``guidelens weights fetch`` put it.
    :param preset: the published model that the checkpoint is; default ``imagenet256-uncond``.
    :param flags: a JSON file of :class:`UNetFlags`, for a network that is no preset.
    :param schedule: the training noise schedule; default: the preset's, or ``linear`` with ``flags``.
    :param prediction: what the network was trained to predict; default: the preset's, or ``epsilon``.
    :param num_timesteps: T of the training process; default: the preset's, or 1000.
    :param use_checkpoint: recompute stages in the backward pass: less memory, more time, the same numbers.
    :param untrained: random weights in place of a checkpoint: it draws noise, and costs what the real one does.
    :raises UsageError: options that contradict each other or the file.
    :raises GuidelensError: a file is missing, unreadable, or holds another network.
    """
    if untrained and checkpoint is not None:
        raise UsageError("guided-diffusion takes checkpoint or untrained, not both")
    if checkpoint is None and not untrained:
        if flags is not None:
            raise UsageError(
                "guided-diffusion:flags=FILE describes a network of your own: give its checkpoint=FILE"
            )
        from guidelens.weights import require

        file = WEIGHTS[PRESETS[preset or DEFAULT_PRESET].file_name]
        (checkpoint,) = require("guided-diffusion", [file], instead="give guided-diffusion:checkpoint=FILE")
    if preset is not None and flags is not None:
        raise UsageError("guided-diffusion takes preset or flags, not both: a preset has its own flags")
    from .checkpoint import read_checkpoint
    from .generator import described_generator

    given = {"schedule": schedule, "prediction": prediction, "num_timesteps": num_timesteps}
    given = {name: value for name, value in given.items() if value is not None}
    if checkpoint is None:
        from .checkpoint import Checkpoint
        from .generator import untrained_generator

        description = _description(Checkpoint({}), Path(), preset, flags, given)
        return untrained_generator(description, use_checkpoint=use_checkpoint)
    content = read_checkpoint(checkpoint)
    description = _description(content, checkpoint, preset, flags, given)
    return described_generator(content, description, source=str(checkpoint), use_checkpoint=use_checkpoint)


def _description(
    content: Checkpoint, path: Path, preset: PresetName | None, flags: Path | None, given: dict[str, Any]
) -> dict[str, Any]:
    """Merge what the file, the preset and the options say."""
    from .flags import UNetFlags

    if content.description is None:
        base = PRESETS[preset or DEFAULT_PRESET]
        unet = base.flags if flags is None else UNetFlags.from_json(flags)
        process = {
            "schedule": base.schedule if flags is None else "linear",
            "prediction": base.prediction if flags is None else "epsilon",
            "num_timesteps": base.num_timesteps if flags is None else 1000,
        }
        return {"flags": unet.to_dict(), **process, **given}
    if superfluous := [name for name, value in (("preset", preset), ("flags", flags)) if value is not None]:
        raise UsageError(f"{path} describes its own network: leave out the option {superfluous[0]}")
    for name, value in given.items():
        if value != content.description[name]:
            raise UsageError(
                f"{path} was trained with {name}={content.description[name]}, not {value}: leave it out"
            )
    return content.description
