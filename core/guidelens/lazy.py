"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package (PEP 562) that imports names when they are first used.

    In its ``__init__.py``::

        if TYPE_CHECKING:
            from .heavy import Thing

        __getattr__, __dir__ = lazy_names(__name__, {"Thing": "heavy"})

    Nothing is cached. The package always returns the current value from the module that defines the name.

    :param package: the package's ``__name__``.
    :param homes: maps each public name to the module in the package that defines it.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
