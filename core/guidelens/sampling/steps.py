"""The spelling of sampling steps: 50, ``ddim25``, or numbers by section such as ``10+10+5``."""

from __future__ import annotations

import re

from ..errors import UsageError

_NUMBER = r"[1-9]\d{0,8}"
_RESPACING = re.compile(rf"ddim{_NUMBER}|{_NUMBER}(\+{_NUMBER})*", re.ASCII)


def split_steps(steps: int | str) -> tuple[int, str]:
    """Return the number of sampling steps, and how their timesteps are chosen.

    :param steps: a number, ``ddim25``, or numbers by section such as ``10+10+5``. See
        :func:`guidelens.diffusion.process.space_timesteps`.
    :returns: the number, and an empty text (spread evenly), ``ddim``, or the numbers by section.
    :raises UsageError: if it is none of these.
    """
    text = re.sub(r"\s", "", str(steps))
    if not _RESPACING.fullmatch(text):
        raise UsageError(
            f"{_quoted(steps)} sampling steps: give a number from 1 on, ddim and a number (ddim25), or numbers by "
            "section (10+10+5)",
            setting="steps",
        )
    if text.startswith("ddim"):
        return int(text.removeprefix("ddim")), "ddim"
    counts = [int(part) for part in text.split("+")]
    return sum(counts), text if len(counts) > 1 else ""


def _quoted(steps: int | str) -> str:
    return repr(steps) if len(str(steps)) <= 40 else f"{str(steps)[:40]!r}..."


def join_steps(number: int, respacing: str) -> int | str:
    """Join the two values of :func:`split_steps` into steps in canonical form."""
    return f"ddim{number}" if respacing == "ddim" else respacing or number


def read_steps(steps: int | str) -> int | str:
    """Return steps in canonical form.

    :raises ValueError: if they are invalid.
    """
    try:
        return join_steps(*split_steps(steps))
    except UsageError:
        raise ValueError(
            "must be a number from 1 on, ddim and a number (ddim25), or numbers by section (10+10+5), got "
            f"{_quoted(steps)}"
        ) from None
