"""BLIP with random weights, for timings and trial runs. Its losses are meaningless but cost as much as real ones."""

from __future__ import annotations

import logging
import string
import tempfile
from pathlib import Path
from typing import Any

import torch

from .checkpoint import Backend, build, load_state
from .config import BlipConfig
from .tokenizer import REQUIRED_TOKENS

logger = logging.getLogger("guidelens.blip")

VOCABULARY_SIZE = 30_522
"""Size of bert-base-uncased's vocabulary, so that the output layer costs as much as the real one."""


def untrained_blip(
    config: BlipConfig, vocab: str | Path | None = None, seed: int = 0, backend: Backend = "native"
) -> Any:
    """Build a model of size ``config`` with the initial weights of training.

    :param vocab: the vocabulary file. None: a vocabulary of single letters, padded to the published size.
    :param seed: seed of the weights. PyTorch's global random state does not change.
    :param backend: see :func:`guidelens_blip.checkpoint.build`. Both backends get the same weights.
    """
    logger.warning("this BLIP has random weights (untrained=true); its losses and gradients are meaningless")
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        vocab = _stand_in(Path(folder)) if vocab is None else vocab
        model = build(config, vocab)
        if backend == "native":
            return model
        other = build(config, vocab, backend)
    load_state(other, model.state_dict())
    return other


def _stand_in(folder: Path) -> Path:
    """Write a vocabulary that can spell any English word."""
    signs = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    entries = [*REQUIRED_TOKENS, *signs, *(f"##{sign}" for sign in signs)]
    entries += [f"[unused{number}]" for number in range(VOCABULARY_SIZE - len(entries))]
    path = folder / "vocab.txt"
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")
    return path
