"""The backend ``lavis``: LAVIS's own ``BlipPretrain``, of any size, with a local vocabulary and no downloads.

LAVIS 1.0.2 is its last release. It installs on Python 3.10 and 3.11. No other module of guidelens imports it.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from guidelens.errors import GuidelensError
from guidelens.quiet import quiet
from torch import Tensor

from .config import BlipConfig
from .network import OBJECTIVES
from .tokenizer import WordPiece, load_tokenizer

MOMENTUM_PARTS = ("visual_encoder_m", "text_encoder_m", "vision_proj_m", "text_proj_m")
QUEUES = ("image_queue", "text_queue", "queue_ptr")


def build_lavis(
    config: BlipConfig, vocab: str | Path, *, momentum: bool = False, queue_size: int = 57600
) -> Any:
    """Build a randomly initialised ``BlipPretrain`` of size ``config``, in training mode, on the CPU.

    It has the attributes of :class:`guidelens_blip.network.Blip` that the guidance model uses: ``wordpiece``,
    ``objectives``, ``visual_encoder``, ``text_states``, ``token_logits`` and the heads.

    :param vocab: WordPiece vocabulary file.
    :param momentum: keep the momentum encoders and the feature queues. Only LAVIS's pretraining ``forward``
        uses them, and it needs them.
    :param queue_size: length of the feature queues if ``momentum``.
    :raises GuidelensError: LAVIS is not installed, or the vocabulary cannot be read.
    """
    _require_lavis()
    wordpiece = load_tokenizer(vocab)
    base = import_quietly("lavis.models.blip_models.blip_pretrain").BlipPretrain
    with quiet():
        tokenizer = _bert_tokenizer(vocab)

        class LavisBlip(base):  # type: ignore[misc, valid-type]
            """``BlipPretrain`` with a local vocabulary in place of one fetched from a hub."""

            objectives = OBJECTIVES

            @classmethod
            def init_tokenizer(cls) -> Any:
                return tokenizer

            def text_states(self, ids: Tensor, mask: Tensor, image: Tensor | None = None) -> Tensor:
                return _text_states(self, ids, mask, image)

            def token_logits(
                self, ids: Tensor, mask: Tensor | None, image: Tensor, cache: dict[Any, Any] | None = None
            ) -> Tensor:
                return _token_logits(self, ids, mask, image, cache)

        encoder, decoder = _text_models(config, wordpiece)
        model = LavisBlip(
            image_encoder=_image_encoder(config),
            text_encoder=encoder,
            text_decoder=decoder,
            queue_size=queue_size if momentum else 1,
            embed_dim=config.embed_dim,
            tie_enc_dec_weights=False,  # tied above, because LAVIS's function prints a line per module
            max_txt_len=config.max_txt_len,
        )
    model.wordpiece = wordpiece
    if not momentum:
        _drop_momentum(model)
    return model


def import_quietly(name: str) -> ModuleType:
    """Import module ``name`` without its warnings, and keep transformers' log level.

    LAVIS sets the verbosity of transformers' loggers at import. The application decides on that, so the level is
    restored.
    """
    with quiet():
        from transformers.utils import logging as transformers_logging

        verbosity = transformers_logging.get_verbosity()
        try:
            return importlib.import_module(name)
        finally:
            transformers_logging.set_verbosity(verbosity)


def _require_lavis() -> None:
    """:raises GuidelensError: LAVIS is not installed."""
    if importlib.util.find_spec("lavis") is not None:
        return
    way = 'run pip install "guidelens[lavis]", or leave backend out'
    if sys.version_info >= (3, 12):
        way = f"this is Python {platform.python_version()}, so leave backend out; the losses are the same"
    raise GuidelensError(
        f"backend=lavis needs salesforce-lavis, which installs on Python 3.10 and 3.11: {way}"
    )


def _bert_tokenizer(vocab: str | Path) -> Any:
    from transformers import BertTokenizer

    tokenizer = BertTokenizer(vocab_file=str(vocab), do_lower_case=True)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    tokenizer.enc_token_id = tokenizer.additional_special_tokens_ids[0]
    return tokenizer


def _text_states(model: Any, ids: Tensor, mask: Tensor, image: Tensor | None) -> Tensor:
    over = {"mode": "text"} if image is None else {"encoder_hidden_states": image}
    states: Tensor = model.text_encoder(ids, attention_mask=mask, return_dict=True, **over).last_hidden_state
    return states


def _token_logits(
    model: Any, ids: Tensor, mask: Tensor | None, image: Tensor, cache: dict[Any, Any] | None
) -> Tensor:
    """:param cache: filled under one key with LAVIS's own form of it."""
    output = model.text_decoder(
        ids,
        attention_mask=mask,
        encoder_hidden_states=image,
        past_key_values=None if cache is None else cache.get(model),
        use_cache=cache is not None,
        return_dict=True,
    )
    if cache is not None:
        cache[model] = output.past_key_values
    logits: Tensor = output.logits
    return logits


def _image_encoder(config: BlipConfig) -> Any:
    vit = import_quietly("lavis.models.vit")
    encoder = vit.VisionTransformerEncoder(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.vision_width,
        depth=config.vision_depth,
        num_heads=config.vision_heads,
    )
    encoder.vision_width = config.vision_width
    return encoder


def _text_models(config: BlipConfig, wordpiece: WordPiece) -> tuple[Any, Any]:
    """Return LAVIS's text encoder and decoder ("MED"), sharing weights."""
    med = import_quietly("lavis.models.med")
    bert_config = med.BertConfig(
        vocab_size=len(wordpiece),
        pad_token_id=wordpiece.pad,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_positions,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        layer_norm_eps=1e-12,
        add_type_embeddings=False,
        add_cross_attention=True,
        encoder_width=config.vision_width,
    )
    encoder = med.XBertEncoder(config=bert_config, add_pooling_layer=False)
    decoder = med.XBertLMHeadDecoder(config=bert_config)
    decoder.tie_weights()
    _tie_decoder(encoder, decoder)
    return encoder, decoder


def _tie_decoder(encoder: Any, decoder: Any) -> None:
    """Share the decoder's parameters with the text encoder, except self-attention (BLIP, section 3.2).

    This is the rule of LAVIS's ``tie_encoder_decoder_weights`` with ``skip_key="/attention"``.
    """
    encoder_modules = dict(encoder.named_modules())
    for name, module in decoder.bert.named_modules():
        if "attention" in name.split("."):
            continue
        for parameter in ("weight", "bias"):
            if getattr(module, parameter, None) is not None:
                setattr(encoder_modules[name], parameter, getattr(module, parameter))


def _drop_momentum(model: Any) -> None:
    """Remove the momentum encoders and queues, half of the parameters. Only pretraining uses them."""
    for name in (*MOMENTUM_PARTS, *QUEUES):
        delattr(model, name)
    model.model_pairs = []
