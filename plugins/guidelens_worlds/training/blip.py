"""Training of a small BLIP on rendered scenes.

The three losses are BLIP's (Li et al. 2022, section 3.2): contrast (ITC), matching (ITM) and language modelling (LM).
They use the ground truth of the world: pairs of a batch that happen to be true are not negatives, and each image has a
caption that is false in one attribute, relation or count. BLIP starts from a vision transformer that was trained on
ImageNet. This training starts with a phase that only learns the colour, shape and size that cover each patch. This
dense loss continues with a small weight. The saved model does not include its heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from guidelens_blip import BlipConfig, build_blip, save_blip
from torch import Tensor, nn

from ..world import World
from .common import Fit, Run, Settings, step_rngs
from .pairs import CaptionIds, Pairs, draw_pairs, patch_targets, place_labels
from .pictures import degrade, draw_scenes
from .x0 import X0Set


def small_blip(image_size: int, patch_size: int) -> BlipConfig:
    """Return the size of a BLIP of about two million parameters."""
    return BlipConfig(
        image_size=image_size,
        patch_size=patch_size,
        vision_width=128,
        vision_depth=4,
        vision_heads=4,
        hidden_size=128,
        text_layers=3,
        text_heads=4,
        intermediate_size=512,
        max_positions=48,
        embed_dim=64,
        max_txt_len=40,
        dropout=0.0,
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.5, 0.5, 0.5),
    )


@dataclass(frozen=True, kw_only=True)
class BlipTraining(Settings):
    """Settings of a training.

    :param config: the size of the model, as in :class:`guidelens_blip.BlipConfig`.
    :param vision_only: train on the dense loss only, before the phase with text.
    :param degraded_share: share of pictures that are blurred, faded and noised.
    :param pair_share: share of the rendered scenes that always show two kinds.
    :param relation_share: share of the scenes with two kinds whose caption states their relation.
    :param x0_share: share of pictures that are x0 predictions of the generator (needs an :class:`X0Set`).
    """

    config: dict[str, Any]
    pairs: int = 400_000
    batch_size: int = 64
    peak_rate: float = 1e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.999
    dense_weight: float = 0.3
    degraded_share: float = 0.4
    x0_share: float = 0.0
    pair_share: float = 0.0
    relation_share: float = 0.0
    vision_only: bool = False

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return self.pairs // self.batch_size


class Trainer(nn.Module):
    """The model, and the heads that only training uses."""

    def __init__(self, config: BlipConfig, world: World) -> None:
        super().__init__()
        self.world = world
        self.blip = build_blip(config, world.files.vocab)
        self.ids = CaptionIds(self.blip.wordpiece, config.max_txt_len)
        self.grid = config.image_size // config.patch_size
        self.sizes = [len(values) + 1 for values in world.labels.values]
        self.patch_head = nn.Linear(config.vision_width, sum(self.sizes) + 2)
        self.image_head = nn.Linear(config.vision_width, len(world.places))

    def dense_loss(self, embeds: Tensor, scenes: list[Any]) -> Tensor:
        """Predict each patch's attributes and the centre of its object, and the background from [CLS].

        Centres are absolute. Without them the features would not encode the position of a patch, and no head could
        learn relations.
        """
        labels, centres = patch_targets(self.world.labels, scenes, self.grid)
        *logits, centre = self.patch_head(embeds[:, 1:]).float().split([*self.sizes, 2], dim=-1)
        loss = sum(
            (
                F.cross_entropy(logit.flatten(0, 1), labels[..., k].flatten())
                for k, logit in enumerate(logits)
            ),
            start=torch.zeros(()),
        )
        covered = labels[..., 0] < self.sizes[0] - 1
        loss = loss + (centre - centres)[covered].square().mean()
        places = place_labels(self.world, scenes)
        return loss + F.cross_entropy(self.image_head(embeds[:, 0]).float(), places)

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """Return ``itc``, ``itm``, ``lm`` and ``dense``, each a scalar."""
        blip = self.blip
        embeds = blip.visual_encoder(pairs.images)
        dense = self.dense_loss(embeds, pairs.scenes)
        ids, mask = self.ids([*pairs.captions, *pairs.false_captions])
        text = blip.text_states(ids, mask)
        image_features = F.normalize(blip.vision_proj(embeds[:, 0]).float(), dim=-1)
        true_features, false_features = F.normalize(blip.text_proj(text[:, 0]).float(), dim=-1).chunk(2)
        with torch.no_grad():
            blip.temp.clamp_(0.02, 0.5)
        similarity = image_features @ true_features.T / blip.temp
        own_false = (image_features * false_features).sum(-1, keepdim=True) / blip.temp
        also_true = pairs.truth & ~torch.eye(len(ids) // 2, dtype=torch.bool)
        masked = similarity.masked_fill(also_true, -1e4)
        target = torch.arange(len(masked))
        itc = (
            F.cross_entropy(torch.cat([masked, own_false], dim=1), target) + F.cross_entropy(masked.T, target)
        ) / 2
        itm = self._itm(pairs, embeds, ids, mask, masked.detach())
        half = len(ids) // 2
        return {"itc": itc, "itm": itm, "lm": self._lm(embeds, ids[:half], mask[:half]), "dense": dense}

    def _itm(self, pairs: Pairs, embeds: Tensor, ids: Tensor, mask: Tensor, similarity: Tensor) -> Tensor:
        """Return the matching loss of the pair, its false caption, and a similar image that contradicts the caption."""
        half = len(embeds)
        weights = similarity.T.softmax(dim=1).masked_fill(pairs.truth.T, 0.0) + 1e-6 * ~pairs.truth.T
        wrong_image = torch.multinomial(weights, 1)[:, 0]
        images = torch.cat([embeds, embeds, embeds[wrong_image]])
        ids, mask = torch.cat([ids, ids[:half]]), torch.cat([mask, mask[:half]])
        ids = ids.clone()
        ids[:, 0] = self.blip.wordpiece.enc
        hidden = self.blip.text_states(ids, mask, images)
        logits = self.blip.itm_head(hidden[:, 0]).float()
        labels = torch.zeros(len(logits), dtype=torch.long)
        labels[:half] = 1
        loss = F.cross_entropy(logits, labels, reduction="none")
        return (loss[:half].mean() + loss[half:].mean()) / 2

    def _lm(self, embeds: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of the true caption's tokens."""
        targets = ids.masked_fill(mask == 0, -100)[:, 1:]
        inputs = ids.clone()
        inputs[:, 0] = self.blip.wordpiece.dec
        logits = self.blip.token_logits(inputs, mask, embeds)
        return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), targets.flatten(), ignore_index=-100)


