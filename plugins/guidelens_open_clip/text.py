"""Prompts to tokens, by whatever tokenizer a model has, and what the model will not see of a prompt.

A tokenizer is what open_clip makes it: called with texts and a context length it returns (N, L) int64, cut and
padded at the end to L. Nothing else is asked of it, so CLIP's byte pairs, SigLIP's sentence pieces and BERT's
word pieces are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guidelens.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Tokenizer = Callable[..., "Tensor"]


@dataclass(frozen=True)
class Tokens:
    """Tokenized texts: N texts, L tokens."""

    ids: Tensor
    """(N, L) int64, padded to the context length."""
    lengths: Tensor
    """(N,) int64: the number of a text's own tokens. Where a tokenizer ends a text with its padding token, as
    SigLIP's does, the end is not counted."""
    cut: tuple[bool, ...]
    """Whether a text was longer than the context."""


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], context_length: int) -> Tokens:
    """Tokenize ``texts`` and tell which were cut.

    A text was cut if one token more of context changes what stands before it.
    """
    ids = tokenizer(list(texts), context_length=context_length)
    longer = tokenizer(list(texts), context_length=context_length + 1)
    pad = int(tokenizer([""], context_length=context_length + 1)[0, -1])
    cut = (longer[:, :-1] != ids).any(dim=1) | (longer[:, -1] != pad)
    # From the end, since a token within a text may have the number of the padding.
    trailing = (ids.flip(1) == pad).long().cumprod(dim=1).sum(dim=1)
    return Tokens(ids=ids, lengths=context_length - trailing, cut=tuple(cut.tolist()))


def check_prompts(tokenizer: Tokenizer, prompts: Sequence[str], context_length: int) -> None:
    """Refuse prompts that cannot be encoded.

    :raises UsageError: none, an empty one (or of nothing that the tokenizer reads), or one that spells a special
        token, which would end or garble it.
    """
    if not prompts:
        raise UsageError("no prompts given")
    special = special_tokens(tokenizer)
    for prompt in prompts:
        for token in special:
            if token.lower() in prompt.lower():
                raise UsageError(f"the prompt {prompt!r} contains the special token {token}; remove it")
    ids = tokenizer(["", *prompts], context_length=context_length)
    for row, prompt in zip(ids[1:], prompts, strict=True):
        if bool((row == ids[0]).all()):
            raise UsageError(f"the prompt {prompt!r} is empty for the model; give at least one word")


def special_tokens(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the special tokens as they are spelled; none where the tokenizer does not tell."""
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is not None:
        return tuple(str(token) for token in getattr(inner, "all_special_tokens", ()))
    decoder = getattr(tokenizer, "decoder", {})
    return tuple(decoder[i] for i in getattr(tokenizer, "all_special_ids", ()) if i in decoder)


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return the tokens in the order of their numbers; none where the tokenizer does not tell."""
    inner = getattr(tokenizer, "tokenizer", None)
    table: dict[str, Any] = inner.get_vocab() if inner is not None else getattr(tokenizer, "encoder", {})
    return sorted(table, key=lambda token: table[token])


def prompt_notes(tokenizer: Tokenizer, prompt: str, cut: bool, context_length: int) -> list[str]:
    """Name the words that were cut off a prompt, and those that its vocabulary does not have."""
    notes = []
    words = prompt.split()
    if cut:
        kept = _fitting(tokenizer, words, context_length)
        notes.append(f"longer than {context_length} tokens, cut off: {' '.join(words[kept:])}")
        words = words[:kept]
    inner = getattr(tokenizer, "tokenizer", None)
    unknown_id = getattr(inner, "unk_token_id", None)
    if unknown_id is not None:
        ids = tokenizer(words, context_length=context_length) if words else ()
        unknown = [word for word, row in zip(words, ids, strict=True) if bool((row == unknown_id).any())]
        if unknown:
            notes.append(f"not in the text model's vocabulary: {', '.join(dict.fromkeys(unknown))}")
    return notes


def _fitting(tokenizer: Tokenizer, words: Sequence[str], context_length: int) -> int:
    """Return how many of the first ``words`` the context holds, by bisection."""
    low, high = 0, len(words)  # low of them fit, high of them do not
    while high - low > 1:
        middle = (low + high) // 2
        fits = not tokenize(tokenizer, [" ".join(words[:middle])], context_length).cut[0]
        low, high = (middle, high) if fits else (low, middle)
    return low
