"""Evaluation of the included models without guidance, for the model cards.

``evaluate_blip`` evaluates the guidance model on held-out scenes (with seeds that training never uses), through the
interface that guidance uses. ``evaluate_generator`` parses unconditional samples.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from guidelens.contracts import Generator
from guidelens.engine import Engine, Sample
from guidelens.errors import UsageError
from guidelens.sampling import Sampling
from guidelens_blip import BlipGuidance
from torch import Tensor

from ..language import Description, Phrase, corrupt, describe, read, true_of, wording
from ..parse import MAX_BACKGROUND_ERROR, parse
from ..world import COLOURS, SHAPES, Scene, random_scene, render
from .x0 import predict_x0_set

HELD_OUT = 90_000_000
"""Offset of the seeds for held-out scenes."""
OBJECTIVES = ("itc", "itm", "cap")
NAMES = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
Progress = Callable[[str], None]


def _scenes(count: int, offset: int, num_items: int | None = None) -> list[Scene]:
    return [random_scene(random.Random(HELD_OUT + offset + i), num_items) for i in range(count)]


def _pictures(scenes: Sequence[Scene]) -> Tensor:
    return torch.stack([torch.from_numpy(render(scene)) for scene in scenes])


@torch.no_grad()
def naming(model: BlipGuidance, scenes: Sequence[Scene], images: Tensor) -> dict[str, float]:
    """Return each head's accuracy in 32-way zero-shot naming of single objects ("a red circle"), by smallest loss."""
    prompts = [wording(Description((Phrase(shape, colour),))) for colour, shape in NAMES]
    text = model.encode_text(prompts)
    target = torch.tensor([NAMES.index((s.items[0].colour, s.items[0].shape)) for s in scenes])
    losses = {name: torch.empty(len(images), len(prompts)) for name in OBJECTIVES}
    for start in range(0, len(images), 16):
        for name, loss in model.all_losses(images[start : start + 16], text).items():
            losses[name][start : start + 16] = loss.float()
    return {name: float((loss.argmin(1) == target).float().mean()) for name, loss in losses.items()}


@torch.no_grad()
def matching(model: BlipGuidance, scenes: Sequence[Scene], images: Tensor, seed: int) -> dict[str, float]:
    """Return ITM's accuracy (threshold 1/2) on true captions and on captions with one change."""
    rng = random.Random(seed)
    right: dict[str, list[bool]] = {}
    for kind in ("true", "colour", "shape", "size", "count", "relation", "background"):
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
        right[kind] = ((matched > 0.5) == (kind == "true")).tolist()
    scores = {f"itm_{kind}": float(np.mean(values)) for kind, values in right.items()}
    wrong = [value for kind, values in right.items() if kind != "true" for value in values]
    return {"itm_accuracy": (scores["itm_true"] + float(np.mean(wrong))) / 2, **scores}


@torch.no_grad()
def retrieval(
    model: BlipGuidance, scenes: Sequence[Scene], images: Tensor, seed: int, pool: int = 100
) -> float:
    """Return ITC's image-to-text recall@1 among ``pool`` scenes with distinct full captions.

    :raises UsageError: there are too few scenes for one pool.
    """
    rng = random.Random(seed)
    hits, total = 0, 0
    chosen: dict[str, int] = {}
    for i, scene in enumerate(scenes):
        chosen.setdefault(wording(describe(scene, rng, full=True)), i)
        if len(chosen) == pool:
            rows = list(chosen.values())
            similarity = model.similarity(images[rows], model.encode_text(list(chosen)))
            hits += int((similarity.argmax(1) == torch.arange(pool)).sum())
            total += pool
            chosen = {}
    if not total:
        raise UsageError(f"{len(scenes)} scenes have fewer than {pool} distinct captions: give more")
    return hits / total


@torch.no_grad()
def captioning(model: BlipGuidance, scenes: Sequence[Scene], images: Tensor) -> float:
    """Return the share of greedy captions that can be parsed and are true."""
    captions = [c for k in range(0, len(images), 100) for c in model.caption(images[k : k + 100])]
    readings = [read(caption) for caption in captions]
    pairs = zip(readings, scenes, strict=True)
    return float(
        np.mean([description is not None and true_of(description, scene) for description, scene in pairs])
    )


def evaluate_blip(
    model: BlipGuidance, generator: Any = None, *, count: int = 2000, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Return all scores of a guidance model. With a generator, include naming on its x0 predictions by timestep.

    :param count: number of held-out scenes of each kind.
    :param generator: a :class:`guidelens_guided_diffusion.GuidedDiffusionGenerator`.
    """
    scores: dict[str, Any] = {}
    single = _scenes(count, 0, num_items=1)
    scores["naming_clean"] = naming(model, single, _pictures(single))
    progress(f"naming on clean scenes: {scores['naming_clean']}")
    scenes = _scenes(count, 1_000_000)
    images = _pictures(scenes)
    scores.update(matching(model, scenes, images, seed=1))
    progress(f"matching: {scores['itm_accuracy']:.4f}")
    scores["itc_recall_at_1"] = retrieval(model, scenes, images, seed=2)
    scores["captions_true"] = captioning(model, scenes, images)
    progress(f"retrieval: {scores['itc_recall_at_1']:.4f}; true captions: {scores['captions_true']:.4f}")
    if generator is not None:
        scores["naming_x0"] = {}
        for timestep in (100, 300, 400, 450, 500, 600, 700, 800, 900):
            few = max(count // 4, 50)
            predictions = predict_x0_set(
                generator, few, HELD_OUT + timestep, timesteps=(timestep, timestep), num_items=1
            )
            shown = [predictions.scene(i) for i in range(few)]
            scores["naming_x0"][str(timestep)] = naming(model, shown, predictions.images.float())
            progress(f"naming on x0 predictions at t={timestep}: {scores['naming_x0'][str(timestep)]}")
    return scores


def evaluate_generator(
    generator: Generator,
    *,
    count: int = 500,
    steps: int = 50,
    seed: int = 10_000,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Return scores of unconditional samples.

    ``good`` is the share with fidelity >= 0.9 and a background of the palette.
    """
    engine = Engine(generator, None, Sampling(steps=steps), batch_size=50)
    readings = []
    for result in engine.run([Sample("", None, seed + i) for i in range(count)]):
        readings.append(parse(result.image.numpy()))
        if len(readings) % 100 == 0:
            progress(f"{len(readings)} of {count} samples")
    fidelity = np.array([reading.fidelity for reading in readings])
    palette = np.array([reading.background_error <= MAX_BACKGROUND_ERROR for reading in readings])
    objects = np.bincount([min(len(reading.scene.items), 4) for reading in readings], minlength=5)
    return {
        "samples": count,
        "steps": steps,
        "good": float(((fidelity >= 0.9) & palette).mean()),
        "fidelity_mean": float(fidelity.mean()),
        "fidelity_quantiles": {q: float(np.quantile(fidelity, q)) for q in (0.01, 0.05, 0.25, 0.5)},
        "background_in_palette": float(palette.mean()),
        "objects": {str(k): int(n) for k, n in enumerate(objects)},
    }
