"""Loggers: show the curves, scores and pictures of a run in TensorBoard or Weights & Biases.

Pass one to :func:`guidelens.compare` or :func:`guidelens.run_study` (``loggers=[TensorBoard("runs/tb")]``), or call it
with the results of an engine. :class:`~guidelens.runs.logs.RunLogger` is the contract for a logger of your own.
"""

from guidelens.runs.logs import LoggedPicture, LoggedRun, RunLogger

from .curves import CurveLogger, CurveWriter
from .spelling import read_logger
from .tensorboard import TensorBoard
from .weights_and_biases import WeightsAndBiases

__all__ = [
    "CurveLogger",
    "CurveWriter",
    "LoggedPicture",
    "LoggedRun",
    "RunLogger",
    "TensorBoard",
    "WeightsAndBiases",
    "read_logger",
]
