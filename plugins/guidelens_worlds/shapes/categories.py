"""The categories of the prompt sets, as types for the plugin's options. Does not import numpy."""

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

PairCategory = Literal["all", "colour", "shape", "swap", "relation"]
"""What ``shapes-pairs`` changes in the wrong caption."""
