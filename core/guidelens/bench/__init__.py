"""Measures what a step costs: the networks, the engine around them, memory, and other ways to compute it.

:func:`guidelens.bench.run.bench` measures, :class:`guidelens.bench.report.BenchReport` holds the numbers. A generator
that knows other implementations of its own network offers them as :class:`Alternative`. Importing this package
loads no torch.
"""

from .alternatives import REFERENCE, Alternative

__all__ = ["REFERENCE", "Alternative"]
