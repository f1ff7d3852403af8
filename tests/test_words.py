"""Numbers with their nouns."""

from __future__ import annotations

import pytest
from guidelens.words import plural


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 pictures"), (1, "1 picture"), (2, "2 pictures"), (1000, "1,000 pictures")]
)
def test_plural(count: int, text: str) -> None:
    assert plural(count, "picture") == text


def test_an_irregular_noun() -> None:
    assert [plural(n, "study", "studies") for n in (1, 2)] == ["1 study", "2 studies"]
