"""The categories of the prompt set, as a type for the plugin's options. Does not import numpy."""

from __future__ import annotations

from typing import Literal

Category = Literal[
    "demo",
    "single",
    "place",
    "colors",
    "counting",
    "positional",
    "size",
    "multi-object",
    "confusable",
    "misspellings",
    "long",
    "all",
]
