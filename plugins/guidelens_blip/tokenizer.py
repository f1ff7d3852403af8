"""BLIP's WordPiece tokenizer, from a local vocabulary file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from guidelens.errors import GuidelensError, UsageError
from tokenizers import models, normalizers, pre_tokenizers
from torch import Tensor

from .captions import clean_caption

REQUIRED_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Tokens that a vocabulary file must have. [DEC] and [ENC] are appended to it, as in LAVIS."""
_JOINED = {f" {end}": end for end in (".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re")} | {" ' ": "'"}
"""Characters that BERT's tokenizer writes without a space when it decodes a text."""


class WordPiece:
    """BERT's tokenizer (lower case, no accents, punctuation split off) with BLIP's tokens [DEC] and [ENC].

    [DEC] is the first token of the decoder, [ENC] the first token of the image-grounded encoder. Texts are split
    as by LAVIS's tokenizer. The two may differ only at characters that are newer than Unicode 8.

    :param vocabulary: token -> id. [DEC] and [ENC] are added if they are missing.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self.vocabulary = dict(vocabulary)
        for token in ("[DEC]", "[ENC]"):
            self.vocabulary.setdefault(token, len(self.vocabulary))
        self.special = (*REQUIRED_TOKENS, "[DEC]", "[ENC]")
        self.pad, self.unk, self.cls, self.sep, _, self.dec, self.enc = map(
            self.vocabulary.__getitem__, self.special
        )
        self._tokens = {number: token for token, number in self.vocabulary.items()}
        self._normalizer = normalizers.BertNormalizer(lowercase=True)
        self._words = pre_tokenizers.BertPreTokenizer()
        self._pieces = models.WordPiece(
            dict(vocabulary), unk_token="[UNK]", max_input_chars_per_word=MAX_WORD
        )

    def __len__(self) -> int:
        return len(self.vocabulary)

    def words(self, text: str) -> list[str]:
        """Return the words and punctuation marks of ``text``, normalised."""
        normalised = self._normalizer.normalize_str(text)
        return [word for word, _ in self._words.pre_tokenize_str(normalised)]

    def pieces(self, word: str) -> list[str]:
        """Split ``word`` into entries of the vocabulary. Return [UNK] if that is impossible."""
        return [token.value for token in self._pieces.tokenize(word)]

    def ids(self, text: str) -> list[int]:
        """Return the ids of the pieces of ``text``, without special tokens."""
        return [self.vocabulary[piece] for word in self.words(text) for piece in self.pieces(word)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` without special tokens."""
        tokens = (self._tokens[number] for number in ids)
        text = " ".join(token for token in tokens if token not in self.special).replace(" ##", "").strip()
        for apart, joined in _JOINED.items():
            text = text.replace(apart, joined)
        return text


MAX_WORD = 100
"""Longer words become [UNK], as in BERT."""


def load_tokenizer(vocab: str | Path) -> WordPiece:
    """Return the tokenizer over the vocabulary file ``vocab`` (one token a line, UTF-8).

    [DEC] and then [ENC] are added after the file's entries: ids 30522 and 30523 with the 30,522 of
    bert-base-uncased. No network is used.

    :raises GuidelensError: the file cannot be read, or one of :data:`REQUIRED_TOKENS` is missing or appears twice.
    """
    path = Path(vocab)
    try:
        entries = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GuidelensError(f"cannot read the BLIP vocabulary {path}: {error}") from error
    missing = sorted(set(REQUIRED_TOKENS) - set(entries))
    if missing:
        raise GuidelensError(f"{path} is not a BERT vocabulary: it lacks {', '.join(missing)}")
    twice = next((entry for entry, count in Counter(entries).items() if count > 1), None)
    if twice is not None:
        raise GuidelensError(f"{path} is not a BERT vocabulary: it has {twice!r} more than once")
    return WordPiece({entry: number for number, entry in enumerate(entries)})


