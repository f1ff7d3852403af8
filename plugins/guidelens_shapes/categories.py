"""The categories and halves of the prompt set, as types: importable without numpy, for the plugin's options."""

from __future__ import annotations

from typing import Literal

Category = Literal[
    "demo",
    "single",
    "colors",
    "counting",
    "positional",
    "size",
    "multi-object",
    "misspellings",
    "long",
    "all",
]
Split = Literal["test", "sweep"]