def train_blip(
    folder: Path,
    settings: BlipTraining,
    world: World,
    *,
    init: Path | None = None,
    x0: X0Set | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    save_every: int = 250,
) -> Path:
    """Train, or resume the training in ``folder``, and write ``blip.safetensors`` there.

    :param init: a ``last.pt`` of an earlier phase to start from.
    :param x0: x0 predictions of the generator, for ``settings.x0_share``.
    :param progress: called after each step with (steps done, total steps, running losses).
    :returns: the path of the weights (the EMA).
    """
    run = Run(folder, asdict(settings))
    torch.manual_seed(settings.seed)
    config = BlipConfig(**settings.config)
    model = Trainer(config, world).train()
    fit = Fit(run, model, settings, None if init is None else lambda: _load_averages(model, init))
    path = folder / "blip.safetensors"
    for step in range(fit.start, settings.steps):
        losses = _step_losses(model, settings, step, x0)
        weighted = [
            settings.dense_weight * v if k == "dense" and len(losses) > 1 else v for k, v in losses.items()
        ]
        fit.take_step(step, torch.stack(weighted).sum(), losses)
        done = step + 1
        if progress is not None:
            progress(done, settings.steps, fit.running)
        if fit.is_due(done, save_every):
            state = fit.state(done)
            with fit.ema.averaged():
                run.save({**state, "averaged": model.state_dict()})
                save_blip(model.blip, config, path)
            rounded = {name: round(value, 4) for name, value in fit.running.items()}
            run.log(step=done, pairs=done * settings.batch_size, rate=fit.rate(step), **rounded)
    return path


def _load_averages(model: Trainer, checkpoint: Path) -> None:
    """Give a model the averaged weights of an earlier phase."""
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["averaged"])


def _step_losses(model: Trainer, settings: BlipTraining, step: int, x0: X0Set | None) -> dict[str, Tensor]:
    """Draw the batch of one step and return its losses."""
    rng, noise_rng = step_rngs(settings.seed, step)
    from_generator = round(settings.x0_share * settings.batch_size) if x0 is not None else 0
    scenes, images = draw_scenes(model.world, rng, settings.batch_size - from_generator, settings.pair_share)
    degraded = round(settings.degraded_share * settings.batch_size)
    if degraded:
        images[:degraded] = degrade(images[:degraded], noise_rng)
    if x0 is not None:
        more_scenes, more_images = x0.draw(rng, from_generator)
        scenes, images = scenes + more_scenes, torch.cat([images, more_images])
    torch.manual_seed(step)  # for the choice of wrong images in the matching loss
    with torch.autocast("cpu", torch.bfloat16):
        if settings.vision_only:
            return {"dense": model.dense_loss(model.blip.visual_encoder(images), scenes)}
        return model.losses(draw_pairs(model.world, rng, scenes, images, settings.relation_share))
