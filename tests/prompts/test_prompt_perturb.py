"""Perturbations: as many edits as asked, in words, the same again, and never the clean text unannounced."""

from __future__ import annotations

import re
import string
from collections import Counter

import pytest
from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.prompts import edit_distance, perturb, perturb_prompts
from guidelens.prompts.homophones import homophones
from hypothesis import given, settings
from hypothesis import strategies as st

WORD = re.compile(r"\w+")
words = st.text(string.ascii_letters, min_size=1, max_size=9)
texts = st.lists(words, min_size=1, max_size=8).map(" ".join)
long_texts = st.lists(st.text(string.ascii_lowercase, min_size=8, max_size=12), min_size=3, max_size=6).map(
    " ".join
)
seeds = st.integers(0, 10**6)
kinds = st.sampled_from(["any", "swap", "drop", "insert", "replace"])
any_spec = st.sampled_from(
    [
        "typo:edits=1",
        "typo:edits=3,kind=swap",
        "homophone",
        "homophone:words=9",
        "case",
        "case:to=random",
        "order",
    ]
)


def naive_distance(a: str, b: str) -> int:
    """The definition, by recursion."""
    if not a or not b:
        return len(a) + len(b)
    best = min(
        naive_distance(a[1:], b) + 1,
        naive_distance(a, b[1:]) + 1,
        naive_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )
    if len(a) > 1 and len(b) > 1 and a[0] == b[1] and a[1] == b[0]:
        best = min(best, naive_distance(a[2:], b[2:]) + 1)
    return best


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_the_distance_is_that_of_its_definition(a: str, b: str) -> None:
    assert edit_distance(a, b) == naive_distance(a, b) == edit_distance(b, a)


def test_a_swap_counts_one_and_no_letter_is_touched_twice() -> None:
    assert edit_distance("square", "sqaure") == 1
    assert edit_distance("ca", "abc") == 3  # 2 without the restriction
    assert edit_distance("", "abc") == 3


@settings(deadline=None)
@given(long_texts, kinds, st.integers(1, 4), seeds)
def test_typos_are_as_many_as_asked(text: str, kind: str, edits: int, seed: int) -> None:
    changed = perturb(text, f"typo:edits={edits},kind={kind}", seed)
    if kind == "swap" and not changed.changed:  # a word of one letter again and again has nothing to swap
        assert all(len(set(word[1:])) == 1 for word in text.split())
        return
    assert changed.edits == edit_distance(text, changed.text)
    if kind != "swap":
        assert changed.edits == edits
        assert not changed.note
    grows = {"swap": 0, "replace": 0, "drop": -changed.edits, "insert": changed.edits}
    if kind in grows:
        assert len(changed.text) - len(text) == grows[kind]


@settings(deadline=None)
@given(texts, any_spec, seeds)
def test_words_stay_words(text: str, spec: str, seed: int) -> None:
    changed = perturb(text, spec, seed)
    assert len(changed.text.split()) == len(text.split())
    if spec == "order":
        assert Counter(changed.text.split()) == Counter(text.split())
    if spec.startswith("typo"):
        for before, after in zip(text.split(), changed.text.split(), strict=True):
            assert before[0] == after[0]
            assert len(before) >= 4 or before == after


@settings(deadline=None)
@given(texts, any_spec, seeds)
def test_the_same_again_and_flagged_where_nothing_changes(text: str, spec: str, seed: int) -> None:
    changed = perturb(text, spec, seed)
    assert perturb(text, spec, seed) == changed
    assert changed.changed == (changed.text != text) == (changed.edits > 0)
    assert changed.clean == text
    if not changed.changed:
        assert "nothing to perturb" in changed.note
        assert repr(text) in changed.note


@settings(deadline=None)
@given(st.lists(texts, min_size=2, max_size=5, unique=True), seeds)
def test_what_comes_out_does_not_depend_on_the_other_prompts(several: list[str], seed: int) -> None:
    forwards, _ = perturb_prompts(map(Prompt, several), ["typo", "case"], seed)
    backwards, _ = perturb_prompts(map(Prompt, reversed(several)), ["case", "typo"], seed)
    assert set(forwards) == set(backwards)


