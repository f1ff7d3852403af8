"""Does guidelens work on this device, and how fast: one command, one JSON file, one table.

:func:`guidelens.gpu_check.run.check` runs the cases of :mod:`.cases` one by one and writes each result at once, so that
a check that is cut off goes on where it stopped. Importing this package loads no torch.
"""

from .settings import PARTS, CheckSettings

__all__ = ["PARTS", "CheckSettings"]
