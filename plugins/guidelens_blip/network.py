"""BLIP's network: a vision transformer, a BERT-like text encoder that can read an image, and a decoder.

Source: Li et al. (2022), *BLIP: Bootstrapping Language-Image Pre-training*, sections 3.1 and 3.2; the vision
transformer is that of Dosovitskiy et al. (2021), the text transformers are BERT's (Devlin et al. 2019, post-norm).
Tensors have the names of the published checkpoints, so their state dicts load unchanged.

Shapes: B images, P patches, N texts of L tokens, H heads of width d, V entries of the vocabulary. On a CPU the
operations run in the order of LAVIS's ``BlipPretrain``, and the results are equal bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import BlipConfig
from .layers import Conv2d, Embedding, Linear, attend
from .tokenizer import WordPiece, load_tokenizer

OBJECTIVES = frozenset({"itc", "itm", "cap"})
MASKED = -10_000.0
"""Added to the attention scores of masked tokens. This is LAVIS's value; lower ones overflow float16."""
VISION_EPS, TEXT_EPS = 1e-6, 1e-12
"""Epsilon of the layer normalisations."""
INITIAL_STD = 0.02

Cache = dict[nn.Module, tuple[Tensor, Tensor]]
"""Keys and values (N, H, length, d) of each attention layer, for the tokens decoded so far and for the image."""


