"""Prompts are cleaned as BLIP's training cleaned captions: by default, with a note, and in the fingerprint."""

from __future__ import annotations

import re

import pytest
import torch
from guidelens.errors import UsageError
from guidelens_blip import BlipGuidance, BlipOptions, clean_caption
from guidelens_worlds.shapes.files import FILES
from guidelens_worlds.shapes.world import Item, Scene, render
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A red circle.", "a red circle"),
        ('"Two dogs" (one black); a cat: #1 ~ *', "two dogs one black a cat 1"),
        ("a   b\n\nc", "a b c"),
        ("wait... what?! it's 5%, a-b", "wait what? it's 5%, a-b"),
        ("a red circle\n", "a red circle"),
        ("...", ""),
    ],
)
def test_examples(text: str, cleaned: str) -> None:
    assert clean_caption(text) == cleaned


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    cleaned = clean_caption(text)
    assert clean_caption(cleaned) == cleaned
    assert not re.search(r'[.!"()*#:;~]|\s{2}', cleaned)


def test_a_note_says_what_is_read(blip: BlipGuidance) -> None:
    text = blip.encode_text(["A  red circle.", "A  Red circle", "a red, circle"])
    assert text.prompts == ("A  red circle.", "A  Red circle", "a red, circle")
    assert text.notes == (
        ("read as 'a red circle': BLIP's training removed such punctuation (clean=false keeps it)",),
        (),
        (),
    )
    assert torch.equal(text.tensors["cap_ids"][0, :5], text.tensors["cap_ids"][1, :5])


def test_it_can_be_turned_off(model, config) -> None:
    plain, cleaning = BlipGuidance(model, config, BlipOptions(clean=False)), BlipGuidance(model, config)
    assert plain.encode_text(["a red circle."]).tensors["lengths"].item() == 6
    assert plain.encode_text(["a red circle."]).notes == ((),)
    assert plain.fingerprint != cleaning.fingerprint


def test_a_prompt_of_punctuation_alone_is_empty(blip: BlipGuidance) -> None:
    with pytest.raises(UsageError, match=r"the prompt '\.\.\.' is empty"):
        blip.encode_text(["..."])


def test_special_tokens_are_refused_before_cleaning(blip: BlipGuidance) -> None:
    with pytest.raises(UsageError, match=r"special token \[DEC\]"):
        blip.encode_text(["a [DEC] circle"])


def test_negatives_are_compared_as_they_are_read(model, config) -> None:
    options = BlipOptions(itc_mode="infonce", negatives=("A red circle.", "a blue square"))
    text = BlipGuidance(model, config, options).encode_text(["a red circle"])
    assert text.tensors["is_own_negative"].tolist() == [[True, False]]


def test_the_shipped_model_does_not_mind_a_full_stop() -> None:
    """Uncleaned, the caption loss of a true caption is several times as high."""
    scene = Scene("gray", (Item("red", "circle", 8.0, 16.0, 16.0),))
    image = torch.from_numpy(render(scene))[None]

    def loss(prompt: str, clean: bool) -> float:
        guidance = FILES.load_blip(clean=clean)
        return guidance.losses(image, guidance.encode_text([prompt]), ["cap"])["cap"].item()

    true = loss("a large red circle", True)
    assert loss("a large red circle.", True) == true
    assert loss("a large red circle.", False) > 2 * true
