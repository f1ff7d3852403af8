"""Check the attributes of a component once when it is built, so that later code can read them without checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from guidelens.contracts import Column

_OPTIONAL = {
    "generator": ("notes", "fixed_variance", "conditions", "decode", "checkpointing", "alternatives", "to"),
    "guidance": ("reads", "default_scales", "device", "image_features", "to"),
    "metric": ("to",),
    "schedule": ("name", "to"),
}
"""Optional attributes that the engine reads."""


def attribute_problem(kind: str, built: Any) -> str:
    """Return the first problem with the attributes of a component that fulfils its contract, or an empty text.

    :raises BaseException: any error of reading an attribute, except AttributeError.
    """
    for name in _OPTIONAL.get(kind, ()):
        getattr(built, name, None)
    for name, (is_right, wanted) in _CHECKS.get(kind, {}).items():
        value = getattr(built, name)
        if not is_right(value):
            found = "None" if value is None else f"a {type(value).__name__}"
            return f"its {name} must be {wanted}, not {found}"
    return ""


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, Collection)
        and not isinstance(value, str | bytes)
        and all(isinstance(name, str) for name in value)
    )


def _is_columns(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


_CHECKS: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "generator": {
        "alphas_cumprod": (_is_tensor, "a tensor"),
        "prediction": (_is_text, "'epsilon', 'x0' or 'v'"),
        "fingerprint": (_is_text, "text"),
    },
    "guidance": {
        "objectives": (_is_names, "a set of names"),
        "fingerprint": (_is_text, "text"),
    },
    "metric": {"columns": (_is_columns, f"a sequence of {Column.__name__}")},
}
