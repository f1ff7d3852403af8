"""BLIP's prompts: special tokens, truncation, and what the reader is told about words the model does not
see."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blip_models import published_vocabulary
from guidelens.errors import GuidelensError, UsageError
from guidelens_blip import BlipGuidance
from guidelens_blip.tokenizer import load_tokenizer, tokenize


def test_the_three_objectives_differ_in_the_leading_token_only(blip: BlipGuidance, prompts) -> None:
    tokenizer = blip.model.wordpiece
    tokens = tokenize(tokenizer, prompts, 12)
    for ids, token in ((tokens.itc, "[CLS]"), (tokens.itm, "[ENC]"), (tokens.cap, "[DEC]")):
        assert ids[:, 0].tolist() == [tokenizer.vocabulary[token]] * 3
        assert torch.equal(ids[:, 1:], tokens.itc[:, 1:])
    assert tokens.lengths.tolist() == [5, 4, 12]
    assert torch.equal(tokens.mask.sum(dim=1), tokens.lengths)
    assert tokens.itc[2, 11] == tokenizer.sep
    assert tokens.notes == ((), (), ())


def test_dec_and_enc_follow_the_vocabulary(tmp_path: Path) -> None:
    """At full size they are 30522 and 30523, as in the published weights."""
    tokenizer = load_tokenizer(published_vocabulary(tmp_path))
    assert (tokenizer.dec, tokenizer.enc, len(tokenizer)) == (30522, 30523, 30524)


def test_cut_and_unknown_words_are_named(blip: BlipGuidance) -> None:
    long = "a small green triangle above a large blue square on red background"
    text = blip.encode_text([long, "a RED circle", "a red ☃ circle 7 ☃", "typo"])
    assert text.notes[0] == ("longer than 12 tokens, cut off: red background",)
    assert text.notes[1] == ()
    assert text.notes[2] == ("not in the text model's vocabulary: ☃, 7",)
    assert text.notes[3] == ("not in the text model's vocabulary, read letter by letter: typo",)
    assert text.tensors["mask"].shape == (4, 12)


def test_a_word_that_is_half_cut_is_named(blip: BlipGuidance) -> None:
    assert blip.encode_text(["a red circle abcdefgh"]).notes == (
        ("longer than 12 tokens, cut off: abcdefgh",),
    )


@pytest.mark.parametrize("prompt", ["", "  \n", "\u200b"])
def test_an_empty_prompt_is_refused(blip: BlipGuidance, prompt: str) -> None:
    with pytest.raises(UsageError, match="is empty"):
        blip.encode_text(["a red circle", prompt])


def test_no_prompts_are_refused(blip: BlipGuidance) -> None:
    with pytest.raises(UsageError, match="no prompts"):
        blip.encode_text([])


def test_special_tokens_are_refused(blip: BlipGuidance) -> None:
    with pytest.raises(UsageError, match=r"special token \[SEP\]"):
        blip.encode_text(["a red [SEP] circle"])


def test_a_foreign_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("[PAD]\n[UNK]\nred\n")
    with pytest.raises(GuidelensError, match=r"lacks \[CLS\], \[MASK\], \[SEP\]"):
        load_tokenizer(path)
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\nred\n")
    with pytest.raises(GuidelensError, match="'red' more than once"):
        load_tokenizer(path)
    with pytest.raises(GuidelensError, match="cannot read the BLIP vocabulary"):
        load_tokenizer(tmp_path / "absent.txt")
