"""Measure the cost of a step: networks, engine overhead, memory, and alternative implementations.

:func:`guidelens.bench.run.bench` measures, :class:`guidelens.bench.report.BenchReport` holds the numbers. A generator
    can offer other implementations of its network as :class:`Alternative`. Importing this package loads no torch.
"""

from .alternatives import REFERENCE, Alternative

__all__ = ["REFERENCE", "Alternative"]
