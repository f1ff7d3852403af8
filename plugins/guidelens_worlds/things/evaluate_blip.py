"""Evaluation of a BLIP of the things world without guidance: naming and matching on held-out scenes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from guidelens_blip import BlipGuidance
from torch import Tensor

from ..description import Description, Phrase
from .language import CORRUPTIONS, corrupt, describe, wording
from .vocabulary import NATURAL, THINGS
from .world import Scene, random_scene, render_batch

HELD_OUT = 90_000_000
"""Offset of the seeds for held-out scenes."""
_OBJECTIVES = ("itc", "itm", "cap")
_KINDS = tuple((thing, colour) for thing in THINGS for colour in THINGS[thing].colours)
"""The 56 kinds (thing and colour) of a single thing."""
Progress = Callable[[str], None]


def held_out_scenes(count: int, offset: int, num_items: int | None = None) -> list[Scene]:
    """Draw scenes with seeds that training never uses."""
    return [random_scene(random.Random(HELD_OUT + offset + i), num_items) for i in range(count)]


def kind_prompts() -> list[str]:
    """Return the name of each kind: "a cat" if it has its natural colour, else for example "a blue cat"."""
    phrases = [Phrase(thing, None if colour == NATURAL else colour) for thing, colour in _KINDS]
    return [wording(Description((phrase,))) for phrase in phrases]


@torch.no_grad()
def naming(model: BlipGuidance, scenes: Sequence[Scene], images: Tensor) -> dict[str, float]:
    """Return each head's accuracy in 56-way zero-shot naming of single things, by smallest loss.

    ``itc_thing`` and so on are the shares of pictures whose thing is named correctly, in any colour.
    """
    text = model.encode_text(kind_prompts())
    target = [(scene.items[0].thing, scene.items[0].colour) for scene in scenes]
    named: dict[str, list[int]] = {name: [] for name in _OBJECTIVES}
    for start in range(0, len(images), 16):
        for name, loss in model.all_losses(images[start : start + 16], text).items():
            named[name] += loss.argmin(1).tolist()
    scores = {}
    for name, chosen in named.items():
        pairs = list(zip((_KINDS[k] for k in chosen), target, strict=True))
        scores[name] = float(np.mean([kind == wanted for kind, wanted in pairs]))
        scores[f"{name}_thing"] = float(np.mean([kind[0] == wanted[0] for kind, wanted in pairs]))
    return scores


@torch.no_grad()
def matching(model: BlipGuidance, scenes: Sequence[Scene], images: Tensor, seed: int) -> dict[str, float]:
    """Return ITM's accuracy (threshold 1/2) on true captions, and on captions made false by one change of each kind."""
    rng = random.Random(seed)
    scores = {}
    for kind in ("true", *CORRUPTIONS):
        rows, texts = [], []
        for i, scene in enumerate(scenes):
            description = describe(scene, rng, full=rng.random() < 0.5)
            changed = description if kind == "true" else corrupt(description, scene, rng, kind)
            if changed is not None:
                rows.append(i)
                texts.append(wording(changed, rng))
        matched = torch.cat(
            [
                model.match_probability(images[rows[k : k + 128]], model.encode_text(texts[k : k + 128]))
                for k in range(0, len(rows), 128)
            ]
        )
        scores[f"itm_{kind}"] = float(((matched > 0.5) == (kind == "true")).float().mean())
    return scores


def evaluate_blip(
    model: BlipGuidance, *, count: int = 1000, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Return the scores for naming and matching on ``count`` held-out scenes of each kind."""
    single = held_out_scenes(count, 0, num_items=1)
    scores: dict[str, Any] = {"naming": naming(model, single, torch.from_numpy(render_batch(single)))}
    progress(f"naming: {scores['naming']}")
    scenes = held_out_scenes(count, 1_000_000)
    scores["matching"] = matching(model, scenes, torch.from_numpy(render_batch(scenes)), seed=1)
    progress(f"matching: {scores['matching']}")
    return scores
