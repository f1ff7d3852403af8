"""How long OpenMP's threads spin while they wait for work."""

from __future__ import annotations

import os

SPIN_COUNT = "1000"
"""The number of rounds that a waiting GNU OpenMP thread spins before it sleeps. The default of GNU OpenMP is 300,000
(some milliseconds). docs/performance.md has the measurements."""


def shorten_spinning() -> None:
    """Set a short spin for this process and those it starts, unless the user has set how threads wait.

    A guided step consists of thousands of short parallel loops. On an idle machine, threads that sleep at once slow it
    down. On a busy machine, threads that spin long take cores from other processes. GNU OpenMP, which PyTorch uses on
    Linux, reads the setting when it is loaded. So this function has an effect only before the first ``import torch``.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
