"""The option ``--log``: show a run in TensorBoard or Weights & Biases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console

if TYPE_CHECKING:
    from guidelens.loggers import CurveLogger

LOG: dict[str, Any] = {
    "metavar": "LOG",
    "multiple": True,
    "help": "Also log curves, scores and pictures: tensorboard[:DIR] or wandb[:PROJECT]. Repeatable. "
    "See docs/loggers.md.  [default: none]",
}
"""What the declarations of ``--log`` share."""


def read_logs(texts: Sequence[str], out: Path) -> list[CurveLogger]:
    """Return the loggers of a command line.

    :param out: the directory of the run.
    :raises UsageError, GuidelensError: see :func:`guidelens.loggers.read_logger`.
    """
    if not texts:
        return []
    from guidelens.loggers import read_logger

    return [read_logger(text, out) for text in texts]


def print_logs(loggers: Sequence[CurveLogger]) -> None:
    """Print how to look at the logs."""
    for logger in loggers:
        if logger.view:
            console.out().print(f"log: {logger.view}", markup=False, soft_wrap=True)
