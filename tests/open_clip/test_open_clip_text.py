"""Prompts and templates: what is cut or unknown is named, what cannot be read is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from guidelens.errors import GuidelensError, UsageError
from guidelens_open_clip import OpenClipGuidance, read_templates
from small_models import open_clip

LONG = "a small green triangle above a large blue square on a gray background"  # 12 words and two ends in 12 tokens


def test_words_that_are_cut_are_named(guide) -> None:
    model = guide("clip")
    text = model.encode_text([LONG, "a red circle", f"{LONG}, on and on"])
    assert text.notes == (
        ("longer than 12 tokens, cut off: a gray background",),
        (),
        ("longer than 12 tokens, cut off: a gray background, on and on",),
    )
    assert model.encode_text([LONG.removesuffix(" a gray background")]).notes == ((),)


def test_a_word_that_is_cut_within_counts_as_cut(guide) -> None:
    prompt = "a small green triangle above a large blue square antidisestablishmentarianism"
    assert guide("clip").encode_text([prompt]).notes == (
        ("longer than 12 tokens, cut off: antidisestablishmentarianism",),
    )


def test_the_end_counts_where_it_looks_like_padding(guide) -> None:
    """SigLIP's tokenizer ends a text with its padding token; nine words and the end fill a context of ten."""
    model = guide("siglip")
    nine = "a small green triangle above a large blue square"
    text = model.encode_text([nine, f"{nine} on", f"{nine} on a"])
    assert text.notes == (
        (),
        ("longer than 10 tokens, cut off: on",),
        ("longer than 10 tokens, cut off: on a",),
    )


def test_unknown_words_are_named(guide) -> None:
    model = guide("siglip")
    notes = model.encode_text(["a red circel on a blorp, a blorp,", "a red circle"]).notes
    assert notes == (("not in the text model's vocabulary: circel, blorp,",), ())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_prompts_that_cannot_be_read(guide, kind: str) -> None:
    model = guide(kind)
    with pytest.raises(UsageError, match="no prompts given"):
        model.encode_text([])
    for prompt in ("", "  ", *(["?!"] if kind == "siglip" else [])):  # SigLIP's cleaning drops punctuation
        with pytest.raises(UsageError, match="empty for the model"):
            model.encode_text(["a red circle", prompt])
    special = "<END_of_text>" if kind == "clip" else "</s>"
    with pytest.raises(UsageError, match=f"contains the special token {special.lower()}"):
        model.encode_text([f"a red {special} circle"])


def test_a_prompt_too_long_for_some_templates(guide) -> None:
    model = guide("clip", templates=("{}", "a photo of {}", "a big big big big photo of {}"))
    seven = "a green triangle above a large square"
    assert model.encode_text([seven, "red"]).notes == (
        ("too long for 1 of 3 templates: their ends are cut off",),
        (),
    )


def test_encoding_takes_any_tokenizer(models) -> None:
    """Its call is all that is asked of a tokenizer; this one numbers words by their length and marks no end."""

    class ByLength:
        context_length = 12

        def __call__(self, texts: list[str], context_length: int) -> torch.Tensor:
            rows = [[len(word) for word in text.split()][:context_length] for text in texts]
            return torch.tensor([row + [0] * (context_length - len(row)) for row in rows])

    model = OpenClipGuidance(models["clip"], ByLength())
    twelve = "a small green triangle above a large blue square on a background"
    notes = model.encode_text([twelve, f"{twelve} there", f"{twelve} or so"]).notes
    assert notes == (
        (),
        ("longer than 12 tokens, cut off: there",),
        ("longer than 12 tokens, cut off: or so",),
    )


def test_named_templates() -> None:
    assert read_templates("none") == read_templates("") == ()
    simple, imagenet = read_templates("simple"), read_templates("imagenet")
    assert len(simple) == 7
    assert len(imagenet) == 80
    assert "itap of a {}." in simple
    filled = [t.replace("{}", "cat") for t in imagenet]
    assert filled == [template("cat") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]


def test_templates_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("# for shapes\na drawing of {}\n\n  {} on paper  \n", encoding="utf-8")
    assert read_templates(str(path)) == ("a drawing of {}", "{} on paper")
    path.write_text("a drawing of {}\na drawing\n", encoding="utf-8")
    with pytest.raises(GuidelensError, match=r"templates.txt: the template 'a drawing' has no \{\}"):
        read_templates(str(path))
    path.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(GuidelensError, match="has no templates: write one per line"):
        read_templates(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GuidelensError, match="cannot read the templates"):
        read_templates(str(path))
    with pytest.raises(UsageError, match="templates must be none, imagenet, simple or a file, not 'many'"):
        read_templates("many")
