"""Check that guidelens works on a device, and measure its speed: one command, one JSON file, one table.

:func:`guidelens.gpu_check.run.check` runs the cases of :mod:`.cases` one by one and saves each result immediately, so
    an interrupted check can be continued. Importing this package loads no torch.
"""

from .settings import PARTS, CheckSettings

__all__ = ["PARTS", "CheckSettings"]
