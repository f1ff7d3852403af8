"""Our WordPiece against the pure-Python BERT tokenizer of transformers, the one that LAVIS uses."""

from __future__ import annotations

import random
import string
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from guidelens_blip import WordPiece
from guidelens_blip.captions import clean_caption
from guidelens_blip.tokenizer import MAX_WORD, REQUIRED_TOKENS, load_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

PROMPTS = (
    "A red car and a white sheep, parked side by side.",
    "four blue balloons over two dogs",
    "a photograph of a café menu that says 'Soup of the Day: £4.50'",
    "Three cats (one black; two grey) don't share 1,000 fish!",
    "an owl-shaped lamp on top of a well-worn oak desk",
    "the desert with a large desssert in it",
    "Ein Bär läuft über die Straße",
    "一只猫 on a mat",
    "naïve façade — “quoted” … 50% off, e.g. today",
    "it's what they've said they're doing; I'm sure he'd know?",
    "tabs\tand\nnew\r\nlines and  spaces ",
    "snow ☃ and 🎈 balloons🎈🎈",
    "www.example.com/a_b?c=d&e=#f",
    "zero\u200bwidth and soft\u00adhyphen and nul\x00",
    f"{'x' * MAX_WORD} {'x' * (MAX_WORD + 1)}",
)
WORDS = (
    "red",
    "car",
    "sheep",
    "blue",
    "dog",
    "balloon",
    "owl",
    "lamp",
    "cat",
    "fish",
    "desert",
    "the",
    "and",
    "of",
)
ENDS = ("ed", "ing", "er", "ert", "park", "on")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words, endings, and all letters but a few, so that some words are unknown."""
    signs = [*string.ascii_lowercase, *string.digits, *string.punctuation, *"éßøα猫—“”"]
    signs.remove("q")
    entries = [
        *REQUIRED_TOKENS,
        *signs,
        *(f"##{sign}" for sign in signs),
        *WORDS,
        *(f"##{end}" for end in ENDS),
    ]
    path = tmp_path_factory.mktemp("wordpiece") / "vocab.txt"
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ours(vocabulary: Path) -> WordPiece:
    return load_tokenizer(vocabulary)


class Reference:
    """transformers' slow tokenizer with BLIP's two tokens."""

    def __init__(self, vocabulary: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy as Slow
            except ImportError:  # before transformers 5 it had the plain name
                from transformers import BertTokenizer as Slow
            self.own = Slow(vocab_file=str(vocabulary), do_lower_case=True)
            self.own.add_special_tokens({"bos_token": "[DEC]"})
            self.own.add_special_tokens({"additional_special_tokens": ["[ENC]"]})

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.own.convert_tokens_to_ids(self.own.tokenize(text))
        return ids


@pytest.fixture(scope="module")
def theirs(vocabulary: Path) -> Reference:
    pytest.importorskip(
        "transformers", reason="transformers, whose tokenizer is the oracle, is not installed"
    )
    return Reference(vocabulary)


def test_vocabularies_are_the_same(ours: WordPiece, theirs: Reference) -> None:
    assert ours.vocabulary == theirs.own.get_vocab()
    assert len(ours) == len(theirs.own)
    assert (ours.dec, ours.enc) == tuple(theirs.own.convert_tokens_to_ids(["[DEC]", "[ENC]"]))


@pytest.mark.parametrize("change", [str, clean_caption, str.upper], ids=["plain", "cleaned", "upper"])
def test_prompts(ours: WordPiece, theirs: Reference, change: Callable[[str], str]) -> None:
    for prompt in map(change, PROMPTS):
        assert ours.ids(prompt) == theirs.ids(prompt), prompt


def test_typos(ours: WordPiece, theirs: Reference) -> None:
    rng = random.Random(0)
    for prompt in PROMPTS:
        for _ in range(40):
            at = rng.randrange(len(prompt))
            typo = prompt[:at] + rng.choice(string.ascii_letters + " ,.'-") + prompt[at + rng.randrange(2) :]
            assert ours.ids(typo) == theirs.ids(typo), typo


def assigned(character: str) -> bool:
    """Whether Unicode 3.2 had it already: later characters are split by tables of different age."""
    return unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs")


@given(
    st.text(
        st.one_of(st.characters(codec="utf-8").filter(assigned), st.sampled_from("abdertx é'.,-猫 ")),
        max_size=40,
    )
)
@settings(max_examples=400, deadline=None)
def test_any_text(ours: WordPiece, theirs: Reference, text: str) -> None:
    assert ours.ids(text) == theirs.ids(text)


@given(st.lists(st.integers(0, 150), max_size=15))
@settings(max_examples=200, deadline=None)
def test_decoding(ours: WordPiece, theirs: Reference, numbers: list[int]) -> None:
    ids = [number % len(ours) for number in numbers]
    expected = theirs.own.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)
    assert ours.decode(ids) == expected


def test_decoding_joins_what_belongs_together(ours: WordPiece) -> None:
    text = "the red dogs, and the cat's owl!"
    assert ours.decode([ours.dec, *ours.ids(text), ours.sep, ours.pad]) == text