@settings(deadline=None)
@given(long_texts, seeds)
def test_more_edits_go_on_from_fewer(text: str, seed: int) -> None:
    one, two, three = (perturb(text, f"typo:edits={n}", seed).text for n in (1, 2, 3))
    assert edit_distance(one, two) == edit_distance(two, three) == 1


def test_seeds_differ() -> None:
    text = "a red circle above a blue square"
    assert len({perturb(text, "typo", seed).text for seed in range(30)}) > 20


def test_replaced_and_inserted_letters_lie_beside_on_the_keyboard() -> None:
    beside = {"s": set("awedxz"), "q": set("wa"), "p": set("ol"), "m": set("njk"), "g": set("ftyhbv")}
    for letter, near in beside.items():
        word = "x" + letter * 7
        new = {perturb(word, "typo:kind=replace", seed).text for seed in range(300)}
        assert {(set(n) - {letter, "x"} or {"x"}).pop() for n in new} == near
        longer = {perturb(word, "typo:kind=insert", seed).text for seed in range(100)}
        assert set("".join(n[1:] for n in longer)) <= near | {letter}


def test_case_of_letters_is_kept() -> None:
    assert all(perturb("LOUDWORD", "typo:kind=replace", s).text.isupper() for s in range(20))
    assert perturb("Desert", "homophone").text == "Dessert"
    assert perturb("DESERT sands", "homophone").text == "DESSERT sands"


def test_homophones() -> None:
    assert perturb("the desert", "homophone").text == "the dessert"
    assert not perturb("the desert", "homophone:near=false").changed
    both = perturb("blue gray", "homophone:words=2")
    assert both.text == "blew grey"
    assert both.edits == 3
    table = homophones()
    assert all(word not in others and others for word, others in table.items())
    assert all(word in table[other] for word, others in table.items() for other in others)
    assert all(word.isalpha() and word.islower() for word in table)
    assert set(homophones(near=False)) < set(table)


def test_the_vocabulary_of_the_shapes_world_is_covered() -> None:
    named = "red green blue yellow purple orange white black gray pink cyan circle square triangle cross"
    named += " small large above below left right two three"
    assert [word for word in named.split() if word not in homophones()] == []


def test_case_and_order() -> None:
    assert perturb("a red circle", "case").text == "A RED CIRCLE"
    assert perturb("a red circle", "case:to=title").text == "A Red Circle"
    assert perturb("a red circle", "case:to=lower").note
    swapped = perturb("a red circle", "order:swaps=1").text
    assert swapped in ("red a circle", "a circle red")
    assert perturb("red red", "order").note


def test_a_short_text_gets_what_there_is_room_for() -> None:
    short = perturb("abcd", "typo:edits=9,kind=drop", 0)
    assert 0 < short.edits < 9
    assert f"room for {short.edits} edits" in short.note
    assert not perturb("a cat", "typo").changed
    assert perturb("a cat", "typo:min_length=3").changed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tpyo", "unknown perturbation 'tpyo' (did you mean 'typo'?)"),
        ("typo:edits=0", "option 'edits': expected a number from 1 to 100, not 0"),
        ("typo:edit=1", "has no option 'edit' (did you mean 'edits'?)"),
        ("typo:kind=double", "expected any|swap|drop|insert|replace"),
        ("order:swaps=-2", "from 1 to 100"),
    ],
)
def test_mistakes_are_told(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        perturb("a red circle", spec)
    assert message in str(caught.value)


def test_one_spelling_of_each_perturbation() -> None:
    text = "a red circle above a blue square"
    assert perturb(text, "typo:edits=1").spec == perturb(text, "typo").spec == "typo"
    assert perturb(text, "typo:kind=swap,edits=2").spec == "typo:edits=2,kind=swap"


def test_prompts_keep_their_category_and_what_they_are_scored_against() -> None:
    clean = Prompt("grey circle", "single", "a gray circle")
    prompts, forms = perturb_prompts([clean, Prompt("zzz")], ["homophone"])
    assert prompts == [clean, Prompt(forms[0].text, "single", "a gray circle"), Prompt("zzz")]
    assert [form.changed for form in forms] == [True, False]
