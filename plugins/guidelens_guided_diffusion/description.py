"""The description of a checkpoint: its network's flags and its training process. Does not import torch.

There are two kinds of flags. Constructor flags are :class:`.flags.UNetFlags`. The flags of OpenAI's scripts, which its
README and many others list, differ from them:

- ``num_channels`` is the width;
- ``attention_resolutions`` are in pixels ("32,16,8");
- the default of ``channel_mult`` depends on the image size;
- ``learn_sigma`` doubles the output channels;
- ``class_cond`` means the 1000 classes of ImageNet;
- they also describe the training process.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from guidelens.contracts import FixedVariance, Prediction
from guidelens.errors import UsageError

from .flag_files import read_flags_file
from .flags import EncoderFlags, UNetFlags

logger = logging.getLogger("guidelens.guided_diffusion")

ScheduleName = Literal["linear", "cosine"]

IMAGENET_CLASSES = 1000
CHANNEL_MULT: Mapping[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}
"""Default channel multipliers of OpenAI's scripts, by image size."""
IMPROVED_32: tuple[float, ...] = (1, 2, 2, 2)
"""Channel multipliers of improved-diffusion at 32 pixels, a size that guided-diffusion's scripts lack."""

_SCRIPT_DEFAULTS: dict[str, Any] = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "num_heads": 4,
    "num_heads_upsample": -1,
    "num_head_channels": -1,
    "attention_resolutions": "16,8",
    "channel_mult": "",
    "dropout": 0.0,
    "class_cond": False,
    "use_checkpoint": False,
    "use_scale_shift_norm": True,
    "resblock_updown": False,
    "use_fp16": False,
    "use_new_attention_order": False,
    "learn_sigma": False,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "predict_xstart": False,
    "rescale_timesteps": False,
    "sigma_small": False,
}
_CLASSIFIER_DEFAULTS: dict[str, Any] = {
    "image_size": 64,
    "classifier_use_fp16": False,
    "classifier_width": 128,
    "classifier_depth": 2,
    "classifier_attention_resolutions": "32,16,8",
    "classifier_use_scale_shift_norm": True,
    "classifier_resblock_updown": True,
    "classifier_pool": "attention",
}
_ONLY_GUIDED = ("num_head_channels", "channel_mult", "resblock_updown", "use_fp16", "use_new_attention_order")
"""Network flags that guided-diffusion's scripts have, and improved-diffusion's lack."""
OF_A_RUN = frozenset(
    {
        *(
            "use_kl",
            "rescale_learned_sigmas",
            "timestep_respacing",
            "clip_denoised",
            "num_samples",
            "use_ddim",
        ),
        *("model_path", "base_samples", "classifier_path", "classifier_scale", "data_dir", "val_data_dir"),
        *(
            "schedule_sampler",
            "lr",
            "weight_decay",
            "lr_anneal_steps",
            "anneal_lr",
            "batch_size",
            "microbatch",
        ),
        *("ema_rate", "log_interval", "save_interval", "eval_interval", "resume_checkpoint", "iterations"),
        *("fp16_scale_growth", "noised", "local_rank"),
    }
)
"""Flags of OpenAI's scripts that concern training and sampling, not the network. They are ignored."""
_TRUTH = {"true": True, "yes": True, "t": True, "y": True, "1": True}
_TRUTH |= {"false": False, "no": False, "f": False, "n": False, "0": False}


@dataclass(frozen=True)
class Description:
    """A network and its training process.

    :param flags: constructor flags of the network.
    :param schedule: the training noise schedule.
    :param prediction: the quantity that the network predicts (the first channels of its output).
    :param num_timesteps: T of the training process.
    :param rescale_timesteps: the network's input is t * 1000 / T instead of t.
    :param fixed_variance: Sigma of the reverse steps, if the network does not learn it; None: guidelens decides.
    :param guesses: what was guessed because flags leave it open, in a sentence each.
    """

    flags: UNetFlags
    schedule: ScheduleName = "linear"
    prediction: Prediction = "epsilon"
    num_timesteps: int = 1000
    rescale_timesteps: bool = False
    fixed_variance: FixedVariance | None = None
    guesses: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON types. Rarely used entries are left out at their default."""
        values = {**asdict(self), "flags": self.flags.to_dict()}
        for name in ("rescale_timesteps", "fixed_variance"):
            if not values[name]:
                del values[name]
        del values["guesses"]
        return values

    def with_flags(self, **changes: Any) -> Description:
        """Return a copy with some flags changed."""
        return replace(self, flags=UNetFlags.from_mapping({**self.flags.to_dict(), **changes}))


def from_script(values: Mapping[str, Any]) -> Description:
    """Translate the flags of OpenAI's sampling scripts. Missing flags have the defaults of the scripts.

    The scripts of improved-diffusion (Nichol & Dhariwal 2021) take the same flags, but have other defaults. They
    rescale timesteps, which matters unless T = 1000, and have multipliers for 32 pixels. If ``values`` has a flag that
    only guided-diffusion has, the flags are guided-diffusion's. Otherwise, a T other than 1000 or a size of 32 pixels
    is taken to mean improved-diffusion, and ``guesses`` says so.

    :param values: text or numbers by flag name, without dashes.
    :raises UsageError: a flag is unknown, or the values do not describe a network and process.
    """
    given = _script_values(values, _SCRIPT_DEFAULTS)
    size = given["image_size"]
    mult = given["channel_mult"]
    improved, guesses = _improved(values, given)
    if improved and "rescale_timesteps" not in values:
        given["rescale_timesteps"] = True
    flags = UNetFlags(
        image_size=size,
        in_channels=3,
        model_channels=given["num_channels"],
        out_channels=6 if given["learn_sigma"] else 3,
        num_classes=IMAGENET_CLASSES if given["class_cond"] else None,
        channel_mult=_numbers("channel_mult", mult) if mult else _default_mult(size, improved=improved),
        attention_resolutions=_factors(size, given["attention_resolutions"]),
        **{
            name: given[name]
            for name in (
                *("num_res_blocks", "num_heads", "num_heads_upsample", "num_head_channels", "dropout"),
                *("use_checkpoint", "use_scale_shift_norm", "resblock_updown", "use_fp16"),
                "use_new_attention_order",
            )
        },
    )
    if given["noise_schedule"] not in ("linear", "cosine"):
        raise UsageError(f"noise_schedule is linear or cosine, not {given['noise_schedule']!r}")
    fixed: FixedVariance = "small" if given["sigma_small"] else "large"
    return Description(
        flags=flags,
        schedule=given["noise_schedule"],
        prediction="x0" if given["predict_xstart"] else "epsilon",
        num_timesteps=given["diffusion_steps"],
        rescale_timesteps=given["rescale_timesteps"],
        fixed_variance=None if given["learn_sigma"] else fixed,
        guesses=guesses,
    )


def _improved(values: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """Return whether the flags are assumed to be improved-diffusion's, and what was guessed from that."""
    steps, size = given["diffusion_steps"], given["image_size"]
    if any(name in values for name in _ONLY_GUIDED) or (steps == 1000 and size != 32):
        return False, ()
    guesses = []
    if "rescale_timesteps" not in values and steps != 1000:
        guesses.append(
            f"flags with diffusion_steps={steps} and without rescale_timesteps are taken for improved-diffusion's,"
            " whose networks receive t * 1000 / T: give rescale_timesteps=false if this one was trained by"
            " guided-diffusion"
        )
    if size == 32:
        guesses.append(
            "flags with image_size=32 and without channel_mult are taken for improved-diffusion's, with channel_mult"
            " 1,2,2,2"
        )
    return True, tuple(guesses)


