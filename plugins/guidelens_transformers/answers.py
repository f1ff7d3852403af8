"""Models that answer in words (LLaVA, PaliGemma, Qwen2.5-VL, SmolVLM, Gemma 3, ...): CAP and VQA.

``cap`` is the mean negative log-likelihood of the prompt as the answer to a caption instruction. ``vqa`` is -log p(yes)
as the answer to a question about the prompt, after VQAScore of Lin et al. (2024), *Evaluating Text-to-Visual Generation
with Image-to-Text Generation*.

Texts are tokenized once, with one placeholder for the picture. The placeholder is replaced by the tokens that the
processor writes for a picture of the given size (:class:`Placeholder`). These tokens are computed once per size.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from guidelens.device_copies import to_device
from torch import Tensor

from .conversations import Conversation, Tokens, common_start, conversation_of
from .networks import Encoded, Network, at_least_float32
from .options import ObjectiveOptions

_FEATURES = "mm_encoder_outputs"
"""The model input that takes the output of :meth:`get_image_features`, in current classes."""
_PAST = -100  # the label that cross_entropy ignores


@dataclass(frozen=True)
class Placeholder:
    """How a picture's placeholder and the tokens around it are expanded.

    :param start: the first token that is replaced.
    :param removed: number of tokens that are replaced.
    :param ids: (R,) the tokens in their place.
    :param kinds: name of a further input of the model, such as ``token_type_ids`` -> its values (start + R,).
    """

    start: int
    removed: int
    ids: Tensor
    kinds: Mapping[str, Tensor]


class AnsweringModel(Network):
    """A model of the class that AutoModelForImageTextToText loads."""

    objectives = frozenset({"cap", "vqa"})
    default_scales: Mapping[str, float] = {"cap": 60.0, "vqa": 60.0}

    def __init__(self, model: Any, processor: Any, options: ObjectiveOptions, source: str) -> None:
        """Wrap a model.

        :raises GuidelensError: the processor has no chat template, or its image processor keeps no gradients.
        """
        super().__init__(model, processor, options, source)
        self.conversation: Conversation = conversation_of(processor, options, source)
        self._placeholders: dict[tuple[int, ...], Placeholder] = {}

    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Tokenize each prompt as an answer (``cap``) and in a question (``vqa``)."""
        notes = self.conversation.check(prompts)
        tensors: dict[str, Tensor] = {}
        for objective, texts in (
            ("cap", [self.conversation.caption(prompt) for prompt in prompts]),
            ("vqa", [self.conversation.question(prompt, self.conversation.yes) for prompt in prompts]),
        ):
            tensors |= self._packed(objective, texts)
        if self.options.no:
            no = [self.conversation.question(prompt, self.options.no) for prompt in prompts]
            tensors |= self._packed("no", no)
        return Encoded(tensors, notes)

    def losses(
        self, images: Tensor, text: Mapping[str, Tensor], objectives: Collection[str]
    ) -> dict[str, Tensor]:
        """See :meth:`Network.losses`."""
        pixels, size = self._seen(self.pixels(images)), (images.shape[2], images.shape[3])
        losses = {}
        if "cap" in objectives:
            nll, counts = self._answer_nll("cap", pixels, self._placeholder(*size), text)
            losses["cap"] = nll / counts
        if "vqa" in objectives:
            yes, _ = self._answer_nll("vqa", pixels, self._placeholder(*size), text)
            if self.options.no:
                no, _ = self._answer_nll("no", pixels, self._placeholder(*size), text)
                yes = yes + torch.stack([-yes, -no]).logsumexp(dim=0)
            losses["vqa"] = yes
        return losses

    def _seen(self, pixels: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the image inputs with the vision tower's output in place of the pixels, so that it runs once.

        If the class of transformers does not take that output, the pixels stay, and the vision tower runs for each
        answer.
        """
        if _FEATURES not in inspect.signature(self.model.forward).parameters:
            return dict(pixels)
        rest = {name: value for name, value in pixels.items() if not name.startswith("pixel_")}
        return {**rest, _FEATURES: {"image": self.model.get_image_features(**pixels)}}

    def _packed(self, name: str, texts: Sequence[Tokens]) -> dict[str, Tensor]:
        """Return ids (N, L), padded at the end, and start and end (N, 2) of each answer."""
        longest = max(len(text.ids) for text in texts)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.full((len(texts), longest), pad, dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = torch.tensor(text.ids)
        # Spans stay on the CPU, so that cutting a batch to its longest text does not wait for the device.
        spans = torch.tensor([[text.start, len(text.ids)] for text in texts])
        return {f"{name}_ids": ids.to(self.device), f"{name}_span": spans}

    def _answer_nll(
        self, name: str, pixels: Mapping[str, Any], place: Placeholder, text: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the negative log-likelihood (B,) of the answers, and their numbers of tokens (B,)."""
        spans = text[f"{name}_span"]
        longest = int(spans[:, 1].max())
        device = self.device
        ids = text[f"{name}_ids"][:, :longest].to(device)
        starts, ends = to_device(spans, device).unbind(dim=1)
        inputs, grown = self._inputs(ids, starts, ends, place)
        first = int(spans[:, 0].min()) + grown - 1  # the position that predicts the first token of an answer
        logits = self.model(
            **inputs,
            **pixels,
            use_cache=False,
            logits_to_keep=torch.arange(first, longest + grown - 1, device=device),
        ).logits
        position = torch.arange(first + 1, longest + grown, device=device)
        answered = (position >= starts[:, None] + grown) & (position < ends[:, None] + grown)
        targets = inputs["input_ids"][:, first + 1 :].masked_fill(~answered, _PAST)
        logits = at_least_float32(logits).transpose(1, 2)
        nll = F.cross_entropy(logits, targets, reduction="none", ignore_index=_PAST)
        return nll.sum(dim=1), answered.sum(dim=1)

    def _inputs(
        self, ids: Tensor, starts: Tensor, ends: Tensor, place: Placeholder
    ) -> tuple[dict[str, Tensor], int]:
        """Return the text inputs with the picture's tokens in place, and how many tokens longer they are."""
        device, rows = ids.device, len(ids)
        before, after = ids[:, : place.start], ids[:, place.start + place.removed :]
        picture = place.ids.to(device).expand(rows, -1)
        whole = torch.cat([before, picture, after], dim=1)
        grown = whole.shape[1] - ids.shape[1]
        position = torch.arange(whole.shape[1], device=device)
        inputs = {"input_ids": whole, "attention_mask": (position < ends[:, None] + grown).long()}
        for name, kinds in place.kinds.items():
            rest = self.conversation.kinds_after(whole, starts + grown)
            known = kinds.to(device)
            inputs[name] = torch.cat([known.expand(rows, -1), rest[:, len(known) :]], dim=1)
        return inputs, grown

    def _placeholder(self, height: int, width: int) -> Placeholder:
        """Return the placeholder's expansion for a picture of this size."""
        if (height, width) not in self._placeholders:
            self._placeholders[height, width] = self._expansion(height, width)
        return self._placeholders[height, width]

    def _expansion(self, height: int, width: int) -> Placeholder:
        """Compare the tokens of a text with and without its placeholder expanded by the processor."""
        text = self.conversation.probe()
        plain = self.conversation.probe_ids()
        written = self.processor(
            text=[text],
            images=self.images.listed(torch.zeros(1, 3, height, width, dtype=torch.uint8)),
            add_special_tokens=plain != self.conversation.without_special(text),
            input_data_format="channels_first",
            return_tensors="pt",
            **self.images.settings,
        )
        ids = written["input_ids"][0].tolist()
        start = common_start(plain, ids)
        behind = common_start(plain[start:][::-1], ids[start:][::-1])
        stop = len(ids) - behind
        kinds = {
            name: written[name][0, :stop]
            for name in ("token_type_ids", "mm_token_type_ids")
            if name in written
        }
        return Placeholder(start, len(plain) - behind - start, torch.tensor(ids[start:stop]), kinds)
