"""The small UNet, what it is shown, and a file made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens_guided_diffusion import UNet, save_generator
from small_unet import SMALL, lively


@pytest.fixture
def flags() -> dict[str, Any]:
    return dict(SMALL)


@pytest.fixture
def unet(flags: dict[str, Any]) -> UNet:
    return lively(UNet(**flags))


@pytest.fixture
def saved(unet: UNet, flags: dict[str, Any], tmp_path: Path) -> Path:
    """The small network in guidelens's own format: cosine schedule, v."""
    path = tmp_path / "small.safetensors"
    save_generator(path, unet, flags, schedule="cosine", prediction="v")
    return path


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def t() -> torch.Tensor:
    return torch.tensor([3, 801])
