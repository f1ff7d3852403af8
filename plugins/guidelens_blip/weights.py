"""The published BLIP checkpoints that have all three heads, and their vocabulary."""

from __future__ import annotations

from pathlib import Path

from guidelens.weights import WeightsFile

_BASE = "https://storage.googleapis.com/sfr-vision-language-research/BLIP/models"
_CITATION = "Li et al. (2022), BLIP: Bootstrapping Language-Image Pre-training, ICML"


def _pretrained(name: str, filename: str) -> WeightsFile:
    return WeightsFile(
        name=name,
        filename=filename,
        url=f"{_BASE}/{filename}",
        licence="BSD-3-Clause",  # of the repository that publishes them
        citation=_CITATION,
        component="guidance model blip",
    )


# Salesforce publishes neither sizes nor hashes.
BLIP_BASE = _pretrained("blip-base", "model_base_capfilt_large.pth")
"""ViT-B/16, 129 M images, captions cleaned by CapFilt with ViT-L. The paper and ``blip_pretrain base`` use it."""
BLIP_BASE_129M = _pretrained("blip-base-129m", "model_base.pth")
"""ViT-B/16, 129 M images."""
BLIP_BASE_14M = _pretrained("blip-base-14m", "model_base_14M.pth")
"""ViT-B/16, 14 M images."""
BLIP_LARGE = _pretrained("blip-large", "model_large.pth")
"""ViT-L/16, 129 M images."""

VOCABULARY = WeightsFile(
    name="bert-base-uncased-vocab",
    filename="vocab.txt",
    hub="google-bert/bert-base-uncased/vocab.txt",
    size=231_508,
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    licence="Apache-2.0",
    citation="Devlin et al. (2019), BERT: Pre-training of Deep Bidirectional Transformers, NAACL",
    component="guidance model blip",
)
"""WordPiece, 30,522 entries."""

CHECKPOINTS = {file.name: file for file in (BLIP_BASE, BLIP_BASE_129M, BLIP_BASE_14M, BLIP_LARGE)}
"""Checkpoints by the name that ``blip:checkpoint=NAME`` takes."""

OF_PRESET = {"base": BLIP_BASE, "large": BLIP_LARGE}
"""The checkpoint of each preset of :mod:`guidelens_blip.config`."""


def published_vocabulary() -> Path | None:
    """Return bert-base-uncased's vocabulary from our cache or the Hugging Face cache, or None if neither has it."""
    from guidelens.weights import locate  # imported here to keep `guidelens --help` fast

    if (fetched := locate(VOCABULARY)) is not None:
        return fetched
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    for repository in (
        "google-bert/bert-base-uncased",
        "bert-base-uncased",
    ):  # the repository's name today, and before 2024
        found = try_to_load_from_cache(repository, "vocab.txt")
        if isinstance(found, str):
            return Path(found)
    return None
