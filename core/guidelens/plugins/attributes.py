"""The attributes of a built component, read once when it is built: whatever is wrong with them is one line.

Later code reads them without a guard.
"""

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
"""What the engine reads if a component has it."""


def attribute_problem(kind: str, built: Any) -> str:
    """Return what is wrong with the attributes of a component that has all that its contract asks for, or nothing.

    :raises BaseException: whatever an attribute raises when it is read, other than AttributeError.
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
