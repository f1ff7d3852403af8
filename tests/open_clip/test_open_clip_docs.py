"""docs/open_clip.md: its Python block runs, and its numbers are those of the open_clip that is installed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import open_clip
import pytest
from guidelens_open_clip.guidance import CAPTION_SCALE, COSINE_SCALE

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


@pytest.mark.skipif(
    not open_clip.__version__.startswith("2.32."), reason="the page counts for open_clip 2.32"
)
def test_the_counts_of_architectures_are_right() -> None:
    configs = [open_clip.get_model_config(name) for name in open_clip.list_models()]
    timm = [config for config in configs if config["vision_cfg"].get("timm_model_name")]
    text = [config for config in configs if config["text_cfg"].get("hf_model_name")]
    own = [config for config in configs if config not in timm and config not in text]
    bert = [config for config in own if config["text_cfg"].get("hf_tokenizer_name") == "bert-base-uncased"]
    assert f"({len(own)} of the {len(configs)} names in open_clip 2.32" in PAGE
    assert f"MobileCLIP: {len(timm)} names)" in PAGE
    assert len(bert) == 6
    assert not [c for c in own if c not in bert and c["text_cfg"].get("hf_tokenizer_name")]
