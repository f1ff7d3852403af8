"""CLIP, SigLIP and CoCa as guidance models: ITC, and with CoCa also CAP, per image-text pair.

Notation: image features f and text features g, normalised; logit scale s and bias b of the model. See Radford et
al. (2021), *CLIP*; Zhai et al. (2023), *Sigmoid Loss for Language Image Pre-Training*; Yu et al. (2022), *CoCa*.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from guidelens.contracts import TextBatch
from guidelens.device_copies import to_device
from guidelens.errors import UsageError
from guidelens.guidance import check_request
from guidelens.networks import kept_dtype

from .build import build
from .checkpoint import digest
from .open_clip_import import import_open_clip
from .preprocess import Preprocess
from .sources import find_source
from .templates import check_template, fill
from .text import Tokenizer, check_prompts, prompt_notes, tokenize

if TYPE_CHECKING:
    from torch import Tensor

ItcMode = Literal["cosine", "sigmoid"]

COSINE_SCALE = 300.0
"""Default scale of ``itc`` with T = 1. This magnitude guided well in the shapes world. It is not tuned for these
models."""
CAPTION_SCALE = 60.0
"""Default scale of ``cap``, chosen in the same way."""

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class OpenClipOptions:
    """Options that define the losses of the objectives."""

    itc_mode: ItcMode = "cosine"
    """``cosine``: -f.g / T. ``sigmoid``: -log sigmoid(f.g / T + b), SigLIP's training loss of a matching pair, for
    models with a bias b."""
    temperature: float | Literal["learned"] | None = None
    """T; ``"learned"`` is the model's own 1 / s (0.01 for CLIP, about 0.009 for SigLIP). None: 1 for ``cosine``,
    ``"learned"`` for ``sigmoid``."""
    templates: tuple[str, ...] = ()
    """Sentences with ``{}`` for the prompt. ``itc`` averages their features. Empty: use the prompt itself."""

    def __post_init__(self) -> None:
        """Check the options.

        :raises UsageError: a mode is unknown, or a value is outside its range.
        :raises GuidelensError: a template has no ``{}``.
        """
        object.__setattr__(self, "templates", tuple(self.templates))
        if self.itc_mode not in get_args(ItcMode):
            raise UsageError(f"itc_mode must be {' or '.join(get_args(ItcMode))}, not {self.itc_mode!r}")
        if self.temperature is not None and self.temperature != "learned":
            number = isinstance(self.temperature, int | float)
            if not number or not math.isfinite(self.temperature) or self.temperature <= 0:
                raise UsageError(
                    f"temperature must be a positive number or 'learned', not {self.temperature!r}"
                )
        for template in self.templates:
            check_template(template, "templates")

    @property
    def learned_temperature(self) -> bool:
        """Whether T is the model's learned temperature."""
        return self.temperature == "learned" or (self.temperature is None and self.itc_mode == "sigmoid")


