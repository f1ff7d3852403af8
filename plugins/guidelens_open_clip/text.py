"""Tokenize prompts with the tokenizer of any model, and report the words that the model does not see.

The only interface is open_clip's call: a tokenizer maps texts and a context length L to (N, L) int64, cut or padded
at the end. So CLIP's byte pairs, SigLIP's sentence pieces and BERT's word pieces are treated alike.
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
    """N tokenized texts of L tokens."""

    ids: Tensor
    """(N, L) int64, padded to the context length."""
    lengths: Tensor
    """(N,) int64: the number of tokens of each text. SigLIP's tokenizer ends a text with its padding token; that end is
    not counted."""
    cut: tuple[bool, ...]
    """Whether a text was longer than the context."""


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], context_length: int) -> Tokens:
    """Tokenize ``texts`` and report which were cut.

    A text was cut if one more token of context changes an earlier token.
    """
    ids = tokenizer(list(texts), context_length=context_length)
    longer = tokenizer(list(texts), context_length=context_length + 1)
    pad = int(tokenizer([""], context_length=context_length + 1)[0, -1])
    cut = (longer[:, :-1] != ids).any(dim=1) | (longer[:, -1] != pad)
    # Count from the end, as a token within a text may have the id of the padding token.
    trailing = (ids.flip(1) == pad).long().cumprod(dim=1).sum(dim=1)
    return Tokens(ids=ids, lengths=context_length - trailing, cut=tuple(cut.tolist()))


def check_prompts(tokenizer: Tokenizer, prompts: Sequence[str], context_length: int) -> None:
    """Check that prompts can be encoded.

    :raises UsageError: there are no prompts, or a prompt has no tokens or contains a special token, which the
        tokenizer would read as a control symbol.
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
    """Return the spellings of the special tokens, or nothing if the tokenizer does not list them."""
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is not None:
        return tuple(str(token) for token in getattr(inner, "all_special_tokens", ()))
    decoder = getattr(tokenizer, "decoder", {})
    return tuple(decoder[i] for i in getattr(tokenizer, "all_special_ids", ()) if i in decoder)


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return the tokens in the order of their ids, or nothing if the tokenizer does not list them."""
    inner = getattr(tokenizer, "tokenizer", None)
    table: dict[str, Any] = inner.get_vocab() if inner is not None else getattr(tokenizer, "encoder", {})
    return sorted(table, key=lambda token: table[token])


def prompt_notes(tokenizer: Tokenizer, prompt: str, cut: bool, context_length: int) -> list[str]:
    """Return notes on the words that were cut off a prompt, and on those that are not in the vocabulary."""
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
    """Return how many of the first ``words`` fit the context, by bisection."""
    low, high = 0, len(words)  # the first `low` words fit, the first `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        fits = not tokenize(tokenizer, [" ".join(words[:middle])], context_length).cut[0]
        low, high = (middle, high) if fits else (low, middle)
    return low
