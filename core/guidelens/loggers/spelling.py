"""The spelling of loggers on the command line: ``tensorboard:DIR`` and ``wandb:PROJECT``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guidelens.errors import UsageError
from guidelens.plugins.spelling import suggestion

from .tensorboard import TensorBoard
from .weights_and_biases import DEFAULT_PROJECT, WeightsAndBiases

if TYPE_CHECKING:
    from .curves import CurveLogger

NAMES = ("tensorboard", "wandb")


def read_logger(text: str, out: str | Path) -> CurveLogger:
    """Return the logger of a spelling.

    :param text: ``tensorboard:DIR`` or ``wandb:PROJECT``. Without DIR, the directory is ``tensorboard`` in ``out``;
        without PROJECT, the project is ``guidelens``.
    :param out: the directory of the run.
    :raises UsageError: for another name.
    :raises GuidelensError: if the package is not installed.
    """
    name, _, where = (part.strip() for part in text.partition(":"))
    if name == "tensorboard":
        return TensorBoard(Path(where).expanduser() if where else Path(out) / "tensorboard")
    if name == "wandb":
        return WeightsAndBiases(where or DEFAULT_PROJECT)
    raise UsageError(
        f"unknown log {text!r}{suggestion(name, NAMES)}; write tensorboard:DIR or wandb:PROJECT",
        setting="log",
    )
