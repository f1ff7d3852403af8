"""Write a prompt for a model that answers in words, as the answer to an instruction or inside a question."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from guidelens.errors import GuidelensError
from torch import Tensor

from .networks import check_words
from .options import CAPTION, ObjectiveOptions

_UNLIMITED = 10**9


@dataclass(frozen=True)
class Tokens:
    """A text with one placeholder for the picture.

    :param ids: its tokens; they end with the answer.
    :param start: the position of the first token of the answer.
    """

    ids: tuple[int, ...]
    start: int


class Conversation(ABC):
    """Writes prompts as a processor's model expects them."""

    yes: str

    def __init__(self, processor: Any, options: ObjectiveOptions) -> None:
        """Use the templates and the tokenizer of ``processor``."""
        self.processor = processor
        self.tokenizer: Any = processor.tokenizer
        self.options = options

    def check(self, prompts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Return notes for each prompt, see :func:`.networks.check_words`."""
        return check_words(self.tokenizer, prompts, _UNLIMITED)

    @abstractmethod
    def caption(self, prompt: str) -> Tokens:
        """Return the prompt as the answer to the caption instruction, including the end of the answer."""

    @abstractmethod
    def question(self, prompt: str, answer: str) -> Tokens:
        """Return the question about the prompt with this answer, without the end of the answer."""

    @abstractmethod
    def probe(self) -> str:
        """Return a text with the picture's placeholder, as the processor takes it."""

    @abstractmethod
    def probe_ids(self) -> list[int]:
        """Return the tokens of :meth:`probe`, with the placeholder not expanded."""

    def without_special(self, text: str) -> list[int]:
        """Return the tokens of a text, without those that the tokenizer adds."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def kinds_after(self, ids: Tensor, starts: Tensor) -> Tensor:
        """Return the types (B, L) of the tokens after the picture: 0 for ordinary text."""
        return torch.zeros_like(ids)

    def _tokens(self, head: str, answer: str, end: str, special: bool) -> Tokens:
        """Tokenize a text. The answer starts at the first token that differs from those of ``head``."""
        ids = self._ids(head + answer + end, special)
        start = common_start(ids, self._ids(head, special))
        if end:  # what a template writes after the answer's end, such as a line feed, is not part of it
            stop = next((i for i in range(start, len(ids)) if ids[i] in self._special()), len(ids) - 1)
            ids = ids[: stop + 1]
        return Tokens(tuple(ids), start)

    def _ids(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        if special and self.tokenizer.eos_token_id is not None and ids[-1:] == [self.tokenizer.eos_token_id]:
            return ids[:-1]  # written by the tokenizer, not by the template
        return ids

    def _special(self) -> set[int]:
        return set(self.tokenizer.all_special_ids)


class ChatConversation(Conversation):
    """The processor's chat template: the user shows a picture and asks, the model answers."""

    def __init__(self, processor: Any, options: ObjectiveOptions) -> None:
        """See :class:`Conversation`."""
        super().__init__(processor, options)
        self.yes = options.yes or "Yes"

    def caption(self, prompt: str) -> Tokens:
        """See :meth:`Conversation.caption`."""
        head = self._head(self.options.caption)
        return self._tokens(
            *self._answered(head, self.options.caption, prompt.strip()), self._adds_special(head)
        )

    def question(self, prompt: str, answer: str) -> Tokens:
        """See :meth:`Conversation.question`."""
        instruction = self.options.asked(prompt)
        head = self._head(instruction)
        before, text, _ = self._answered(head, instruction, answer)
        return self._tokens(before, text, "", self._adds_special(head))

    def probe(self) -> str:
        """See :meth:`Conversation.probe`."""
        return self._head(self.options.caption)

    def probe_ids(self) -> list[int]:
        """See :meth:`Conversation.probe_ids`."""
        head = self.probe()
        return self._ids(head, self._adds_special(head))

    def _head(self, instruction: str) -> str:
        text: str = self.processor.apply_chat_template(
            [_said("user", instruction, picture=True)], add_generation_prompt=True, tokenize=False
        )
        return text

    def _answered(self, head: str, instruction: str, answer: str) -> tuple[str, str, str]:
        """Return what precedes an answer, the answer, and what ends it, as the template writes them."""
        whole: str = self.processor.apply_chat_template(
            [_said("user", instruction, picture=True), _said("assistant", answer)], tokenize=False
        )
        if not whole.startswith(head) or answer not in whole[len(head) :]:
            return head, answer, self.tokenizer.eos_token or ""
        space, _, end = whole[len(head) :].partition(answer)
        return head, space + answer, end.rstrip()

    def _adds_special(self, text: str) -> bool:
        """Whether the tokenizer adds its own first token. It does not if the template wrote it."""
        first = self.tokenizer.bos_token
        return first is None or not text.startswith(first)


class PrefixConversation(Conversation):
    """PaliGemma: a prefix (``caption en``, ``answer en QUESTION``) that is read in both directions, then the answer."""

    def __init__(self, processor: Any, options: ObjectiveOptions) -> None:
        """See :class:`Conversation`."""
        super().__init__(processor, options)
        self.yes = options.yes or "yes"
        self._caption = "caption en" if options.caption == CAPTION else options.caption

    def caption(self, prompt: str) -> Tokens:
        """See :meth:`Conversation.caption`."""
        return self._tokens(self._head(self._caption), prompt.strip(), self.tokenizer.eos_token, False)

    def question(self, prompt: str, answer: str) -> Tokens:
        """See :meth:`Conversation.question`."""
        return self._tokens(self._head(f"answer en {self.options.asked(prompt)}"), answer, "", False)

    def probe(self) -> str:
        """See :meth:`Conversation.probe`."""
        return f"{self.processor.image_token}{self._caption}"

    def probe_ids(self) -> list[int]:
        """See :meth:`Conversation.probe_ids`."""
        return self._ids(self._head(self._caption), False)

    def kinds_after(self, ids: Tensor, starts: Tensor) -> Tensor:
        """Return 0 for the prefix, 1 for the answer, which is read in one direction."""
        return (torch.arange(ids.shape[1], device=ids.device) >= starts[:, None]).long()

    def _head(self, instruction: str) -> str:
        return f"{self.processor.image_token}{self.tokenizer.bos_token}{instruction}\n"


def conversation_of(processor: Any, options: ObjectiveOptions, source: str) -> Conversation:
    """Return how to talk to the model of a processor.

    :raises GuidelensError: the processor has no chat template.
    """
    if type(processor).__name__.startswith("PaliGemma"):
        return PrefixConversation(processor, options)
    if not getattr(processor, "chat_template", None):
        raise GuidelensError(
            f"{source}: {type(processor).__name__} has no chat template, which cap and vqa need; choose the "
            "instruction-tuned variant of the model, or add its chat_template.jinja to the directory"
        )
    return ChatConversation(processor, options)


def _said(role: str, text: str, picture: bool = False) -> dict[str, Any]:
    content = [{"type": "image"}] if picture else []
    return {"role": role, "content": [*content, {"type": "text", "text": text}]}


def common_start(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
