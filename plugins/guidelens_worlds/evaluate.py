"""Evaluation of the models of a world without guidance, for their model cards.

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

from .description import Description
from .training.pictures import pictures
from .training.x0 import predict_x0_set
from .world import World

HELD_OUT = 90_000_000
"""Offset of the seeds for held-out scenes."""
OBJECTIVES = ("itc", "itm", "cap")
GOOD_REALISM = 0.9
"""Least realism of a good sample."""
Progress = Callable[[str], None]


def held_out_scenes(world: World, count: int, offset: int, num_items: int | None = None) -> list[Any]:
    """Draw scenes with seeds that training never uses."""
    return [world.random_scene(random.Random(HELD_OUT + offset + i), num_items) for i in range(count)]


@torch.no_grad()
def naming(world: World, model: BlipGuidance, scenes: Sequence[Any], images: Tensor) -> dict[str, float]:
    """Return each head's accuracy in zero-shot naming of single items ("a red circle"), by smallest loss.

    ``itc_shape`` and so on, or ``itc_thing``, are the shares of pictures whose noun is right, in any colour.
    """
    text = model.encode_text([world.language.wording(Description((kind,))) for kind in world.kinds])
    nouns = [kind.noun for kind in world.kinds]
    target = torch.tensor([world.kinds.index(world.language.name_of(scene.items[0])) for scene in scenes])
    losses = {name: torch.empty(len(images), len(nouns)) for name in OBJECTIVES}
    for start in range(0, len(images), 16):
        for name, loss in model.all_losses(images[start : start + 16], text).items():
            losses[name][start : start + 16] = loss.float()
    named = {name: loss.argmin(1) for name, loss in losses.items()}
    scores = {name: float((kind == target).float().mean()) for name, kind in named.items()}
    for name, kind in named.items():
        right = [nouns[k] == nouns[wanted] for k, wanted in zip(kind.tolist(), target.tolist(), strict=True)]
        scores[f"{name}_{world.word('noun')}"] = float(np.mean(right))
    return scores


@torch.no_grad()
def matching(
    world: World, model: BlipGuidance, scenes: Sequence[Any], images: Tensor, seed: int
) -> dict[str, float]:
    """Return ITM's accuracy (threshold 1/2) on true captions and on captions with one change."""
    rng, language = random.Random(seed), world.language
    right: dict[str, list[bool]] = {}
    for change in (None, *world.changes):
        rows, texts = [], []
        for i, scene in enumerate(scenes):
            description = language.describe(scene, rng, full=rng.random() < 0.5)
            changed = description if change is None else language.corrupt(description, scene, rng, change)
            if changed is not None:
                rows.append(i)
                texts.append(language.wording(changed, rng))
        matched = torch.cat(
            [
                model.match_probability(images[rows[k : k + 128]], model.encode_text(texts[k : k + 128]))
                for k in range(0, len(rows), 128)
            ]
        )
        kind = "true" if change is None else world.word(change)
        right[kind] = ((matched > 0.5) == (change is None)).tolist()
    scores = {f"itm_{kind}": float(np.mean(values)) for kind, values in right.items()}
    wrong = [value for kind, values in right.items() if kind != "true" for value in values]
    return {"itm_accuracy": (scores["itm_true"] + float(np.mean(wrong))) / 2, **scores}


@torch.no_grad()
def retrieval(
    world: World, model: BlipGuidance, scenes: Sequence[Any], images: Tensor, seed: int, pool: int = 100
) -> float:
    """Return ITC's image-to-text recall@1 among ``pool`` scenes with distinct full captions.

    :raises UsageError: there are too few scenes for one pool.
    """
    rng = random.Random(seed)
    hits, total = 0, 0
    chosen: dict[str, int] = {}
    for i, scene in enumerate(scenes):
        description = world.language.describe(scene, rng, full=True)
        chosen.setdefault(world.language.wording(description), i)
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
def captioning(world: World, model: BlipGuidance, scenes: Sequence[Any], images: Tensor) -> float:
    """Return the share of greedy captions that can be parsed and are true."""
    captions = [c for k in range(0, len(images), 100) for c in model.caption(images[k : k + 100])]
    readings = [world.language.read(caption) for caption in captions]
    pairs = zip(readings, scenes, strict=True)
    return float(np.mean([d is not None and world.language.true_of(d, scene) for d, scene in pairs]))


def evaluate_blip(
    world: World,
    model: BlipGuidance,
    generator: Any = None,
    *,
    count: int = 2000,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Return all scores of a guidance model. With a generator, include naming on its x0 predictions by timestep.

    :param count: number of held-out scenes of each kind.
    :param generator: a :class:`guidelens_guided_diffusion.GuidedDiffusionGenerator`.
    """
    scores: dict[str, Any] = {}
    single = held_out_scenes(world, count, 0, num_items=1)
    scores["naming_clean"] = naming(world, model, single, pictures(world, single))
    progress(f"naming on clean scenes: {scores['naming_clean']}")
    scenes = held_out_scenes(world, count, 1_000_000)
    images = pictures(world, scenes)
    scores.update(matching(world, model, scenes, images, seed=1))
    progress(f"matching: {scores['itm_accuracy']:.4f}")
    scores["itc_recall_at_1"] = retrieval(world, model, scenes, images, seed=2)
    scores["captions_true"] = captioning(world, model, scenes, images)
    progress(f"retrieval: {scores['itc_recall_at_1']:.4f}; true captions: {scores['captions_true']:.4f}")
    if generator is not None:
        scores["naming_x0"] = {}
        for timestep in (100, 300, 400, 450, 500, 600, 700, 800, 900):
            few = max(count // 4, 50)
            predictions = predict_x0_set(
                world, generator, few, HELD_OUT + timestep, timesteps=(timestep, timestep), num_items=1
            )
            shown = [predictions.scene(i) for i in range(few)]
            scores["naming_x0"][str(timestep)] = naming(world, model, shown, predictions.images.float())
            progress(f"naming on x0 predictions at t={timestep}: {scores['naming_x0'][str(timestep)]}")
    return scores


def evaluate_generator(
    world: World,
    generator: Generator,
    *,
    count: int = 500,
    steps: int = 50,
    seed: int = 10_000,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Return scores of unconditional samples.

    ``good`` is the share with a realism of at least 0.9 and a ground of the world.
    """
    engine = Engine(generator, None, Sampling(steps=steps), batch_size=50)
    readings = []
    for result in engine.run([Sample("", None, seed + i) for i in range(count)]):
        readings.append(world.metric.parse(result.image.numpy()))
        if len(readings) % 100 == 0:
            progress(f"{len(readings)} of {count} samples")
    realism = np.array([reading.realism for reading in readings])
    grounds = np.array([reading.ground is not None for reading in readings])
    numbers = np.bincount([min(len(reading.scene.items), 4) for reading in readings], minlength=5)
    name = world.metric.realism
    return {
        "samples": count,
        "steps": steps,
        "good": float(((realism >= GOOD_REALISM) & grounds).mean()),
        f"{name}_mean": float(realism.mean()),
        f"{name}_quantiles": {q: float(np.quantile(realism, q)) for q in (0.01, 0.05, 0.25, 0.5)},
        world.word("ground_read"): float(grounds.mean()),
        world.word("items"): {str(k): int(n) for k, n in enumerate(numbers)},
    }