def from_classifier_script(values: Mapping[str, Any]) -> EncoderFlags:
    """Translate the classifier flags of OpenAI's scripts in the same way as :func:`from_script`."""
    given = _script_values(values, _CLASSIFIER_DEFAULTS)
    size = given["image_size"]
    return EncoderFlags(
        image_size=size,
        in_channels=3,
        model_channels=given["classifier_width"],
        out_channels=IMAGENET_CLASSES,
        num_res_blocks=given["classifier_depth"],
        attention_resolutions=_factors(size, given["classifier_attention_resolutions"]),
        channel_mult=_default_mult(size),
        use_fp16=given["classifier_use_fp16"],
        num_head_channels=64,
        use_scale_shift_norm=given["classifier_use_scale_shift_norm"],
        resblock_updown=given["classifier_resblock_updown"],
        pool=given["classifier_pool"],
    )


def read_flags(path: Path) -> Description:
    """Read a file of flags: the constructor's as a JSON object, or a script's as JSON or as its command line.

    :raises GuidelensError: the file cannot be read, or is neither.
    :raises UsageError: unknown flags, or values that do not fit.
    """
    values = read_flags_file(path)
    if "num_channels" in values or "noise_schedule" in values:
        return from_script(values)
    return Description(UNetFlags.from_mapping(values))


def read_classifier_flags(path: Path) -> EncoderFlags:
    """Read a file of a classifier's flags, in either way of :func:`read_flags`.

    :raises GuidelensError, UsageError: as :func:`read_flags`.
    """
    values = read_flags_file(path)
    if "model_channels" in values:
        return EncoderFlags.from_mapping(values)
    return from_classifier_script(values)


def _script_values(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Merge flags with the scripts' defaults. Convert text to the type of the default."""
    given = dict(defaults)
    for name, value in values.items():
        if name == "timestep_respacing" and value:
            steps = str(value).replace(",", "+")  # numbers by section
            logger.warning("timestep_respacing belongs to a run, not to a checkpoint: give --steps %s", steps)
        if name in OF_A_RUN:
            continue
        if name not in defaults:
            raise UsageError(f"unknown script flag {name}; there are {', '.join(defaults)}")
        given[name] = _typed(name, value, type(defaults[name]))
    return given


def _typed(name: str, value: Any, kind: type) -> Any:
    if isinstance(value, list | tuple) and kind is str:
        return ",".join(map(str, value))
    if isinstance(value, bool) or (kind is bool and not isinstance(value, str)):
        return value  # of another type: UNetFlags reports it
    try:
        return _TRUTH[value.strip().lower()] if kind is bool else kind(value)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"the script flag {name} cannot be {value!r}") from error


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) if "." in part else int(part) for part in text.split(","))
    except (ValueError, AttributeError) as error:
        raise UsageError(f"the script flag {name} lists numbers, like '1,2,4', not {text!r}") from error


def _factors(image_size: int, pixels: str) -> tuple[int, ...]:
    sizes = _numbers("attention_resolutions", pixels)
    if any(size <= 0 for size in sizes):
        raise UsageError(f"attention_resolutions are sizes in pixels, not {pixels!r}")
    return tuple(sorted(image_size // int(size) for size in sizes if size <= image_size))


def _default_mult(image_size: int, *, improved: bool = False) -> tuple[float, ...]:
    if improved and image_size == 32:
        return IMPROVED_32
    if image_size not in CHANNEL_MULT:
        sizes = ", ".join(map(str, sorted(CHANNEL_MULT)))
        raise UsageError(
            f"an image_size of {image_size} needs its channel_mult; there are defaults for {sizes}"
        )
    return CHANNEL_MULT[image_size]
