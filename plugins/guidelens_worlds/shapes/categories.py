"""The categories and splits of the prompt set, as types for the plugin's options. Does not import numpy."""

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

PairCategory = Literal["all", "colour", "shape", "swap", "relation"]
"""What ``shapes-pairs`` changes in the wrong caption."""
