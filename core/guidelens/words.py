"""Numbers with their nouns, and texts of limited length."""

from __future__ import annotations


def plural(count: int, noun: str, many: str = "") -> str:
    """Return ``1 picture``, ``2 pictures``, ``1,000 pictures``.

    :param many: the plural of the noun, if it is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def shortened(text: str, length: int) -> str:
    """Return ``text`` with at most ``length`` characters. A longer one ends in an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