@dataclass(frozen=True)
class Tokens:
    """N tokenized prompts, padded to the length L of the longest."""

    itc: Tensor
    """(N, L) int64, starting with [CLS]: the input of the unimodal text encoder."""
    itm: Tensor
    """(N, L) int64, starting with [ENC]: the input of the image-grounded encoder."""
    cap: Tensor
    """(N, L) int64, starting with [DEC]: the decoder's input, and from the second token on its targets."""
    mask: Tensor
    """(N, L) int64: 1 for tokens and 0 for padding, for all three inputs."""
    lengths: Tensor
    """(N,) int64: the number of tokens, including the leading one and the final [SEP]."""
    notes: tuple[tuple[str, ...], ...]
    """Per prompt: how it was cleaned, and which words were cut off, are unknown or were read letter by letter."""


def tokenize(tokenizer: WordPiece, prompts: Sequence[str], max_length: int, *, clean: bool = True) -> Tokens:
    """Tokenize ``prompts`` for the three objectives. Cut them to ``max_length`` tokens, including [CLS] and [SEP].

    :param clean: clean prompts first, see :func:`~guidelens_blip.captions.clean_caption`.
    :raises UsageError: there are no prompts, or a prompt is empty or contains a special token such as ``[SEP]``.
    """
    if not prompts:
        raise UsageError("no prompts given")
    texts = [clean_caption(prompt) if clean else prompt for prompt in prompts]
    notes = tuple(
        _notes(tokenizer, prompt, text, max_length) for prompt, text in zip(prompts, texts, strict=True)
    )
    rows = [tokenizer.ids(text)[: max_length - 2] for text in texts]
    lengths = torch.tensor([len(row) + 2 for row in rows])
    longest = max(len(row) for row in rows)
    padded = [[*row, tokenizer.sep, *[tokenizer.pad] * (longest - len(row))] for row in rows]
    itc, itm, cap = (
        torch.tensor([[lead, *row] for row in padded])
        for lead in (tokenizer.cls, tokenizer.enc, tokenizer.dec)
    )
    mask = (torch.arange(longest + 2) < lengths[:, None]).long()
    return Tokens(itc=itc, itm=itm, cap=cap, mask=mask, lengths=lengths, notes=notes)


def _notes(tokenizer: WordPiece, prompt: str, text: str, max_length: int) -> tuple[str, ...]:
    """Return notes about the words of ``prompt`` that the model does not see.

    :param text: the prompt after cleaning.
    :raises UsageError: the prompt cannot be encoded.
    """
    special = [token for token in tokenizer.special if token in prompt]
    if special:
        raise UsageError(f"the prompt {prompt!r} contains the special token {special[0]}; remove it")
    words = tokenizer.words(text)
    if not words:
        raise UsageError(f"the prompt {prompt!r} is empty; give at least one word")
    room = max_length - 2  # the leading token and [SEP]
    unknown: list[str] = []
    spelt: list[str] = []
    cut: list[str] = []
    for word in words:
        pieces = tokenizer.pieces(word)
        room -= len(pieces)
        if room < 0:
            cut.append(word)
        elif "[UNK]" in pieces and word not in unknown:
            unknown.append(word)
        elif _mostly_letters(pieces) and word not in spelt:
            spelt.append(word)
    notes = []
    if words != tokenizer.words(prompt):  # the tokenizer itself ignores case and spaces
        notes.append(f"read as {text!r}: BLIP's training removed such punctuation (clean=false keeps it)")
    if cut:
        notes.append(f"longer than {max_length} tokens, cut off: {' '.join(cut)}")
    if unknown:
        notes.append(f"not in the text model's vocabulary: {', '.join(unknown)}")
    if spelt:
        notes.append(f"not in the text model's vocabulary, read letter by letter: {', '.join(spelt)}")
    return tuple(notes)


def _mostly_letters(pieces: Sequence[str]) -> bool:
    """Return whether a word was split mostly into single letters, as it is not in the vocabulary."""
    letters = sum(len(piece.removeprefix("##")) == 1 for piece in pieces)
    return len(pieces) > 2 and 2 * letters >= len(pieces)
