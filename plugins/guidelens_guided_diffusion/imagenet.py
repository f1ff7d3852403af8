"""The 1000 classes of ImageNet by name, in the order of the published networks. torchvision provides the names."""

from __future__ import annotations

import difflib
from functools import cache

from guidelens.errors import GuidelensError, UsageError

from .description import IMAGENET_CLASSES

_ARTICLES = ("a ", "an ", "the ")


def class_index(text: str, num_classes: int = IMAGENET_CLASSES) -> int:
    """Return the index of a class that is given by number or by ImageNet name ("golden retriever").

    Case and a leading article do not matter. Names need a network with 1000 classes.

    :raises UsageError: the name is unknown or ambiguous, or the number is out of range.
    :raises GuidelensError: torchvision is not installed.
    """
    plain = " ".join(text.lower().split())
    if plain.removeprefix("-").isdecimal():
        number = int(plain)
        if not 0 <= number < num_classes:
            raise UsageError(f"{text!r} is not a class: give 0 to {num_classes - 1}")
        return number
    if num_classes != IMAGENET_CLASSES:
        raise UsageError(f"{text!r} is not a class: give a number, 0 to {num_classes - 1}")
    for article in _ARTICLES:
        plain = plain.removeprefix(article)
    names = [name.lower() for name in class_names()]
    found = [number for number, name in enumerate(names) if name == plain]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{text!r} is the name of the classes {' and '.join(map(str, found))}: give the number"
        )
    near = difflib.get_close_matches(plain, names, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(
        f"{text!r} is not a class of ImageNet: give 0 to {num_classes - 1}, or a name like 'golden retriever'{hint}"
    )


@cache
def class_names() -> tuple[str, ...]:
    """Return the names of the 1000 classes.

    :raises GuidelensError: torchvision is not installed.
    """
    try:
        from torchvision.models import ResNet50_Weights
    except ImportError as error:
        raise GuidelensError(
            "the names of ImageNet's classes need torchvision, which is not installed: give numbers instead"
        ) from error
    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
