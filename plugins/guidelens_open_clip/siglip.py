"""SigLIP from Hugging Face's transformers, with the interface of open_clip's networks.

open_clip builds SigLIP's image tower with timm, in the published sizes only. For a folder of transformers,
transformers' own network is used instead. It has any size and its own tensor names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError

if TYPE_CHECKING:
    from torch import Tensor, nn

KIND = "siglip"
"""The ``model_type`` of both SigLIP and SigLIP 2 with a fixed image size."""
ENTRY = "transformers"
"""Key of a model configuration that holds transformers' own configuration."""
_TOKENIZERS = {32000: "timm/ViT-B-16-SigLIP", 256000: "timm/ViT-B-16-SigLIP2"}
"""Default tokenizers by vocabulary size, for folders without a tokenizer."""


def siglip_config(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return a model configuration of a SigLIP that transformers describes.

    :param source: the name of the file in errors.
    :raises GuidelensError: transformers cannot read it, or is too old.
    """
    parsed = _parsed(config, source)
    text = parsed.text_config
    return {
        "embed_dim": parsed.vision_config.hidden_size,
        "init_logit_bias": 0.0,  # replaced by the value in the file
        "vision_cfg": {"image_size": parsed.vision_config.image_size},
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "hf_tokenizer_name": _TOKENIZERS.get(text.vocab_size, "of SigLIP"),
            "tokenizer_kwargs": {"clean": "canonicalize"},
        },
        ENTRY: dict(config),
    }


def build_siglip(config: Mapping[str, Any], source: str) -> nn.Module:
    """Return transformers' network with random weights and the interface of open_clip's networks.

    It has ``visual`` and ``encode_text``.

    :raises GuidelensError: the configuration is invalid, or transformers is too old.
    """
    parsed = _parsed(config, source)
    from transformers import SiglipModel

    class Siglip(SiglipModel):
        @property
        def visual(self) -> _ImageTower:
            return _ImageTower(self)

        def encode_text(self, ids: Tensor) -> Tensor:
            """Return features (N, D) of token ids (N, L), not normalised."""
            features: Tensor = self.text_model(input_ids=ids).pooler_output
            return features

    built: nn.Module = Siglip(parsed)
    return built


class _ImageTower:
    """The image tower with the interface of open_clip's: a function of pictures with a fixed size."""

    def __init__(self, model: Any) -> None:
        self._model = model
        side = model.config.vision_config.image_size
        self.image_size = (side, side)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return features (B, D) of normalised pictures (B, 3, H, W)."""
        features: Tensor = self._model.vision_model(pixel_values=pixels).pooler_output
        return features


def _parsed(config: Mapping[str, Any], source: str) -> Any:
    try:
        from transformers import SiglipConfig, SiglipModel  # noqa: F401  # both were added in the same release
    except ImportError as error:
        raise GuidelensError(
            f"{source} describes a SigLIP, which needs transformers 4.37 or newer: run pip install -U transformers"
        ) from error
    try:
        return SiglipConfig.from_dict(dict(config))
    except Exception as error:  # it can raise anything for values of another type
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise GuidelensError(f"cannot read {source} as a model configuration: {reason}") from error
