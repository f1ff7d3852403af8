"""x0 predictions of the generator for noised scenes, to train and evaluate the guidance model on.

During sampling the guidance model sees x0 predictions, not finished pictures. They are blurred at the noisy end and
sharp at the clean end. An :class:`X0Set` holds such predictions with their scenes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from guidelens.diffusion import DiffusionProcess
from guidelens.errors import GuidelensError
from guidelens.files import replacing
from guidelens_guided_diffusion import GuidedDiffusionGenerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..world import World
from .common import step_seed
from .pictures import pictures


@dataclass(frozen=True)
class X0Set:
    """x0 predictions (N, 3, H, W) at training timesteps (N,). Picture i shows ``scene(i)``."""

    world: World
    images: Tensor
    timesteps: Tensor
    seed: int
    num_items: int = 0
    """Items per scene; 0: as ``random_scene`` draws them."""

    def __len__(self) -> int:
        return len(self.images)

    def scene(self, index: int) -> Any:
        """Return the scene of picture ``index``."""
        return self.world.random_scene(random.Random(step_seed(self.seed, index)), self.num_items or None)

    def draw(self, rng: random.Random, count: int) -> tuple[list[Any], Tensor]:
        """Draw ``count`` pictures with their scenes."""
        picked = [rng.randrange(len(self)) for _ in range(count)]
        return [self.scene(i) for i in picked], self.images[picked].float()

    def save(self, path: Path) -> None:
        """Write the set, atomically."""
        numbers = torch.tensor([self.seed, self.num_items])
        tensors = {"images": self.images, "timesteps": self.timesteps, "seed_and_items": numbers}
        with replacing(path) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, world: World, path: Path) -> X0Set:
        """Read a set that :meth:`save` wrote.

        :raises GuidelensError: the file is missing, unreadable, or not such a set.
        """
        try:
            tensors = load_file(path)
            seed, num_items = tensors["seed_and_items"].tolist()
            return cls(world, tensors["images"], tensors["timesteps"], seed, num_items)
        except (OSError, SafetensorError, KeyError) as error:
            raise GuidelensError(f"cannot read {path} as a set of x0 predictions: {error}") from error


@torch.no_grad()
def predict_x0_set(
    world: World,
    generator: GuidedDiffusionGenerator,
    count: int,
    seed: int,
    *,
    timesteps: tuple[int, int] | None = None,
    num_items: int = 0,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> X0Set:
    """Noise ``count`` scenes to random timesteps, and predict x0 with the generator.

    :param num_items: items per scene; 0: as ``random_scene`` draws them.
    :param timesteps: the range to draw from, including both ends; None: all timesteps of the process.
    :param progress: called with (done, count).
    """
    process = DiffusionProcess(generator.alphas_cumprod)
    low, high = timesteps or (0, process.num_steps - 1)
    images = torch.empty(count, *generator.image_shape, dtype=torch.float16)
    drawn = torch.empty(count, dtype=torch.long)
    predictions = X0Set(world, images, drawn, seed, num_items)
    for start in range(0, count, batch_size):
        rows = slice(start, min(start + batch_size, count))
        scenes = [predictions.scene(i) for i in range(rows.start, rows.stop)]
        x0 = pictures(world, scenes)
        noise_rng = torch.Generator().manual_seed(step_seed(seed, start))
        index = torch.randint(low, high + 1, (len(x0),), generator=noise_rng)
        x_t = process.q_sample(x0, index, torch.randn(x0.shape, generator=noise_rng))
        with torch.autocast("cpu", torch.bfloat16):
            output = generator(x_t.to(memory_format=torch.channels_last), index).float()
        images[rows] = process.predict_x0(output, x_t, index, generator.prediction).half()
        drawn[rows] = index
        if progress is not None:
            progress(rows.stop, count)
    return predictions
