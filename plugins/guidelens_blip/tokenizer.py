"""BLIP's WordPiece tokenizer from a local vocabulary file, and what it makes of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

REQUIRED_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Tokens that a vocabulary file must have. [DEC] and [ENC] are appended after its last entry, as in LAVIS."""


def load_tokenizer(vocab: str | Path) -> Any:
    """Return a ``transformers.BertTokenizer`` over the vocabulary file ``vocab`` (one token a line, UTF-8).

    [DEC] (the decoder's first token, ``bos_token_id``) and then [ENC] (the matching encoder's,
    ``enc_token_id``) are added after the file's entries: ids 30522 and 30523 with the 30,522 of
    bert-base-uncased. No network is used.

    :raises GuidelensError: the file cannot be read or lacks one of :data:`REQUIRED_TOKENS`.
    """
    path = Path(vocab)
    try:
        entries = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GuidelensError(f"cannot read the BLIP vocabulary {path}: {error}") from error
    missing = sorted(set(REQUIRED_TOKENS) - {entry.strip() for entry in entries})
    if missing:
        raise GuidelensError(f"{path} is not a BERT vocabulary: it lacks {', '.join(missing)}")
    with quiet():
        from transformers import BertTokenizer

        tokenizer = BertTokenizer(vocab_file=str(path), do_lower_case=True)
        tokenizer.add_special_tokens({"bos_token": "[DEC]"})
        tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    tokenizer.enc_token_id = tokenizer.additional_special_tokens_ids[0]
    return tokenizer


@dataclass(frozen=True)
class Tokens:
    """Tokenized prompts, padded to the longest of them. N prompts, L tokens."""

    itc: Tensor
    """(N, L) int64, led by [CLS]: the unimodal text encoder's input."""
    itm: Tensor
    """(N, L) int64, led by [ENC]: the image-grounded encoder's input."""
    cap: Tensor
    """(N, L) int64, led by [DEC]: the decoder's input, and its targets from the second token on."""
    mask: Tensor
    """(N, L) int64, 1 for tokens and 0 for padding; the same for the three."""
    lengths: Tensor
    """(N,) int64: the number of tokens, the leading and the final ([SEP]) ones included."""
    notes: tuple[tuple[str, ...], ...]
    """Per prompt: which words were cut off, which are unknown or known by their letters only."""


def tokenize(tokenizer: Any, prompts: Sequence[str], max_length: int) -> Tokens:
    """Tokenize ``prompts`` for the three objectives, cut to ``max_length`` tokens ([CLS] and [SEP] included).

    :raises UsageError: no prompts, an empty prompt, or one that spells a special token such as ``[SEP]``.
    """
    if not prompts:
        raise UsageError("no prompts given")
    notes = tuple(_notes(tokenizer, prompt, max_length) for prompt in prompts)
    encoded = tokenizer(
        list(prompts), padding="longest", truncation=True, max_length=max_length, return_tensors="pt"
    )
    itc, mask = encoded.input_ids, encoded.attention_mask
    itm, cap = itc.clone(), itc.clone()
    itm[:, 0] = tokenizer.enc_token_id
    cap[:, 0] = tokenizer.bos_token_id
    return Tokens(itc=itc, itm=itm, cap=cap, mask=mask, lengths=mask.sum(dim=1), notes=notes)


def _notes(tokenizer: Any, prompt: str, max_length: int) -> tuple[str, ...]:
    """Say what the model will not see of ``prompt``; refuse a prompt that cannot be encoded."""
    special = [token for token in tokenizer.all_special_tokens if token in prompt]
    if special:
        raise UsageError(f"the prompt {prompt!r} contains the special token {special[0]}; remove it")
    words = tokenizer.basic_tokenizer.tokenize(prompt)
    if not words:
        raise UsageError(f"the prompt {prompt!r} is empty; give at least one word")
    room = max_length - 2  # the leading token and [SEP]
    unknown: list[str] = []
    spelt: list[str] = []
    cut: list[str] = []
    for word in words:
        pieces = tokenizer.wordpiece_tokenizer.tokenize(word)
        room -= len(pieces)
        if room < 0:
            cut.append(word)
        elif tokenizer.unk_token in pieces and word not in unknown:
            unknown.append(word)
        elif _mostly_letters(pieces) and word not in spelt:
            spelt.append(word)
    notes = []
    if cut:
        notes.append(f"longer than {max_length} tokens, cut off: {' '.join(cut)}")
    if unknown:
        notes.append(f"not in the text model's vocabulary: {', '.join(unknown)}")
    if spelt:
        notes.append(f"not in the text model's vocabulary, read letter by letter: {', '.join(spelt)}")
    return tuple(notes)


def _mostly_letters(pieces: Sequence[str]) -> bool:
    """Whether a word fell into single letters for the most part: the vocabulary has no such word, nor its stem."""
    letters = sum(len(piece.removeprefix("##")) == 1 for piece in pieces)
    return len(pieces) > 2 and 2 * letters >= len(pieces)
