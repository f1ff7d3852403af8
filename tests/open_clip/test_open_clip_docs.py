"""docs/open_clip.md: its Python block runs, and its numbers are those of the open_clip that is installed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from guidelens_open_clip.build import build_network
from guidelens_open_clip.guidance import CAPTION_SCALE, COSINE_SCALE
from guidelens_open_clip.open_clip_import import import_open_clip
from guidelens_open_clip.sources import Source
from transformers import AutoConfig

PAGE = (Path(__file__).parents[2] / "docs" / "open_clip.md").read_text(encoding="utf-8")


def test_the_python_block_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    namespace: dict[str, object] = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(block, "open_clip.md", "exec"), namespace)
    assert float(namespace["images"].grad.abs().max()) > 0  # type: ignore[attr-defined]
    assert -1 <= float(namespace["loss"].detach()) <= 1  # type: ignore[attr-defined]


def test_default_scales_are_those_of_the_page() -> None:
    assert f"`itc` {COSINE_SCALE:g} (" in PAGE
    assert f"`cap` {CAPTION_SCALE:g}." in PAGE


TEXT_MODELS = {
    "facebook/nllb-200-distilled-1.3B": ("m2m_100", {}),
    "facebook/nllb-200-distilled-600M": ("m2m_100", {}),
    "google/mt5-base": ("mt5", {"d_model": 768}),
    "google/mt5-xl": ("mt5", {"d_model": 2048}),
    "roberta-base": ("roberta", {}),
    "xlm-roberta-base": ("xlm-roberta", {}),
    "xlm-roberta-large": ("xlm-roberta", {"hidden_size": 1024, "num_attention_heads": 16}),
}
"""Text towers of transformers that architectures name: model type, and what differs from its defaults. Their own
``config.json`` is on the hub; one of the same type is enough to see that the architecture builds."""


def config_of(name: str, folder: Path) -> Path | None:
    """Write the ``config.json`` of a text tower, and return its folder; None for towers of open_clip's own."""
    if not name:
        return None
    kind, changes = TEXT_MODELS[name]
    AutoConfig.for_model(kind, **changes).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_every_architecture_builds(tmp_path: Path) -> None:
    """On the meta device, which computes nothing and holds no weights."""
    if import_open_clip("timm_model").timm is None:
        pytest.skip("LAVIS keeps timm at a release that is too old")
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        tokenizer = config_of(config["text_cfg"].get("hf_model_name", ""), tmp_path)
        with torch.device("meta"):
            network = build_network(Source(name, config, preprocess={}, weights=Path, tokenizer=tokenizer))
        assert next(network.parameters()).is_meta, name
