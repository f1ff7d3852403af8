"""Evaluation of a generator of the things world without guidance, for its model card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from guidelens.contracts import Generator
from guidelens.engine import Engine, Sample
from guidelens.sampling import Sampling

from .parse import parse
from .world import MAX_ITEMS

GOOD_REALISM = 0.9
"""Least realism of a good sample."""


def evaluate_generator(
    generator: Generator,
    *,
    count: int = 500,
    steps: int = 50,
    seed: int = 10_000,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return scores of unconditional samples.

    ``good`` is the share with a realism of at least 0.9 and a ground of the world.
    """
    engine = Engine(generator, None, Sampling(steps=steps), batch_size=50)
    readings = []
    for result in engine.run([Sample("", None, seed + i) for i in range(count)]):
        readings.append(parse(result.image.numpy()))
        if len(readings) % 100 == 0:
            progress(f"{len(readings)} of {count} samples")
    realism = np.array([reading.realism for reading in readings])
    grounds = np.array([reading.ground is not None for reading in readings])
    things = np.bincount([min(len(r.scene.items), MAX_ITEMS + 1) for r in readings], minlength=MAX_ITEMS + 2)
    return {
        "samples": count,
        "steps": steps,
        "good": float(((realism >= GOOD_REALISM) & grounds).mean()),
        "realism_mean": float(realism.mean()),
        "realism_quantiles": {q: float(np.quantile(realism, q)) for q in (0.05, 0.25, 0.5, 0.75)},
        "ground_read": float(grounds.mean()),
        "things": {str(k): int(n) for k, n in enumerate(things)},
    }
