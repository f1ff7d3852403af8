"""Cleaning of prompts, as BLIP's training cleaned its captions."""

from __future__ import annotations

import re


def clean_caption(text: str) -> str:
    """Return ``text`` as BLIP's training cleaned its captions. The model has never seen a full stop, for example.

    Lower case; each of ``.!"()*#:;~`` becomes a space; runs of white space become one space; the ends are trimmed.
    Source: the ``pre_caption`` function of the published BLIP code.
    """
    spaced = re.sub(r'[.!"()*#:;~]', " ", text.lower())
    return re.sub(r"\s{2,}", " ", spaced).rstrip("\n").strip(" ")
