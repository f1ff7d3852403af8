"""How long OpenMP's threads spin while they wait for work."""

from __future__ import annotations

import os

SPIN_COUNT = "1000"
"""Rounds that a waiting thread of GNU OpenMP spins before it sleeps, where its own default is 300,000 (some
milliseconds). docs/performance.md has the measurements."""


def shorten_spinning() -> None:
    """Set a short spin for this process and those it starts, unless the user has set how threads wait.

    A guided step is thousands of short parallel loops. Threads that sleep at once slow it down on an idle machine.
    Threads that spin long take the cores from everyone on a busy one. GNU OpenMP, which PyTorch uses on Linux,
    reads the setting when it is loaded: this has an effect only before the first ``import torch``.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
