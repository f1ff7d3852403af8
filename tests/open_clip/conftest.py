"""Small models and their tokenizers, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens_open_clip import OpenClipGuidance, OpenClipOptions
from small_models import CONFIGS, WORDS, build, open_clip

HFTokenizer = open_clip.tokenizer.HFTokenizer


@pytest.fixture(scope="session")
def siglip_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a Hugging Face tokenizer like SigLIP's: it ends texts with what it pads them with."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<unk>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    directory = tmp_path_factory.mktemp("siglip-tokenizer")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )
    fast.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tokenizers(siglip_tokenizer: Path) -> dict[str, Any]:
    simple = open_clip.SimpleTokenizer(context_length=12)
    hugging_face = HFTokenizer(str(siglip_tokenizer), context_length=10, clean="canonicalize")
    return {"clip": simple, "coca": simple, "siglip": hugging_face}


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """The small models, random; for tests that leave them as they are."""
    return {kind: build(config) for kind, config in CONFIGS.items()}


@pytest.fixture
def guide(models: dict[str, Any], tokenizers: dict[str, Any]) -> Any:
    """Returns guidance by one of the small models, under options."""

    def make(kind: str, **options: Any) -> OpenClipGuidance:
        return OpenClipGuidance(models[kind], tokenizers[kind], OpenClipOptions(**options))

    return make


@pytest.fixture
def images() -> torch.Tensor:
    """Three images (3, 3, 32, 32) in [-1, 1]."""
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def prompts() -> list[str]:
    """Three prompts of different lengths; the last fills a context of 10 with its end, and does not fill 12."""
    return ["a red circle", "blue square", "a small green triangle above a large blue square"]


@pytest.fixture
def network_input(models: dict[str, Any]) -> Any:
    """Returns images in [-1, 1], of the networks' size, as open_clip's networks take them."""

    def normalise(images: torch.Tensor) -> torch.Tensor:
        mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.3, 0.25, 0.2])
        return ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]

    return normalise
