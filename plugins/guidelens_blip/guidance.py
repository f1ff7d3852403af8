"""BLIP as a guidance model: ITC, ITM and CAP losses per image-text pair, differentiable in the image.

Notation: image features f = normalise(W_v v_cls), text features g = normalise(W_t u_cls), from the [CLS]
tokens of the vision transformer (patch tokens v) and of the unimodal text encoder. See Li et al. (2022),
*BLIP*, section 3.2, and Kong & Kwak (2023), section 2.2.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from guidelens.contracts import TextBatch
from guidelens.device_copies import to_device, upload
from guidelens.errors import UsageError
from guidelens.guidance import check_request
from guidelens.networks import kept_dtype

from .captions import clean_caption
from .checkpoint import Backend, digest, load_model
from .config import BlipConfig
from .network import OBJECTIVES, Cache
from .tokenizer import Tokens, tokenize

if TYPE_CHECKING:
    from torch import Tensor

ItcMode = Literal["cosine", "infonce"]
ItmMode = Literal["nll", "margin"]


@dataclass(frozen=True)
class BlipOptions:
    """Options that define the losses of the three objectives."""

    itc_mode: ItcMode = "cosine"
    """``cosine``: -f.g / T. ``infonce``: -log softmax of f.g / T among the prompt and ``negatives``; a
    softmax over a single pair would have no gradient, so negatives are needed."""
    temperature: float | Literal["learned"] = 1.0
    """T of ``itc``. ``"learned"`` uses the temperature of the model (about 0.01 to 0.07)."""
    negatives: tuple[str, ...] = ()
    """Prompts to contrast with, for ``infonce``. A sample ignores negatives that equal its own prompt."""
    itm_mode: ItmMode = "nll"
    """``nll``: -log p(match), which saturates once the pair matches. ``margin``: the logit of "no match"
    minus the logit of "match", which does not saturate."""
    label_smoothing: float = 0.0
    """Share of ``cap``'s target probability that is spread evenly over the vocabulary. BLIP was trained with 0.1."""
    clean: bool = True
    """Clean prompts as BLIP's training cleaned its captions: :func:`guidelens_blip.captions.clean_caption`."""

    def __post_init__(self) -> None:
        """Check the options.

        :raises UsageError: a mode is unknown, or a value is outside its range.
        """
        object.__setattr__(self, "negatives", tuple(self.negatives))
        for name, value, allowed in (
            ("itc_mode", self.itc_mode, get_args(ItcMode)),
            ("itm_mode", self.itm_mode, get_args(ItmMode)),
        ):
            if value not in allowed:
                raise UsageError(f"{name} must be {' or '.join(allowed)}, not {value!r}")
        if self.temperature != "learned":
            number = isinstance(self.temperature, int | float)
            if not number or not math.isfinite(self.temperature) or self.temperature <= 0:
                raise UsageError(
                    f"temperature must be a positive number or 'learned', not {self.temperature!r}"
                )
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UsageError(f"label_smoothing must be in [0, 1), not {self.label_smoothing}")
        if (self.itc_mode == "infonce") != bool(self.negatives):
            raise UsageError("itc_mode infonce needs negatives, and cosine does not use them")

    def identity(self) -> str:
        """Return the options as JSON, for a fingerprint.

        Cleaning appears only if it is off. It leaves most prompts unchanged, so it should not change the keys of
        their pictures either.
        """
        options = asdict(self)
        if self.clean:
            del options["clean"]
        return json.dumps(options, sort_keys=True)


@dataclass(frozen=True)
class _Negatives:
    prompts: tuple[str, ...] = ()
    features: Tensor = field(default_factory=lambda: torch.zeros(0, 0))