class OpenClipGuidance:
    """A model of open_clip as a :class:`guidelens.contracts.GuidanceModel`.

    The model runs in evaluation mode with frozen parameters. Losses are per sample: padding, order and the other
    samples of the batch do not change them (up to rounding). They are computed in float32 from the network's
    outputs, or in float64 for a float64 network.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        options: OpenClipOptions = OpenClipOptions(),
        *,
        preprocess: Preprocess | None = None,
        default_scales: Mapping[str, float] | None = None,
        weights: torch.dtype = torch.float32,
    ) -> None:
        """Wrap a model and its tokenizer, as ``open_clip.create_model`` and ``open_clip.get_tokenizer`` return them.

        :param model: a ``CLIP``, ``CustomTextCLIP`` or ``CoCa`` of open_clip.
        :param tokenizer: maps texts to (N, ``tokenizer.context_length``) int64.
        :param preprocess: default: the preprocessing that open_clip stores on the model.
        :param default_scales: factor of each objective's gradient that brings the objectives to one scale.
        :param weights: the dtype in which the weights are kept. The model computes in it.
        :raises UsageError: ``itc_mode`` is ``sigmoid`` and the model has no bias.
        """
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.options = options
        if preprocess is None:
            preprocess = Preprocess.from_config(import_open_clip().get_model_preprocess_cfg(model))
        self.preprocess = preprocess
        self.context_length: int = tokenizer.context_length  # type: ignore[attr-defined]
        self._captions = _can_caption(model)
        # Read before the cast, as floats: bfloat16 would round them to three digits.
        self.logit_scale = math.exp(float(self.model.logit_scale))
        bias = getattr(self.model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias)
        if options.itc_mode == "sigmoid" and self.logit_bias is None:
            raise UsageError(
                "itc=sigmoid needs a model with a logit bias, such as SigLIP; this model has none"
            )
        self.temperature = _temperature(options, self.logit_scale)
        given = default_scales if default_scales is not None else self._untuned_scales()
        self.default_scales: dict[str, float] = dict(given)
        self._weights = weights
        if weights != torch.float32:
            self.model.to(weights)
        self._digest = digest(model, tokenizer, preprocess, self.context_length)

    @property
    def objectives(self) -> frozenset[str]:
        """``{"itc"}``, or for a CoCa ``{"itc", "cap"}``."""
        return frozenset({"itc", "cap"} if self._captions else {"itc"})

    @property
    def fingerprint(self) -> str:
        """Hash of the architecture, weights, preprocessing, tokenizer and objective options."""
        kept = {} if self._weights == torch.float32 else {"weights": str(self._weights)}
        options = json.dumps(
            {**asdict(self.options), "temperature": self.temperature, **kept}, sort_keys=True
        )
        return "open-clip-" + hashlib.sha256(f"{self._digest}{options}".encode()).hexdigest()[:24]

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        device: torch.device = self.model.logit_scale.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network."""
        dtype: torch.dtype = self.model.logit_scale.dtype
        return dtype

    def to(
        self, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> OpenClipGuidance:
        """Move the network to ``device`` and cast it to ``dtype`` (None: keep). Return this object.

        Weights kept in half precision stay so where float32 is asked for.
        """
        self.model.to(device=device, dtype=kept_dtype(self._weights, dtype))
        return self

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        """Encode prompts, each cut to the model's context length.

        Notes list the words that were cut off and those that are not in the vocabulary.

        :raises UsageError: there are no prompts, or a prompt is empty or contains a special token.
        """
        prompts = tuple(prompts)
        check_prompts(self.tokenizer, prompts, self.context_length)
        tokens = tokenize(self.tokenizer, prompts, self.context_length)
        notes = [
            prompt_notes(self.tokenizer, prompt, cut, self.context_length)
            for prompt, cut in zip(prompts, tokens.cut, strict=True)
        ]
        tensors: dict[str, Tensor] = {}
        if self._captions:
            tensors["ids"] = tokens.ids.to(self.device)
            tensors["lengths"] = (
                tokens.lengths
            )  # on the CPU, so that trimming a batch does not wait for the device
        if self._captions or not self.options.templates:
            features, states = self._read(tokens.ids)
            tensors["text_features"] = features
            if states is not None:
                tensors["token_states"] = states
        if self.options.templates:
            tensors["text_features"] = self._ensemble(prompts, notes)
        return TextBatch(prompts, tensors, tuple(map(tuple, notes)))

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        """Return ``{objective: (B,) loss}`` for the requested objectives, differentiable in ``images``.

        - ``itc`` = -f.g / T, or -log sigmoid(f.g / T + b);
        - ``cap`` = -mean over the sample's own tokens t of log p(t | tokens before t, image), the end included.

        :param images: (B, 3, H, W) in [-1, 1], of any size. :class:`Preprocess` fits them to the model.
        :raises UsageError: the model does not have a requested objective.
        """
        check_request("this model", self.objectives, images, text, objectives)
        if not objectives:
            return {}
        features, patches = self._see(images)
        losses = {}
        if "itc" in objectives:
            losses["itc"] = self._itc(features, text)
        if "cap" in objectives and patches is not None:
            losses["cap"] = self._cap(patches, text)
        return losses

    def image_features(self, images: Tensor) -> Tensor:
        """Return the normalised features (B, D) of images (B, 3, H, W) in [-1, 1]."""
        return self._see(images)[0]

    def similarity(self, images: Tensor, text: TextBatch) -> Tensor:
        """Return the cosines (B, N) between the features of B images and of N prompts, without gradients."""
        with torch.no_grad():
            features, _ = self._see(images)
            return features @ text.tensors["text_features"].to(features).T

    def _untuned_scales(self) -> dict[str, float]:
        """Return the default scales. A learned temperature multiplies gradients by 1 / T, so scales include T."""
        itc = COSINE_SCALE * (self.temperature if self.options.learned_temperature else 1.0)
        return {"itc": itc, "cap": CAPTION_SCALE} if self._captions else {"itc": itc}

    def _see(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the images' normalised features (B, D) and, for a CoCa, the tokens (B, K, W) for its decoder."""
        shown = self.preprocess(_at_least_float32(images.to(self.device)))
        seen = self.model.visual(shown.to(self.dtype))
        features, patches = seen if isinstance(seen, tuple) else (seen, None)
        return F.normalize(_at_least_float32(features), dim=-1), patches

    def _read(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the texts' normalised features (N, D) and, for a CoCa, token states (N, L, W), without gradients."""
        features, states = [], []
        with torch.no_grad():
            for chunk in ids.to(self.device).split(_TEXTS_AT_ONCE):
                if self._has_decoder:
                    feature, state = self.model.text(chunk)
                    states.append(state)
                else:
                    feature = self.model.encode_text(chunk)
                features.append(F.normalize(_at_least_float32(feature), dim=-1))
        return torch.cat(features), torch.cat(states) if self._captions else None

    @property
    def _has_decoder(self) -> bool:
        return hasattr(self.model, "text_decoder")

    def _ensemble(self, prompts: Sequence[str], notes: list[list[str]]) -> Tensor:
        """Return the normalised mean (N, D) of the templates' normalised features, and add notes about cut texts."""
        templates = self.options.templates
        texts = [fill(template, prompt) for prompt in prompts for template in templates]
        tokens = tokenize(self.tokenizer, texts, self.context_length)
        for row, note in enumerate(notes):
            cut = sum(tokens.cut[row * len(templates) : (row + 1) * len(templates)])
            if cut:
                note.append(f"too long for {cut} of {len(templates)} templates: their ends are cut off")
        features, _ = self._read(tokens.ids)
        return F.normalize(features.view(len(prompts), len(templates), -1).mean(dim=1), dim=-1)

    def _itc(self, features: Tensor, text: TextBatch) -> Tensor:
        logits = (features * text.tensors["text_features"].to(features)).sum(dim=-1) / self.temperature
        if self.options.itc_mode == "cosine" or self.logit_bias is None:
            return -logits
        return -F.logsigmoid(logits + self.logit_bias)

    def _cap(self, patches: Tensor, text: TextBatch) -> Tensor:
        lengths = text.tensors["lengths"]
        longest = int(lengths.max())
        # The decoder is causal, so columns that are padding in every sample can be dropped.
        ids = text.tensors["ids"][:, :longest].to(patches.device)
        states = text.tensors["token_states"][:, : longest - 1].to(patches)
        logits = _at_least_float32(self.model.text_decoder(patches, states))
        per_token = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        position = torch.arange(1, longest, device=patches.device)
        counted = (position < to_device(lengths, patches.device)[:, None]).to(per_token)
        return (per_token * counted).sum(dim=1) / counted.sum(dim=1)


def load_open_clip(
    model: str = "ViT-B-32",
    *,
    pretrained: str = "",
    checkpoint: str | Path | None = None,
    tokenizer: str | Path | None = None,
    quick_gelu: bool | None = None,
    image_size: int | None = None,
    key: str | None = None,
    options: OpenClipOptions = OpenClipOptions(),
    default_scales: Mapping[str, float] | None = None,
    weights: torch.dtype = torch.float32,
) -> OpenClipGuidance:
    """Load a model of open_clip as a guidance model. :mod:`guidelens_open_clip.sources` describes the names.

    :param model: an architecture, ``hf-hub:OWNER/NAME``, a directory of the same layout, or a JSON configuration.
    :param pretrained: open_clip's tag of the weights, which are fetched unless ``checkpoint`` is given.
    :param checkpoint: a file with the weights, ``.safetensors`` or PyTorch's.
    :param tokenizer: a directory with the Hugging Face tokenizer, for models that have one.
    :param quick_gelu: whether the weights were trained with QuickGELU. Default: what tag or configuration says.
    :param image_size: side in pixels of the network's input. Default: the configuration's.
    :param key: the entry of ``checkpoint`` to read, such as ``ema``, if it holds several networks.
    :param weights: the dtype in which the weights are kept.
    :raises UsageError: a name is unknown, or options do not fit together.
    :raises GuidelensError: a file is missing, unreadable, or of another model.
    """
    source = find_source(model, pretrained=pretrained, checkpoint=checkpoint, tokenizer=tokenizer)
    changed = source.with_changes(quick_gelu=quick_gelu, image_size=image_size)
    network, reader, preprocess = build(changed, key=key, quick_gelu=quick_gelu)
    return OpenClipGuidance(
        network, reader, options, preprocess=preprocess, default_scales=default_scales, weights=weights
    )


def _can_caption(model: Any) -> bool:
    """Return whether a model has a decoder and its text states are causal."""
    return hasattr(model, "text_decoder") and getattr(model.text, "attn_mask", None) is not None


def _temperature(options: OpenClipOptions, logit_scale: float) -> float:
    if options.learned_temperature:
        return 1 / logit_scale
    return 1.0 if options.temperature is None else float(options.temperature)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
