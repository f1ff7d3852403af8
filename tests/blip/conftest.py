"""A BLIP small enough for tests, with weights large enough that everything it sees matters."""

from __future__ import annotations

import importlib.util
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from blip_models import lively
from guidelens_blip import BlipConfig, BlipGuidance, build_blip

NO_LAVIS = "LAVIS is not installed: it needs Python 3.10 or 3.11 and the extra `lavis`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what compares with LAVIS where it is not installed."""
    if importlib.util.find_spec("lavis") is None:
        for item in items:
            if item.get_closest_marker("lavis") is not None:
                item.add_marker(pytest.mark.skip(reason=NO_LAVIS))


WORDS = (
    *("red", "green", "blue", "circle", "square", "triangle"),
    *("large", "small", "above", "below", "and", "on", "background"),
)


@pytest.fixture(scope="session")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece vocabulary: the special tokens, single letters and a few words."""
    letters = string.ascii_lowercase + ",.-"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *WORDS]
    path = tmp_path_factory.mktemp("blip") / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def config() -> BlipConfig:
    return BlipConfig(
        image_size=16,
        patch_size=4,
        vision_width=24,
        vision_depth=2,
        vision_heads=3,
        hidden_size=32,
        text_layers=2,
        text_heads=4,
        intermediate_size=48,
        max_positions=20,
        embed_dim=12,
        max_txt_len=12,
        dropout=0.1,
    )


@pytest.fixture
def model(config: BlipConfig, vocab: Path) -> Any:
    return lively(build_blip(config, vocab))


@pytest.fixture
def blip(model: Any, config: BlipConfig) -> BlipGuidance:
    return BlipGuidance(model, config)


@pytest.fixture
def images() -> torch.Tensor:
    """Three images (3, 3, 16, 16) in [-1, 1]."""
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def prompts() -> list[str]:
    """Three prompts of 5, 4 and 12 tokens, the last one exactly as long as the model takes."""
    return ["a red circle", "blue square", "a small green triangle above a large blue square on"]
