"""Infer flags from a checkpoint's names and shapes, and find the published network. Does not import torch.

Some flags do not affect names and shapes, so they cannot be inferred: ``num_heads``, ``num_head_channels``,
``use_new_attention_order`` (all three change the results), ``image_size`` (except with attention pooling), ``dropout``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .flags import UNetFlags
from .presets import CLASSIFIERS, PRESETS, UPSAMPLERS

Shapes = Mapping[str, Sequence[int]]
"""State-dict names to shapes."""

_NEAR = 2
"""Errors mention another network only if at most this many flags differ."""


def visible_flags(shapes: Shapes) -> dict[str, Any]:
    """Return the constructor flags that a state dict determines, as JSON types. {} for another kind of network.

    The result has ``pool`` for a classifier, else ``num_classes``.
    """
    try:
        return _visible(shapes)
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        return {}


def _visible(shapes: Shapes) -> dict[str, Any]:
    width = shapes["time_embed.0.weight"][1]
    classifier = not any(name.startswith("output_blocks.") for name in shapes)
    stages = 1 + max(_stage_numbers(shapes, "input_blocks"))
    per_level = _stages_per_level(shapes, stages, classifier)
    # n levels of per_level stages, each but the last with its downsampling, after the first convolution.
    firsts = range(1, stages, per_level)
    first = shapes["input_blocks.1.0.in_layers.2.weight"][0]
    embedded = shapes["input_blocks.1.0.emb_layers.1.weight"][0]
    seen: dict[str, Any] = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "model_channels": width,
        "num_res_blocks": per_level - 1,
        "channel_mult": [
            _number(shapes[f"input_blocks.{stage}.0.out_layers.3.weight"][0] / width) for stage in firsts
        ],
        "attention_resolutions": [
            2**level for level, stage in enumerate(firsts) if f"input_blocks.{stage}.1.qkv.weight" in shapes
        ],
        "use_scale_shift_norm": embedded == 2 * first,
    }
    if len(firsts) > 1:
        down = f"input_blocks.{firsts[1] - 1}.0"
        seen["resblock_updown"] = f"{down}.in_layers.2.weight" in shapes
        if not seen["resblock_updown"]:
            seen["conv_resample"] = f"{down}.op.weight" in shapes
    if classifier:
        return {**seen, **_pooling(shapes)}
    classes = shapes["label_emb.weight"][0] if "label_emb.weight" in shapes else None
    return {**seen, "out_channels": shapes["out.2.weight"][0], "num_classes": classes}


def _stages_per_level(shapes: Shapes, stages: int, classifier: bool) -> int:
    """Return the number of stages of one level: its residual blocks and the downsampling.

    In the decoder, the last stage of a level ends with upsampling. Downsampling without parameters leaves a gap in
    the numbers of the encoder. A classifier with residual downsampling shows its levels only by their widths.
    """
    downs = [n for n in range(1, stages) if f"input_blocks.{n}.0.op.weight" in shapes]
    gaps = sorted(set(range(1, stages)) - set(_stage_numbers(shapes, "input_blocks")))
    if downs or gaps:
        return (downs or gaps)[0]
    if not classifier:
        ups = [
            int(match[1])
            for name in shapes
            if (match := re.match(r"output_blocks\.(\d+)\.[12]\.(in_layers\.2|conv)\.weight", name))
        ]
        return min(ups) + 1 if ups else stages
    candidates = [n for n in range(2, stages + 1) if stages % n == 0]
    widths = [shapes[f"input_blocks.{n}.0.out_layers.3.weight"][0] for n in range(1, stages)]
    attended = [f"input_blocks.{n}.1.qkv.weight" in shapes for n in range(1, stages)]
    for per_level in candidates:
        levels = [
            (widths[start : start + per_level], attended[start : start + per_level - 1])
            for start in range(0, stages - 1, per_level)
        ]
        resampled = [attended[end] for end in range(per_level - 1, stages - 1, per_level)]
        uniform = all(len(set(wide)) == 1 and len(set(attends)) == 1 for wide, attends in levels)
        if uniform and not any(resampled):
            return per_level
    raise ValueError("no number of blocks per level fits")


def _pooling(shapes: Shapes) -> dict[str, Any]:
    if "out.2.positional_embedding" in shapes:
        return {"pool": "attention", "out_channels": shapes["out.2.c_proj.weight"][0]}
    if "out.3.weight" in shapes:
        pool = "adaptive" if len(shapes["out.3.weight"]) == 4 else "spatial_v2"
        return {"pool": pool, "out_channels": shapes["out.3.weight"][0]}
    return {"pool": "spatial", "out_channels": shapes["out.2.weight"][0]}


def _stage_numbers(shapes: Shapes, part: str) -> list[int]:
    found = (re.match(rf"{part}\.(\d+)\.", name) for name in shapes)
    return sorted({int(match[1]) for match in found if match})


def _number(value: float) -> float:
    return int(value) if value == int(value) else value


def disagreements(flags: UNetFlags, seen: Mapping[str, Any]) -> list[str]:
    """Return the flags that differ from a checkpoint, with both values."""
    given = {**flags.to_dict(), "attention_resolutions": _attended(flags)}
    return [
        f"{name} is {given[name]}, the file has {value}"
        for name, value in seen.items()
        if name in given and given[name] != value
    ]


def _attended(flags: UNetFlags) -> list[int]:
    """Return the downsampling factors that have attention."""
    return [2**level for level in range(len(flags.widths)) if 2**level in flags.attention_resolutions]


def published_as(seen: Mapping[str, Any]) -> list[str]:
    """Return the names of the published networks that match a checkpoint."""
    return [name for name, flags in _published(seen).items() if not disagreements(flags, seen)]


def nearest_published(seen: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the published network that is most similar to a checkpoint, and the differences."""
    differing = {name: disagreements(flags, seen) for name, flags in _published(seen).items()}
    name = min(differing, key=lambda name: len(differing[name]))
    return name, differing[name]


def _published(seen: Mapping[str, Any]) -> dict[str, UNetFlags]:
    if "pool" in seen:
        return {name: preset.flags for name, preset in CLASSIFIERS.items()}
    networks: dict[str, UNetFlags] = {name: preset.flags for name, preset in PRESETS.items()}
    for name, preset in UPSAMPLERS.items():
        networks[name] = preset.description.with_flags(in_channels=2 * preset.flags.in_channels).flags
    return networks


def advice(flags: UNetFlags, shapes: Shapes) -> str:
    """Return what to do about a checkpoint that does not fit ``flags``, as one clause of an error."""
    seen = visible_flags(shapes)
    if not seen:
        return "it does not look like a network of guided-diffusion"
    classifier, wanted = "pool" in seen, "pool" in flags.to_dict()
    if classifier != wanted:
        kinds = ("a generator's UNet", "a classifier")
        return f"it is {kinds[classifier]}, but {kinds[wanted]} is needed"
    differing = disagreements(flags, seen)
    told = (
        f"flags that disagree: {'; '.join(differing)}" if differing else "give the flags it was trained with"
    )
    if names := published_as(seen):
        if names[0] in UPSAMPLERS:
            return f"it is the {names[0]}, which enlarges small pictures and cannot be a generator"
        return f"{told}; it has the shapes of preset={' or preset='.join(names)}"
    name, others = nearest_published(seen)
    if len(others) <= _NEAR:
        return f"{told}; the nearest preset is {name} ({'; '.join(others)})"
    return told