class BlipGuidance:
    """BLIP's network as a :class:`guidelens.contracts.GuidanceModel`, with our implementation or LAVIS's.

    The model runs in evaluation mode with frozen parameters. Losses are per sample: padding, order and the other
    samples of the batch do not change them (up to rounding). They are computed in float32 from the network's
    outputs, or in float64 for a float64 network.
    """

    objectives: frozenset[str] = OBJECTIVES

    def __init__(
        self,
        model: Any,
        config: BlipConfig,
        options: BlipOptions = BlipOptions(),
        *,
        default_scales: Mapping[str, float] | None = None,
        weights: torch.dtype = torch.float32,
    ) -> None:
        """Wrap ``model``, of size ``config``: from :func:`build_blip`, :func:`load_model` or ``build_lavis``.

        :param default_scales: factor of each objective's gradient that brings the objectives to one scale.
        :param weights: the dtype in which the weights are kept. The model computes in it.
        """
        self.model = model.eval().requires_grad_(False)
        self.objectives = model.objectives
        self.config = config
        self.options = options
        self.default_scales: dict[str, float] = dict(default_scales or {})
        # Read once, as a float: reading from the device at every step would synchronise.
        learned = options.temperature == "learned"
        self._temperature = float(model.temp) if learned else float(options.temperature)
        self._weights = weights
        if weights != torch.float32:
            self.model.to(weights)
        self._digest = digest(model, config)
        self._negatives = _Negatives()
        if options.negatives:
            prompts = tuple(dict.fromkeys(map(self._as_read, options.negatives)))
            tokens = self._tokenize(prompts)
            self._negatives = _Negatives(prompts, self._text_features(tokens.itc, tokens.mask))

    @property
    def fingerprint(self) -> str:
        """Hash of the architecture, weights, vocabulary and objective options."""
        kept = "" if self._weights == torch.float32 else str(self._weights)
        described = f"{self._digest}{self.options.identity()}{kept}"
        return "blip-" + hashlib.sha256(described.encode()).hexdigest()[:24]

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        device: torch.device = self.model.visual_encoder.cls_token.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network."""
        dtype: torch.dtype = self.model.visual_encoder.cls_token.dtype
        return dtype

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> BlipGuidance:
        """Move the network to ``device`` and cast it to ``dtype`` (None: keep). Return this object.

        Weights kept in half precision stay so where float32 is asked for.
        """
        self.model.to(device=device, dtype=kept_dtype(self._weights, dtype))
        return self

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        """Encode prompts for the three objectives, each cut to ``config.max_txt_len`` tokens.

        Notes report how a prompt was cleaned, which words were cut off and which are not in the vocabulary.

        :raises UsageError: there are no prompts; or a prompt is empty, contains a special token, or (``infonce``)
            has no negative that differs from it.
        """
        prompts = tuple(prompts)
        tokens = self._tokenize(prompts)
        mask = tokens.mask.to(self.device)
        tensors = {
            "itm_ids": tokens.itm.to(self.device),
            "cap_ids": tokens.cap.to(self.device),
            "mask": mask,
            "lengths": tokens.lengths,  # on the CPU, so that trimming a batch does not wait for the device
        }
        if "itc" in self.objectives:
            tensors["text_features"] = self._text_features(tokens.itc, mask)
        if self._negatives.prompts:
            read = [self._as_read(prompt) for prompt in prompts]
            own = [[text == negative for negative in self._negatives.prompts] for text in read]
            for prompt, same in zip(prompts, own, strict=True):
                if all(same):
                    raise UsageError(
                        f"itc_mode infonce: every negative equals the prompt {prompt!r}; give another negative"
                    )
            tensors["is_own_negative"] = torch.tensor(own, device=self.device)
        return TextBatch(prompts=prompts, tensors=tensors, notes=tokens.notes)

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        """Return ``{objective: (B,) loss}`` for the requested objectives, differentiable in ``images``.

        - ``itc`` = -f.g / T, or InfoNCE against the negatives;
        - ``itm`` = -log p(match | image, text), or the margin z_no - z_match;
        - ``cap`` = -mean over the sample's own tokens t of log p(t | tokens before t, image), [SEP] included.

        :param images: (B, 3, H, W) in [-1, 1], of any size. They are resized to the model's size.
        :raises UsageError: BLIP does not have a requested objective.
        """
        check_request("BLIP", self.objectives, images, text, objectives)
        if not objectives:
            return {}
        return self._losses_of(self._patches(images), text, objectives)

    def _losses_of(self, patches: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        tokens = self._trimmed(text)
        compute = {"itc": self._itc, "itm": self._itm, "cap": self._cap}
        return {name: compute[name](patches, tokens) for name in compute if name in objectives}

    def all_losses(
        self, images: Tensor, text: TextBatch, objectives: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Return ``{objective: (B, N) losses}`` of every image with every prompt, without gradients.

        Use it for retrieval and zero-shot classification. Each image is encoded once, for any number of prompts.

        :param objectives: None: all three.
        """
        with torch.no_grad():
            patches = self._patches(images).repeat_interleave(len(text), dim=0)
            paired = text.select(list(range(len(text))) * len(images))
            losses = self._losses_of(patches, paired, self.objectives if objectives is None else objectives)
        return {name: loss.view(len(images), len(text)) for name, loss in losses.items()}

    def image_features(self, images: Tensor) -> Tensor:
        """Return the normalised ITC features (B, D) of images (B, 3, H, W) in [-1, 1]."""
        return self._image_features(self._patches(images))

    def similarity(self, images: Tensor, text: TextBatch) -> Tensor:
        """Return the cosines (B, N) between the features of B images and of N prompts, without gradients."""
        with torch.no_grad():
            features = self._image_features(self._patches(images))
            return features @ text.tensors["text_features"].to(features).T

    def match_probability(self, images: Tensor, text: TextBatch) -> Tensor:
        """Return p(match) (B,) of B image-prompt pairs according to the ITM head, without gradients."""
        with torch.no_grad():
            logits = self._match_logits(self._patches(images), self._trimmed(text))
            return logits.softmax(dim=-1)[:, 1]

    def caption(self, images: Tensor) -> list[str]:
        """Describe images (B, 3, H, W): greedy decoding up to [SEP] or ``config.max_txt_len`` tokens."""
        wordpiece = self.model.wordpiece
        with torch.no_grad():
            patches = self._patches(images)
            ids = torch.full((len(images), 1), wordpiece.dec, device=self.device)
            done = torch.zeros(len(images), dtype=torch.bool, device=self.device)
            cache: Cache = {}
            for _ in range(self.config.max_txt_len - 1):
                logits = self.model.token_logits(ids[:, -1:], None, patches, cache)
                best = logits[:, -1].argmax(dim=-1).masked_fill(done, wordpiece.pad)
                ids = torch.cat((ids, best[:, None]), dim=1)
                done |= best == wordpiece.sep
                if bool(done.all()):
                    break
        return [wordpiece.decode(row) for row in ids.tolist()]

    def _patches(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to the vision transformer's tokens (B, 1 + patches, width)."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise UsageError(f"BLIP sees images of shape (B, 3, H, W), not {tuple(images.shape)}")
        images = _at_least_float32(images.to(self.device))
        size = (self.config.image_size, self.config.image_size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)
        mean, std = (
            upload(torch.tensor(values, dtype=torch.float64), images.device, images.dtype)[:, None, None]
            for values in (self.config.image_mean, self.config.image_std)
        )
        patches: Tensor = self.model.visual_encoder((((images + 1) / 2 - mean) / std).to(self.dtype))
        return patches

    def _as_read(self, prompt: str) -> str:
        return clean_caption(prompt) if self.options.clean else prompt

    def _tokenize(self, prompts: Sequence[str]) -> Tokens:
        length = self.config.max_txt_len
        return tokenize(self.model.wordpiece, prompts, length, clean=self.options.clean)

    def _trimmed(self, text: TextBatch) -> dict[str, Tensor]:
        """Return the text tensors on the network's device, without columns that are padding in every
        sample."""
        longest = int(text.tensors["lengths"].max())
        tensors = {name: tensor.to(self.device) for name, tensor in text.tensors.items() if name != "lengths"}
        for name in ("itm_ids", "cap_ids", "mask"):
            tensors[name] = tensors[name][:, :longest]
        return tensors

    def _image_features(self, patches: Tensor) -> Tensor:
        return F.normalize(_at_least_float32(self.model.vision_proj(patches[:, 0])), dim=-1)

    def _text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the normalised features (N, embed_dim) of [CLS]-led tokens, without gradients."""
        with torch.no_grad():
            states = self.model.text_states(ids.to(self.device), mask.to(self.device))
            projected = self.model.text_proj(states[:, 0])
            return F.normalize(_at_least_float32(projected), dim=-1)

    def _itc(self, patches: Tensor, text: Mapping[str, Tensor]) -> Tensor:
        features = self._image_features(patches)
        temperature = self._temperature
        own = (features * text["text_features"].to(features)).sum(dim=-1) / temperature
        if self.options.itc_mode == "cosine":
            return -own
        others = features @ to_device(self._negatives.features, features.device).to(features).T / temperature
        others = others.masked_fill(text["is_own_negative"], -torch.inf)
        return torch.logsumexp(torch.cat((own[:, None], others), dim=1), dim=1) - own

    def _match_logits(self, patches: Tensor, text: Mapping[str, Tensor]) -> Tensor:
        """Return the ITM head's logits (B, 2): no match, match."""
        states = self.model.text_states(text["itm_ids"], text["mask"], patches)
        return _at_least_float32(self.model.itm_head(states[:, 0]))

    def _itm(self, patches: Tensor, text: Mapping[str, Tensor]) -> Tensor:
        logits = self._match_logits(patches, text)
        if self.options.itm_mode == "margin":
            return logits[:, 0] - logits[:, 1]
        return -F.log_softmax(logits, dim=-1)[:, 1]

    def _cap(self, patches: Tensor, text: Mapping[str, Tensor]) -> Tensor:
        ids, mask = text["cap_ids"], text["mask"]
        logits = self.model.token_logits(ids, mask, patches)
        per_token = F.cross_entropy(
            _at_least_float32(logits[:, :-1]).transpose(1, 2),
            ids[:, 1:],
            reduction="none",
            label_smoothing=self.options.label_smoothing,
        )
        counted = mask[:, 1:].to(per_token)
        return (per_token * counted).sum(dim=1) / counted.sum(dim=1)


def load_blip(
    checkpoint: str | Path,
    *,
    vocab: str | Path | None = None,
    config: BlipConfig | None = None,
    image_size: int | None = None,
    options: BlipOptions = BlipOptions(),
    default_scales: Mapping[str, float] | None = None,
    backend: Backend = "native",
    key: str | None = None,
    weights: torch.dtype = torch.float32,
) -> BlipGuidance:
    """Load a checkpoint as a guidance model. :func:`guidelens_blip.checkpoint.load_model` describes the files.

    :param backend: the implementation, ``native`` or ``lavis``. Losses and fingerprint are the same.
    :param key: the entry of the checkpoint to read, if it holds several networks.
    :param weights: the dtype in which the weights are kept.
    :raises GuidelensError: a file is missing, unreadable, or holds another model.
    """
    model, config = load_model(
        checkpoint, vocab=vocab, config=config, image_size=image_size, backend=backend, key=key
    )
    return BlipGuidance(model, config, options, default_scales=default_scales, weights=weights)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
