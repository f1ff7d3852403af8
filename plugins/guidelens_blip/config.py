"""The size of a BLIP model, and the published sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from guidelens.errors import GuidelensError


@dataclass(frozen=True)
class BlipConfig:
    """The size of a BLIP model.

    The defaults are the ViT-B/16 model of Li et al. (2022), which LAVIS calls ``blip_pretrain base``.
    """

    image_size: int = 224
    """Side of the square image that the vision transformer sees, in pixels; a multiple of ``patch_size``."""
    patch_size: int = 16
    vision_width: int = 768
    vision_depth: int = 12
    vision_heads: int = 12
    hidden_size: int = 768
    """Width of the text encoder and decoder."""
    text_layers: int = 12
    text_heads: int = 12
    intermediate_size: int = 3072
    """Width of the text transformers' feed-forward layers."""
    max_positions: int = 512
    embed_dim: int = 256
    """Dimension of the joint space of image-text contrast."""
    max_txt_len: int = 30
    """Maximum number of tokens of a prompt, including the leading token and [SEP], for all three objectives."""
    dropout: float = 0.1
    """Dropout of the text transformers, in training mode only."""
    vocab_file: str = "vocab.txt"
    """Name of the WordPiece vocabulary file in the checkpoint's folder."""
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Mean of each channel, for pixels in [0, 1]."""
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        """Check that the sizes fit each other.

        :raises GuidelensError: a size is not positive, or not a multiple of the one that must divide it.
        """
        object.__setattr__(self, "image_mean", tuple(self.image_mean))
        object.__setattr__(self, "image_std", tuple(self.image_std))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise GuidelensError(f"BLIP config: {field.name} must be a positive integer, not {value!r}")
        for whole, part in (
            ("image_size", "patch_size"),
            ("vision_width", "vision_heads"),
            ("hidden_size", "text_heads"),
        ):
            if getattr(self, whole) % getattr(self, part):
                sizes = f"{whole} {getattr(self, whole)} is not a multiple of {part} {getattr(self, part)}"
                raise GuidelensError(f"BLIP config: {sizes}")
        if not 3 <= self.max_txt_len <= self.max_positions:
            raise GuidelensError(
                f"BLIP config: max_txt_len must be in 3..{self.max_positions} (max_positions), "
                f"not {self.max_txt_len}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise GuidelensError(f"BLIP config: dropout must be in [0, 1), not {self.dropout}")
        if len(self.image_mean) != 3 or len(self.image_std) != 3 or min(self.image_std) <= 0:
            raise GuidelensError(
                "BLIP config: image_mean and image_std must have three numbers each, and image_std must be positive"
            )

    def to_json(self) -> str:
        """Return the configuration as one line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> BlipConfig:
        """Read what :meth:`to_json` wrote.

        :raises GuidelensError: not JSON, not an object, or an unknown or ill-typed entry.
        """
        try:
            entries = json.loads(text)
        except json.JSONDecodeError as error:
            raise GuidelensError(f"BLIP config is not valid JSON: {error}") from error
        if not isinstance(entries, Mapping):
            raise GuidelensError("BLIP config must be a JSON object")
        unknown = sorted(set(entries) - {field.name for field in fields(cls)})
        if unknown:
            raise GuidelensError(f"BLIP config has unknown entries: {', '.join(unknown)}")
        try:
            return cls(**entries)
        except TypeError as error:
            raise GuidelensError(f"BLIP config has an entry of the wrong type: {error}") from error

    def with_image_size(self, image_size: int) -> BlipConfig:
        """Return the same model for another image size; loading weights interpolates position embeddings."""
        return replace(self, image_size=image_size)


PRESETS: Mapping[str, BlipConfig] = {
    "base": BlipConfig(),
    "large": BlipConfig(vision_width=1024, vision_depth=24, vision_heads=16),
}
"""The published sizes. They differ in the vision transformer (ViT-B/16, ViT-L/16) and share the text transformers."""