class VisionAttention(nn.Module):
    """Self-attention softmax(q k^T / sqrt(d)) v of patches. One linear layer computes q, k and v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1 + P, width) to the same shape."""
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attend(qkv[0], qkv[1], qkv[2], scale=(width // self.heads) ** -0.5)
        return cast(Tensor, self.proj(mixed.transpose(1, 2).reshape(batch, length, width)))


class VisionBlock(nn.Module):
    """x <- x + attention(norm(x)), then x <- x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=VISION_EPS)
        self.attn = VisionAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=VISION_EPS)
        self.mlp = nn.ModuleDict({"fc1": Linear(width, 4 * width), "fc2": Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1 + P, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return cast(Tensor, x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))


class VisionTransformer(nn.Module):
    """Map images to tokens: projected patches and a class token, position embeddings, blocks, layer normalisation."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (config.image_size // patch) ** 2, width))
        self.patch_embed = nn.ModuleDict({"proj": Conv2d(3, width, patch, stride=patch)})
        self.blocks = nn.ModuleList(
            VisionBlock(width, config.vision_heads) for _ in range(config.vision_depth)
        )
        self.norm = nn.LayerNorm(width, eps=VISION_EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, S, S) to tokens (B, 1 + P, width), the class token first."""
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(images), -1, -1), patches), dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.norm(x))


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(d) + bias) v, with k and v from the tokens themselves or from the image."""

    def __init__(self, config: BlipConfig, source_width: int) -> None:
        super().__init__()
        self.heads, width = config.text_heads, config.hidden_size
        self.query = Linear(width, width)
        self.key = Linear(source_width, width)
        self.value = Linear(source_width, width)
        self.dropout = config.dropout

    def forward(
        self, x: Tensor, image: Tensor | None = None, bias: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Map tokens (N, L, hidden) to the same shape.

        :param image: the vision transformer's tokens (N, 1 + P, vision_width), for cross-attention.
        :param bias: added to the scores; broadcasts to (N, H, L, length).
        :param cache: keys and values of earlier tokens, which this call extends.
        """
        q = self._split(self.query(x))
        known = None if cache is None else cache.get(self)
        if image is not None and known is not None:
            k, v = known
        else:
            source = x if image is None else image
            k, v = self._split(self.key(source)), self._split(self.value(source))
            if known is not None:
                k, v = (torch.cat(pair, dim=2) for pair in zip(known, (k, v), strict=True))
        if cache is not None:
            cache[self] = k, v
        dropout = self.dropout if self.training else 0.0
        mixed = attend(q, k, v, divisor=math.sqrt(q.shape[-1]), bias=bias, dropout=dropout)
        return mixed.permute(0, 2, 1, 3).contiguous().view(x.shape)

    def _split(self, x: Tensor) -> Tensor:
        """Map (N, L, H * d) to (N, H, L, d)."""
        return x.view(*x.shape[:2], self.heads, -1).permute(0, 2, 1, 3)


class Residual(nn.Module):
    """norm(dropout(W x + b) + residual)."""

    def __init__(self, config: BlipConfig, width: int) -> None:
        super().__init__()
        self.dense = Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=TEXT_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Map (N, L, width) and (N, L, hidden) to (N, L, hidden)."""
        return cast(Tensor, self.LayerNorm(self.dropout(self.dense(x)) + residual))


class TextAttention(nn.Module):
    """Attention with output layer and residual connection."""

    def __init__(self, config: BlipConfig, source_width: int) -> None:
        super().__init__()
        self.self = SelfAttention(config, source_width)
        self.output = Residual(config, config.hidden_size)

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map tokens (N, L, hidden) to the same shape; see :class:`SelfAttention` for the other arguments."""
        return cast(Tensor, self.output(self.self(x, *args), x))


class TextLayer(nn.Module):
    """Self-attention, then (with an image) cross-attention, then a feed-forward layer."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__()
        self.attention = TextAttention(config, config.hidden_size)
        self.crossattention = TextAttention(config, config.vision_width)
        self.intermediate = nn.ModuleDict({"dense": Linear(config.hidden_size, config.intermediate_size)})
        self.output = Residual(config, config.intermediate_size)

    def forward(self, x: Tensor, image: Tensor | None, bias: Tensor | None, cache: Cache | None) -> Tensor:
        """Map tokens (N, L, hidden) to the same shape."""
        x = self.attention(x, None, bias, cache)
        if image is not None:
            x = self.crossattention(x, image, None, cache)
        return cast(Tensor, self.output(F.gelu(self.intermediate["dense"](x)), x))


class Embeddings(nn.Module):
    """norm(word + position)."""

    def __init__(self, config: BlipConfig, wordpiece: WordPiece) -> None:
        super().__init__()
        self.word_embeddings = Embedding(len(wordpiece), config.hidden_size, padding_idx=wordpiece.pad)
        self.position_embeddings = Embedding(config.max_positions, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=TEXT_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, start: int = 0) -> Tensor:
        """Map token ids (N, L), the first at position ``start``, to (N, L, hidden)."""
        positions = self.position_embeddings.weight[start : start + ids.shape[1]]
        return cast(Tensor, self.dropout(self.LayerNorm(self.word_embeddings(ids) + positions)))


class TextTransformer(nn.Module):
    """The text encoder, or with ``causal`` the body of the decoder."""

    def __init__(self, config: BlipConfig, wordpiece: WordPiece, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.embeddings = Embeddings(config, wordpiece)
        layers = nn.ModuleList(TextLayer(config) for _ in range(config.text_layers))
        self.encoder = nn.ModuleDict({"layer": layers})

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, image: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Map token ids (N, L) to states (N, L, hidden).

        :param mask: (N, L), 1 for tokens and 0 for padding; None: no padding.
        :param image: the image's tokens (N, 1 + P, vision_width); None: text alone, without cross-attention.
        :param cache: keys and values of the tokens before ``ids``. ``ids`` must then hold one token per text.
        """
        layers = cast(nn.ModuleList, self.encoder["layer"])
        start = cache[layers[0].attention.self][0].shape[2] if cache else 0  # type: ignore[union-attr,index]
        x = self.embeddings(ids, start)
        bias = None if start else self._bias(ids, mask)
        for layer in layers:
            x = layer(x, image, bias, cache)
        return cast(Tensor, x)

    def _bias(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention bias (N, 1, 1 or L, L): 0 for visible tokens, :data:`MASKED` for others."""
        seen = torch.ones_like(ids) if mask is None else mask
        seen = seen[:, None, None, :].to(self.embeddings.word_embeddings.weight.dtype)
        if self.causal:
            seen = seen * torch.ones_like(seen).expand(-1, -1, ids.shape[1], -1).tril()
        return (1.0 - seen) * MASKED

    def share_with(self, encoder: TextTransformer) -> None:
        """Share all parameters of ``encoder`` except its self-attention (BLIP, section 3.2)."""
        self.embeddings = encoder.embeddings
        layers = (cast(nn.ModuleList, part.encoder["layer"]) for part in (self, encoder))
        for own, other in zip(*layers, strict=True):
            for name in ("crossattention", "intermediate", "output"):
                setattr(own, name, getattr(other, name))


class PredictionHead(nn.Module):
    """V logits per token: the product of norm(gelu(W x + b)) with the word embeddings, plus a bias."""

    def __init__(self, config: BlipConfig, words: Embedding) -> None:
        super().__init__()
        width = config.hidden_size
        self.bias = nn.Parameter(torch.zeros(words.num_embeddings))
        norm = nn.LayerNorm(width, eps=TEXT_EPS)
        self.transform = nn.ModuleDict({"dense": Linear(width, width), "LayerNorm": norm})
        self.decoder = Linear(width, words.num_embeddings)
        self.decoder.weight, self.decoder.bias = words.weight, self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map states (N, L, hidden) to logits (N, L, V)."""
        transformed = self.transform["LayerNorm"](F.gelu(self.transform["dense"](x)))
        return cast(Tensor, self.decoder(transformed))


class TextDecoder(nn.Module):
    """Predicts each token from those before it and the image."""

    def __init__(self, config: BlipConfig, wordpiece: WordPiece, encoder: TextTransformer | None) -> None:
        super().__init__()
        self.bert = TextTransformer(config, wordpiece, causal=True)
        if encoder is not None:
            self.bert.share_with(encoder)
        self.cls = nn.ModuleDict(
            {"predictions": PredictionHead(config, self.bert.embeddings.word_embeddings)}
        )

    def forward(self, ids: Tensor, mask: Tensor | None, image: Tensor, cache: Cache | None = None) -> Tensor:
        """Map token ids (N, L) to logits (N, L, V) of the token after each; see :class:`TextTransformer`."""
        return cast(Tensor, self.cls["predictions"](self.bert(ids, mask, image, cache)))


class Blip(nn.Module):
    """The network with the heads of the given objectives.

    Its weights are not initialised. Load them, or draw them with :func:`initialise`.

    :param objectives: ``itc`` needs the text encoder and two projections, ``itm`` the text encoder and a
        classifier, ``cap`` the decoder, which shares every parameter but self-attention with the encoder.
    """

    def __init__(
        self, config: BlipConfig, wordpiece: WordPiece, objectives: Collection[str] = OBJECTIVES
    ) -> None:
        super().__init__()
        self.objectives = frozenset(objectives)
        self.wordpiece = wordpiece
        self.visual_encoder = VisionTransformer(config)
        encoder = None
        if self.objectives & {"itc", "itm"}:
            encoder = self.text_encoder = TextTransformer(config, wordpiece)
        if "cap" in self.objectives:
            self.text_decoder = TextDecoder(config, wordpiece, encoder)
        if "itc" in self.objectives:
            self.vision_proj = Linear(config.vision_width, config.embed_dim)
            self.text_proj = Linear(config.hidden_size, config.embed_dim)
            self.temp = nn.Parameter(torch.tensor(0.07))
        if "itm" in self.objectives:
            self.itm_head = Linear(config.hidden_size, 2)

    def text_states(self, ids: Tensor, mask: Tensor, image: Tensor | None = None) -> Tensor:
        """Return the text encoder's states (N, L, hidden). The first token is [ENC] with an image, else [CLS]."""
        return cast(Tensor, self.text_encoder(ids, mask, image))

    def token_logits(
        self, ids: Tensor, mask: Tensor | None, image: Tensor, cache: Cache | None = None
    ) -> Tensor:
        """Return the decoder's logits (N, L, V) for the token after each of ``ids``. The first token is [DEC].

        :param cache: pass an empty dictionary at first, then the same one with one more token at each call.
        """
        return cast(Tensor, self.text_decoder(ids, mask, image, cache))


def build_blip(config: BlipConfig, vocab: str | Path, objectives: Collection[str] = OBJECTIVES) -> Blip:
    """Build a randomly initialised network of size ``config``, in training mode, on the CPU.

    :param vocab: WordPiece vocabulary file (see :func:`guidelens_blip.tokenizer.load_tokenizer`).
    :param objectives: the objectives to build heads for.
    :raises GuidelensError: the vocabulary cannot be read.
    """
    network = Blip(config, load_tokenizer(vocab), objectives)
    initialise(network)
    return network


def initialise(network: Blip) -> None:
    """Draw the initial weights for training, with the rules of BERT and ViT, and PyTorch's for the heads."""
    vision = network.visual_encoder
    for tensor in (vision.cls_token, vision.pos_embed):
        nn.init.trunc_normal_(tensor, std=INITIAL_STD)
    for name, layer in network.named_modules():
        part = name.partition(".")[0]
        if part in ("text_encoder", "text_decoder") and isinstance(layer, Linear | Embedding):
            nn.init.normal_(layer.weight, std=INITIAL_STD)
        elif part == "visual_encoder" and isinstance(layer, Linear):
            nn.init.trunc_normal_(layer.weight, std=INITIAL_STD)
        elif isinstance(layer, Conv2d):
            nn.Conv2d.reset_parameters(layer)
            continue
        elif isinstance(layer, Linear):
            nn.Linear.reset_parameters(layer)
            continue
        if isinstance(layer, Linear):
            nn.init.zeros_(layer.bias)
